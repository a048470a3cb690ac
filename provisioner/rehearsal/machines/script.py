"""What a scripted machine plays, in seconds and bytes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    #: A pattern over the names of jobs whose runs play it.
    job: str = "*"
    pull: float = 0.0
    clone: float = 0.0
    setup: float = 0.0
    command: float = 1.0
    exit_code: int = 0
    #: Bytes of the command's output, in one piece at its end.
    output: int = 100
    #: So long after its boot it says nothing any more, and lives on.
    silent_at: float | None = None
    #: So long after its boot it powers itself off, whatever it was doing.
    off_at: float | None = None
