"""Views of the commands of a list, and of a list's progress."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from provisioner.core.views.codec import Moment


class CommandState(StrEnum):
    """The state of a command of a list; the last five are final."""

    #: To be handed out: it has not been handed out yet, or its machine was lost.
    WAITING = "waiting"
    #: Handed out to a machine, and not begun as far as is known.
    ASSIGNED = "assigned"
    #: In the machine's last report it was running.
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    NOT_RUN = "not_run"


#: The states that are not final.
OPEN = frozenset({CommandState.WAITING, CommandState.ASSIGNED, CommandState.RUNNING})


@dataclass(frozen=True)
class Progress:
    """How many commands of a run's list are in which state."""

    total: int
    open: Annotated[int, "Commands without a final state."]
    succeeded: int
    failed: int
    lost: Annotated[int, "Commands whose machine was lost, and that do not run again."]
    cancelled: int
    not_run: Annotated[int, "Commands that never began, or did not begin again after their machine was lost."]
    repeated: Annotated[int, "Number of times that a command was to run again after it had failed."] = 0
    # Only the status of a run and the overview have the fields below.
    running: Annotated[int | None, "Commands that ran in the machines' last reports; null if not computed."] = None
    rate: Annotated[float | None, "Commands that end in a second; null if unknown or not computed."] = None
    eta: Annotated[Moment | None, "When the list will have ended at this rate; null if unknown."] = None
    slots: Annotated[int | None, "Commands that its live machines run at once; null if not computed."] = None
    machines: Annotated[int | None, "Number of its live machines; null if not computed."] = None
    command_seconds: Annotated[float | None, "How long a command took; null if unknown or not computed."] = None


@dataclass(frozen=True)
class Estimate:
    """What a list needs, computed without starting it. Does not include the start or the loss of machines."""

    commands: int
    bytes: Annotated[int, "Of all commands."]
    first: Annotated[str, "The first command."]
    last: Annotated[str, "The last command."]
    machines: Annotated[int, "Maximum number of its machines."]
    slots: Annotated[int, "Number of commands that these machines run at once."]
    hourly_dollars_least: Annotated[float | None, "An hour of these machines, each of the cheapest offer."]
    hourly_dollars_most: Annotated[float | None, "An hour of these machines, each of the dearest offer."]
    measured: Annotated[str | None, "The run of the same job in which `command_seconds` was measured."]
    command_seconds: Annotated[float | None, "How long a command takes; null if no run of the job has measured it."]
    seconds: Annotated[float | None, "Of the whole list; null if `command_seconds` is."]
    dollars_least: Annotated[float | None, "Of the whole list; null if a price or `seconds` is unknown."]
    dollars_most: float | None


@dataclass(frozen=True)
class Command:
    """One command of a list."""

    index: Annotated[int, "From 0."]
    state: CommandState
    generation: Annotated[int, "The number of its try: how often it was to run; 0 before the first time."]
    exit_code: Annotated[int | None, "Null until it has ended, and if it ended without a record."]
    why: Annotated[
        str | None,
        "Why it was ended: `limit`, `oom`, `xid`, `stop` (the run) or `cancel` (it alone); or why it did not run: "
        "`max_failures`. Null if it ended by itself.",
    ]
    began_at: Moment | None
    seconds: Annotated[float | None, "How long it ran."]
    attempt: Annotated[int | None, "The attempt of the machine that ran it."]
    rank: Annotated[int | None, "The rank of the machine that ran it."]
    output_bytes: Annotated[int | None, "Null until it has ended."]
    text: Annotated[str, "The command itself; at most its first 4,096 characters in a page."]
    failures: Annotated[int, "How often it failed and was to run again because of `list.retries`."] = 0
    deaths: Annotated[int, "How many machines died without notice while they may have been running it."] = 0


@dataclass(frozen=True)
class CommandPage:
    """A page of a list's commands, in order."""

    commands: tuple[Command, ...]
    next_key: Annotated[
        str | None, "Pass it as `cursor` for the next page, which may be empty and not the last; null if there is none."
    ]
