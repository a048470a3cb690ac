"""The contract for runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.cost.receipt import Receipt
from provisioner.core.run.records import Assignment, Event, KnownMachine, Node, Run
from provisioner.core.run.states import State
from provisioner.ports.store import NEWEST, RunFilter


@dataclass(frozen=True)
class Status:
    """A run and its story."""

    run: Run
    nodes: tuple[Node, ...]
    machines: tuple[KnownMachine, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class LiveRun:
    """A run that is not done, and its cost until now; None if a price is unknown."""

    run: Run
    #: The node and machine of its present attempt, if it has one.
    held: Assignment | None
    dollars_at_least: float | None
    dollars_at_most: float | None


@dataclass(frozen=True)
class Queue:
    """The runs that wait for the same cause."""

    cause: str
    runs: int
    next_try_at: float


@dataclass(frozen=True)
class Overview:
    """Everything that is not over: all of it counted, some runs shown."""

    at: float
    states: Mapping[State, int]
    #: Number of machines that may be billed now, the dollars an hour of those with a known price, and the number of
    #: machines with an unknown price.
    machines: int
    dollars_an_hour: float
    unpriced: int
    queues: tuple[Queue, ...]
    #: Runs with a silent machine (the longest silent first), then runs with a spot notice, then other runs with a
    #: machine, then waiting runs; the oldest first.
    runs: tuple[LiveRun, ...]
    #: Number of runs that are not among `runs`.
    more: int
    #: Why the control plane decides nothing now, such as a wrong clock; otherwise "".
    hindrance: str = ""


class Runs(Protocol):
    """A run's name is its id or an unambiguous beginning of it.

    Every method raises NotFound for an unknown name, and Invalid for an ambiguous one. Runs that the caller may not
    touch do not exist for the caller: they are in no list, sum or count.
    """

    def start(self, job: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        """Trigger a run of the job. `env` and `command` replace parts of its recipe.

        The same key within 24 h returns the same run; with other inputs, raises Conflict.
        """

    def find(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """Return the runs, the newest first. `which.job` is a job's name, or the name of a deleted job."""

    def get(self, name: str) -> Run:
        """Return the run."""

    def status(self, name: str) -> Status:
        """Return the run with its nodes, machines and story."""

    def overview(self, limit: int) -> Overview:
        """Return everything that is not over, with at most `limit` runs shown."""

    def stop(self, name: str) -> Run:
        """Request the end of a run; no error if it has ended."""

    def receipt(self, name: str) -> Receipt:
        """Return time and cost, as far as they are known."""
