"""Progress of a long command: its steps with their times, and a machine's output between them."""

from collections.abc import Callable

from provisioner.faces.cli.terminal import streams


class Progress:
    """Lines on standard error; a step's line begins with the seconds since the command began."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._began = now, now()
        self._rest = b""

    def step(self, text: str) -> None:
        self._flush()
        streams.say(f"{self._now() - self._began:7.1f} s  {text}")

    def output(self, data: bytes) -> None:
        """Print complete lines; of a line that was rewritten (a progress bar), print the last version."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._print(line)

    def _flush(self) -> None:
        if self._rest:
            self._print(self._rest)
            self._rest = b""

    def _print(self, line: bytes) -> None:
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        streams.say(f"           | {text}")
