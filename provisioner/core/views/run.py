"""Views of a run, its attempts and its story."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment
from provisioner.core.views.receipt import Price


@dataclass(frozen=True)
class Tried:
    """One answer that a waiting run got."""

    what: str
    code: str
    at: Moment


@dataclass(frozen=True)
class Waiting:
    """Why a run waits."""

    cause: str
    text: str
    next_try_at: Moment
    tried: tuple[Tried, ...]


@dataclass(frozen=True)
class Stop:
    """A request to end the run, by a user or a limit."""

    outcome: Outcome
    reason: str
    at: Moment


@dataclass(frozen=True)
class Run:
    """One trigger of a job."""

    id: str
    job: str
    job_id: str
    job_revision: int
    owner: str
    idempotency_key: str | None
    state: State
    attempt: Annotated[int, "Of the latest that got a machine; 0 before the first."]
    retries_used: int
    outcome: Annotated[Outcome | None, "Null until it has ended."]
    exit_code: Annotated[int | None, "The process's own; null where none ended, and where it was interrupted."]
    process_exit_code: Annotated[int | None, "The process's own whatever the outcome; null where none ended."]
    reason: Annotated[str | None, "The outcome in one line."]
    stop: Stop | None
    waiting: Waiting | None
    next_try_at: Annotated[Moment | None, "When a queued run is tried next."]
    created_at: Moment
    ended_at: Moment | None
    certain_at: Annotated[Moment | None, "Since then the end of its machines is certain; `wait` returns."]
    done_at: Annotated[Moment | None, "Since then no machine of it lives."]


@dataclass(frozen=True)
class Runs:
    """A page of runs, the newest first."""

    runs: tuple[Run, ...]
    next_key: Annotated[str | None, "As `cursor` it gives the next page; null: there is none."]


@dataclass(frozen=True)
class Attempt:
    """One try of a run on a machine of its own."""

    attempt: int
    rank: int
    instance_id: str
    bound_at: Annotated[Moment, "When it got its machine."]
    step: str | None
    bytes_produced: Annotated[Mapping[str, int], "By stream."]
    bytes_shipped: Annotated[Mapping[str, int], "By stream."]
    heard_at: Moment | None
    report_due_at: Annotated[Moment | None, "Without a first report until then, the attempt is lost."]
    silent_since: Annotated[Moment | None, "The last report, if the machine is silent."]
    notice_at: Annotated[Moment | None, "When the cloud said that it takes the machine away."]
    rebalance_at: Annotated[Moment | None, "When the cloud recommended to move elsewhere."]
    stop_sent_at: Annotated[Moment | None, "When the machine was told to stop; SIGKILL follows after `stop_grace`."]
    stop_grace: Annotated[float, "Seconds from SIGTERM to SIGKILL."]
    stop_ends_at: Annotated[Moment | None, "When the machine is ended, if it does not answer to a stop."]
    outcome: Outcome | None
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None
    ended_at: Annotated[Moment | None, "When it ended, by the verdict."]
    ended_in: Annotated[Step | None, "The step in which it ended."]
    archived_at: Moment | None


@dataclass(frozen=True)
class Machine:
    """A machine as the cloud describes it."""

    id: str
    type: str
    zone: str
    market: Market
    state: MachineState
    launch_time: Moment | None
    impaired_at: Annotated[Moment | None, "Since then its status checks fail, while it is silent."]
    ending_at: Moment | None
    ended_at: Moment | None
    end_wanted_for: str | None
    end_wanted_at: Moment | None
    end_asked_at: Annotated[Moment | None, "When its termination was last requested."]
    price: Price | None

    @property
    def ending(self) -> bool:
        """Whether it is no longer billed, and cannot come back."""
        return self.state in ENDING


@dataclass(frozen=True)
class Event:
    """A line of a run's story."""

    at: Moment
    text: str


@dataclass(frozen=True)
class Status:
    """A run and its story."""

    run: Run
    attempts: tuple[Attempt, ...]
    machines: tuple[Machine, ...]
    events: tuple[Event, ...]
