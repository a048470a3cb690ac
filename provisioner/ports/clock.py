"""The contract with time."""

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def elapsed(self) -> float:
        """Return the seconds since a fixed moment, including sleep of the computer; independent of the set time."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when somebody called `wake`."""

    def wake(self) -> None:
        """End the current wait, or else the next one; from any thread."""
