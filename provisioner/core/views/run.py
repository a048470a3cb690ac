"""Views of a run, its attempts and its story."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.states import State
from provisioner.core.views.codec import Moment
from provisioner.core.views.commands import Progress
from provisioner.core.views.receipt import Price


@dataclass(frozen=True)
class Tried:
    """One refusal that a waiting run got from the cloud."""

    what: str
    code: str
    at: Moment


@dataclass(frozen=True)
class Waiting:
    """Why a run waits, and the time of its next try."""

    cause: str
    text: str
    next_try_at: Moment
    tried: tuple[Tried, ...]

    def tries(self) -> tuple[tuple[Tried, int], ...]:
        """Return the last of each different try, with the number of these tries; the latest one last."""
        found: dict[tuple[str, str], tuple[Tried, int]] = {}
        for each in self.tried:
            _, count = found.pop((each.what, each.code), (each, 0))
            found[each.what, each.code] = each, count + 1
        return tuple(found.values())


@dataclass(frozen=True)
class Stop:
    """A request to end the run, by a user, by the job's schedule or by `limits.cost`."""

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
    attempt: Annotated[int, "Number of the latest attempt that got a machine; 0 if none did."]
    retries_used: int
    outcome: Annotated[Outcome | None, "Null until it has ended."]
    exit_code: Annotated[int | None, "Exit code of the process; null if no process ended, or if interrupted."]
    process_exit_code: Annotated[int | None, "Exit code of the process for every outcome; null if no process ended."]
    reason: Annotated[str | None, "The outcome in one line."]
    stop: Stop | None
    waiting: Waiting | None
    next_try_at: Annotated[Moment | None, "When a queued run is tried next."]
    created_at: Moment
    ended_at: Moment | None
    certain_at: Annotated[Moment | None, "When the end of all its machines was certain: then `wait` returns."]
    done_at: Annotated[Moment | None, "When the run was done: all its machines are terminated."]
    # Older servers do not send these fields.
    scale: Annotated[int, "Number of machines of each attempt."] = 1
    last_attempt: Annotated[
        str | None, "While the run waits for its next attempt: how the latest one ended, in one line."
    ] = None
    market: Annotated[Market | None, "Of the latest attempt's machine; null before the first one."] = None
    instance_type: Annotated[str | None, "Of the latest attempt's machine; null before the first one."] = None
    dollars_at_least: Annotated[float | None, "Of all machines, without disks; null until done, or unknown."] = None
    dollars_at_most: Annotated[float | None, "Of all machines, without disks; null until done, or unknown."] = None
    commands: Annotated[Progress | None, "Of a list; null for a run with one command."] = None


@dataclass(frozen=True)
class Runs:
    """A page of runs, the newest first."""

    runs: tuple[Run, ...]
    next_key: Annotated[str | None, "Pass it as `cursor` for the next page; null if there is none."]


@dataclass(frozen=True)
class Attempt:
    """One try of a run on a machine of its own."""

    attempt: int
    rank: int
    instance_id: str
    bound_at: Annotated[Moment, "When it got its machine."]
    step: str | None
    bytes_produced: Annotated[Mapping[str, int], "Bytes by stream."]
    bytes_shipped: Annotated[Mapping[str, int], "Bytes by stream."]
    heard_at: Moment | None
    report_due_at: Annotated[Moment | None, "If the first report does not arrive by then, the attempt is lost."]
    silent_since: Annotated[Moment | None, "Time of the last report, if the machine is silent."]
    notice_at: Annotated[Moment | None, "When EC2 will interrupt the spot machine."]
    rebalance_at: Annotated[Moment | None, "When EC2 sent a rebalance recommendation."]
    stop_sent_at: Annotated[Moment | None, "When the order to stop was sent; SIGKILL follows after `stop_grace`."]
    stop_grace: Annotated[float, "Seconds from SIGTERM to SIGKILL."]
    stop_ends_at: Annotated[Moment | None, "When the machine is terminated if it does not react to the order to stop."]
    outcome: Outcome | None
    exit_code: int | None
    process_exit_code: int | None
    reason: str | None
    ended_at: Annotated[Moment | None, "When it ended, by the verdict."]
    ended_in: Annotated[Step | None, "The step in which it ended; `setup` also if it waited for the other ranks."]
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
    impaired_at: Annotated[Moment | None, "When its status checks were first seen to fail while it was silent."]
    ending_at: Moment | None
    ended_at: Moment | None
    end_wanted_for: str | None
    end_wanted_at: Moment | None
    end_asked_at: Annotated[Moment | None, "When its termination was last requested."]
    price: Price | None
    # Older servers do not send this field.
    reservation: Annotated[str | None, "The capacity reservation that it was launched into."] = None

    @property
    def ending(self) -> bool:
        """Whether the machine is no longer billed, and cannot run again."""
        return self.state in ENDING


@dataclass(frozen=True)
class Event:
    """One event of a run; all events of a run, in order, are its story."""

    at: Moment
    text: str
    # Older servers do not send this field.
    who: Annotated[
        str | None, "Who caused it, as in audit records; null for an event of the control plane or of a machine."
    ] = None


@dataclass(frozen=True)
class RunRecipe:
    """What a run executes: its job's recipe as it was when the run was triggered, with the inputs of its start."""

    run: str
    job_id: str
    job_revision: int
    recipe: Annotated[Mapping[str, Any], "The recipe with all defaults, in a form that `apply` accepts."]


@dataclass(frozen=True)
class Status:
    """A run with its attempts, machines and story."""

    run: Run
    attempts: tuple[Attempt, ...]
    machines: tuple[Machine, ...]
    events: tuple[Event, ...]
