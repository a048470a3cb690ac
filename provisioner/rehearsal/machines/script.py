"""The script that a scripted machine follows, with durations in seconds."""

from dataclasses import dataclass

from provisioner.core.protocol.words import Outcome, Step


@dataclass(frozen=True)
class CommandScript:
    """What the commands of a list do on a scripted machine."""

    #: Duration of a command; by its index, a command takes up to `spread` times as long more.
    seconds: float = 1.0
    spread: float = 0.0
    #: Indices of the commands that exit with 1; with `all_fail`, every command does.
    fails: frozenset[int] = frozenset()
    all_fail: bool = False
    #: Indices of the commands that make the machine power off while they run.
    panics: frozenset[int] = frozenset()
    #: Bytes of each command's output.
    output: int = 0
    #: Maximum number of bytes of records that are put as one object.
    chunk: int = 1 << 20


@dataclass(frozen=True)
class Script:
    #: Pattern for job names; machines of these jobs follow this script.
    job: str = "*"
    #: Duration of each step; a step of None is skipped.
    pull: float | None = None
    clone: float | None = None
    setup: float | None = None
    command: float = 1.0
    exit_code: int = 0
    #: What the commands of a list do; `command`, `exit_code`, `output` and `lines` are for a single command.
    commands: CommandScript = CommandScript()
    #: Bytes of the command's output, which are written in one piece at its end.
    output: int = 100
    #: Whether the command writes a line with each heartbeat, too.
    lines: bool = False
    #: The step that fails, or None; and the outcome of that failure.
    fails: Step | None = None
    fails_as: Outcome = Outcome.LOST
    #: The command's own exit code if a spot notice ends it.
    exit_on_notice: int = 143
    #: Whether the machine ignores its orders.
    deaf: bool = False
    #: Whether the machine works, but its reports never arrive.
    mute: bool = False
    #: Seconds by which the machine's clock is ahead.
    skew: float = 0.0
    #: Seconds after the boot at which the machine stops acting but stays alive; None: never.
    silent_at: float | None = None
    #: Seconds after the boot at which the machine powers itself off, in any step; None: never.
    off_at: float | None = None
