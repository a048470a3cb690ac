"""The contract with time."""

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def elapsed(self) -> float:
        """Seconds since a fixed moment, sleep of the computer included. It never jumps, however the clock is set."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when somebody called `wake`."""

    def wake(self) -> None:
        """End the current wait, or else the next one; from any thread."""
