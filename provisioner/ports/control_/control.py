"""The use cases, as every face calls them; the service does them here, a remote one over HTTP."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from provisioner.core.cloud.machines import Machine
from provisioner.core.cloud.offers import InstanceType, Price
from provisioner.core.cost.receipt import Receipt
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Assignment, Event, KnownMachine, Node, Run
from provisioner.core.run.states import State
from provisioner.ports.connection import Connection
from provisioner.ports.store import NEWEST, RunFilter


@dataclass(frozen=True)
class Status:
    """A run and its story."""

    run: Run
    nodes: tuple[Node, ...]
    machines: tuple[KnownMachine, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class LogPiece:
    """A contiguous piece of one stream of one attempt."""

    attempt: int
    stream: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class LogGap:
    """Bytes that are nowhere: from `offset` on, at least so many, or None when nobody can say."""

    attempt: int
    stream: str
    offset: int
    at_least: int | None


@dataclass(frozen=True)
class LogPage:
    """What of a run's log is new since a place in it."""

    run: Run
    #: Each with the place behind it, from where another look goes on.
    pieces: tuple[tuple[LogPiece | LogGap, str], ...]
    place: str
    #: The run has ended, its log is kept, and nothing comes behind this.
    over: bool


@dataclass(frozen=True)
class LiveRun:
    """A run that is not done, and what it has cost until now; None where a price is unknown."""

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
    """What is not over: all of it counted, some of it shown."""

    at: float
    states: Mapping[State, int]
    #: Machines that may be billed now, what those of a known price cost an hour, and how many have none.
    machines: int
    dollars_an_hour: float
    unpriced: int
    queues: tuple[Queue, ...]
    #: Silent machines first (the longest silent of them), then those under notice of interruption, then other
    #: runs that have a machine, then those that wait; the oldest first.
    runs: tuple[LiveRun, ...]
    #: How many runs are not among `runs`.
    more: int
    #: Why the control plane decides nothing now, such as a wrong clock; else empty.
    hindrance: str = ""


@dataclass(frozen=True)
class Size:
    """An instance type that a recipe may name, and what an hour of it costs; None where that is not known."""

    type: InstanceType
    on_demand: Price | None
    #: The cheapest of the installation's zones.
    spot: Price | None


@dataclass(frozen=True)
class ServerStatus:
    """Status of the control plane; see `Control.now`, `served`, `unfinished`, `foreign` and `hindrance`."""

    at: float
    served: bool
    unfinished: bool
    foreign: tuple[Machine, ...]
    hindrance: str = ""


@dataclass(frozen=True)
class Scheduled:
    """A job's schedule, its next times, and the run of its last one, if that started any."""

    job: Job
    upcoming: tuple[float, ...]
    run: Run | None


