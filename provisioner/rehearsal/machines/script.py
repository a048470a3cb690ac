"""The script that a scripted machine plays, with durations in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    #: Pattern for the names of the jobs whose runs play this script.
    job: str = "*"
    pull: float = 0.0
    clone: float = 0.0
    setup: float = 0.0
    command: float = 1.0
    exit_code: int = 0
    #: Bytes of the command's output, which are written in one piece at its end.
    output: int = 100
    #: Seconds after the boot at which the machine falls silent but stays alive; None: never.
    silent_at: float | None = None
    #: Seconds after the boot at which the machine powers itself off, whatever it is doing; None: never.
    off_at: float | None = None
