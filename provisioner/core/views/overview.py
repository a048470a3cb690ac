"""Views of everything that is not over, and of the control plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.views.codec import Moment
from provisioner.core.views.run import Machine, Run


@dataclass(frozen=True)
class Queue:
    """The runs that wait for the same cause."""

    cause: str
    runs: int
    next_try_at: Moment


@dataclass(frozen=True)
class Live:
    """A run that is not done."""

    run: Run
    machine: Machine | None
    step: str | None
    heard_at: Moment | None
    silent_since: Moment | None
    notice_at: Moment | None
    bytes_produced: Annotated[Mapping[str, int], "By stream."]
    dollars_at_least: float | None
    dollars_at_most: float | None


@dataclass(frozen=True)
class Top:
    """What is not over."""

    at: Moment
    states: Annotated[Mapping[str, int], "Runs by state."]
    machines: int
    dollars_an_hour: Annotated[float, "Of machines whose price is known."]
    unpriced: Annotated[int, "Machines whose price is not."]
    waiting: tuple[Queue, ...]
    foreign: Annotated[tuple[str, ...], "Machines of launches that this store never made."]
    hindrance: Annotated[str, "Why nothing is decided now, for example because the clock is wrong; else empty."]
    more: Annotated[int, "Runs that are not shown."]
    runs: Annotated[
        tuple[Live, ...],
        "First those with a silent machine, then under notice, then with a machine, then the rest; oldest first.",
    ]


@dataclass(frozen=True)
class Server:
    """What the control plane says of itself."""

    at: Annotated[Moment, "Its clock, by which runs are timed."]
    served: Annotated[bool, "A daemon acts: the server itself, or another one on the same store."]
    unfinished: Annotated[bool, "A run of the caller's, or to an admin any machine or launch, is not over yet."]
    foreign: Annotated[tuple[str, ...], "To an admin: machines of launches that this store never made."]
    hindrance: Annotated[str, "Why nothing is decided now, for example because the clock is wrong; else empty."]