class Control(Protocol):
    """Names: a job is `name`, `owner/name` or its id, a run its id or an unambiguous beginning of it.

    Every method raises `NotFound` for a name that means nothing and `Invalid` for one that means
    several things. What a caller may not touch does not exist: it is `NotFound`, and in no list, sum or count.
    """

    def apply(self, text: str, source: str) -> Job:
        """Store the recipe as its owner's job of that name, or as its next revision.

        Raises Invalid, and Forbidden where it names an owner that the caller may not act for.
        """

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, by owner and name."""

    def job(self, name: str) -> Job:
        """The job as it is stored."""

    def delete(self, name: str) -> Job:
        """Forget the job, not its runs; raises Conflict while a run of it is not done."""

    def start(self, name: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        """Trigger a run. The same key within 24 h gives the same run; with other inputs, Conflict."""

    def schedule(self, name: str, schedule: Mapping[str, str] | None) -> Job:
        """Let the job start by itself: `schedule` and, beside it, the recipe's other fields about it; None: no more.

        It stands until a recipe with a schedule is applied. Raises Invalid as for a recipe.
        """

    def scheduled(self, name: str, count: int) -> Scheduled:
        """The job's schedule with so many times to come; raises NotFound where it has none."""

    def schedules(self) -> tuple[Scheduled, ...]:
        """All of them, by owner and name, each with its next time."""

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        """The newest runs first; `which.job` is a job's name as everywhere, or that of one that is deleted."""

    def run(self, name: str) -> Run:
        """The run."""

    def status(self, name: str) -> Status:
        """The run with its nodes, machines and story."""

    def alive(self, limit: int) -> Overview:
        """What is not over, with at most `limit` runs shown."""

    def stop(self, name: str) -> Run:
        """Wish for the end of a run; no error when it has ended already."""

    def receipt(self, name: str) -> Receipt:
        """Time and money as far as they are known."""

    def log(
        self, name: str, streams: Sequence[str], attempt: int | None = None, tail: int | None = None
    ) -> Iterator[LogPiece | LogGap]:
        """The log's bytes that are there now, each once and in order.

        `tail` begins so many lines before each stream's end, in the latest attempt if none is named.
        """

    def look(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        place: str = "",
        limit: int = 1 << 20,
        *,
        following: bool = False,
    ) -> LogPage:
        """What is new since `place`, at most `limit` bytes of it; empty begins as `log` does.

        At the end of what is there it tells the gaps, each time; with `following`, at the end of all alone. Its machine
        then ships every second for a while. Raises Invalid for what is no place.
        """

    def follow(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        looked: Callable[[Sequence[str]], None] = lambda _: None,
        direct: bool = False,
    ) -> Iterator[LogPiece | LogGap]:
        """The same and what comes, as it is written, until the run's end.

        Acts where no daemon does. `looked` is called after each look, with our own errors as text. With `direct`
        the machine itself is listened to; why it cannot be is one of these errors.
        """

    def enter(self, name: str, *, host: bool = False) -> Connection:
        """The way into the job's container, or with `host` onto the machine as its root.

        Raises what hinders: Invalid (the settings), NotFound (no machine), Transient (not yet), Misconfigured (it is
        not the machine that it should be, or does not let us in), Failed (it cannot be reached).
        """

    def sizes(self) -> tuple[Size, ...]:
        """The region's types with an NVIDIA GPU, by name, as known for a day at most."""

    def now(self) -> float:
        """The clock that runs are timed by, in Unix seconds."""

    def foreign(self) -> tuple[Machine, ...]:
        """Machines of the installation whose launch this store never made, as the last pass, anybody's, saw them.

        Admins see them; to others there are none.
        """

    def hindrance(self) -> str:
        """Return why the control plane decides nothing now, such as a wrong clock, or ""."""

    def wake(self) -> None:
        """End the present rest of `drive`; from a signal handler too."""

    def impatient(self) -> AbstractContextManager[None]:
        """Inside, a server that is away is not asked again: it is Transient at once, and told to nobody."""

    def close(self) -> None:
        """Let go of everything held."""

    def unfinished(self) -> bool:
        """Whether a run of the caller's, or to an admin any machine or launch, is not over yet."""

    def served(self) -> bool:
        """Whether a daemon is acting, so that nobody else needs to."""

    # Only who opened the installation itself may do what follows; who came in by a token is told Forbidden.

    def drive(
        self,
        until: Callable[[], bool],
        told: Callable[[Sequence[str]], None] = lambda _: None,
        *,
        schedules: bool = False,
    ) -> None:
        """Act, or stand by while another does, until `until()`; each pass's errors are told, as text.

        With `schedules` it starts what these make due, standing by or not.
        """

    def ring(self, until: Callable[[], bool]) -> None:
        """Start what schedules make due, until `until()`, and do nothing else."""

    def step(self) -> Sequence[str]:
        """One pass, if nobody else acts; what went wrong in it, as text."""

    def takeover(self) -> Sequence[str]:
        """Make the bucket this store's; the mailboxes that were archived, or are still to be."""
