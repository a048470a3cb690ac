"""Views of the unfinished runs, and of the state of the control plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment
from provisioner.core.views.run import Machine, Run


@dataclass(frozen=True)
class Queue:
    """Runs that wait for the same reason: their number, and the earliest time of their next tries."""

    cause: str
    runs: int
    next_try_at: Moment
    text: Annotated[str, "What the operator must do, if the runs wait for the operator; else empty."] = ""


@dataclass(frozen=True)
class Live:
    """A run that is not done, with its current machine and its cost so far."""

    run: Run
    machine: Machine | None
    step: str | None
    heard_at: Moment | None
    silent_since: Moment | None
    notice_at: Moment | None
    bytes_produced: Annotated[Mapping[str, int], "Bytes by stream."]
    dollars_at_least: float | None
    dollars_at_most: float | None


@dataclass(frozen=True)
class Alive:
    """A machine that is not terminated, what it works for, and its cost so far."""

    machine: Machine
    bound_at: Annotated[Moment, "When its launch was answered."]
    lifetime_ends_at: Annotated[Moment | None, "When it ends at the latest; null if its tag is unknown."]
    run: Annotated[str | None, "Null if it works for no unfinished run; only an admin sees such machines."]
    job: str | None
    owner: str | None
    attempt: Annotated[int | None, "The latest one that it works for, or has worked for."]
    rank: int | None
    state: Annotated[State | None, "The state of the run."]
    waits: Annotated[bool, "Whether it waits for the run's next attempt."]
    step: str | None
    heard_at: Moment | None
    silent_since: Moment | None
    notice_at: Annotated[Moment | None, "When EC2 will interrupt the spot machine."]
    dollars_at_least: Annotated[float | None, "Cost so far, without its disk; null if the price is unknown."]
    dollars_at_most: float | None
    disk_dollars_at_most: Annotated[float | None, "Cost of its disk so far; null if the price is unknown."]


@dataclass(frozen=True)
class Machines:
    """The machines of the caller's unfinished runs; for an admin, all machines of the installation."""

    at: Moment
    machines: Annotated[
        tuple[Alive, ...], "In order: silent, interruption notice, other; each group with the oldest machine first."
    ]
    more: Annotated[int, "Machines that are not shown."]


@dataclass(frozen=True)
class Budget:
    """What the machines of the installation cost on the present day, and the cap: the setting max_dollars_a_day."""

    date: Annotated[str, "The day, in UTC."]
    spent: Annotated[float, "US dollars of machines, without disks, until now."]
    committed: Annotated[float, "US dollars that the machines may still cost on this day, if they live that long."]
    most: Annotated[float, "The cap, in US dollars a day. Launches beyond it wait."]


@dataclass(frozen=True)
class Top:
    """The numbers of the caller's unfinished runs and of their machines, and the most urgent of these runs."""

    at: Moment
    states: Annotated[Mapping[str, int], "Runs by state."]
    machines: int
    dollars_an_hour: Annotated[float, "Total price of the machines whose price is known."]
    unpriced: Annotated[int, "Number of machines whose price is unknown."]
    waiting: tuple[Queue, ...]
    foreign: Annotated[tuple[str, ...], "Ids of machines whose launch this store did not make."]
    hindrance: Annotated[
        str,
        "Why the control plane can do nothing now, such as a wrong clock or expired credentials; empty if it works.",
    ]
    more: Annotated[int, "Runs that are not shown."]
    runs: Annotated[
        tuple[Live, ...],
        "In order: silent machine, interruption notice, other machine, no machine; each group oldest first.",
    ]
    # Older servers do not send this field.
    budget: Annotated[Budget | None, "Null if the installation has no cap."] = None


@dataclass(frozen=True)
class Server:
    """The state of the control plane."""

    at: Annotated[Moment, "The time of the server's clock, which is used for all times of runs."]
    served: Annotated[bool, "Whether a daemon makes passes: this server, or another one on the same store."]
    unfinished: Annotated[bool, "Whether a run of the caller is unfinished, or, for an admin, any machine or launch."]
    foreign: Annotated[tuple[str, ...], "For an admin: ids of machines whose launch this store did not make."]
    hindrance: Annotated[
        str,
        "Why the control plane can do nothing now, such as a wrong clock or expired credentials; empty if it works.",
    ]
    owners: Annotated[tuple[str, ...], "The caller's; the first is the default for job names without an owner."] = ()
