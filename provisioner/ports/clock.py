"""The contract for the clock."""

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Return the time in Unix seconds."""

    def elapsed(self) -> float:
        """Return the seconds since a fixed time, including the computer's sleep; setting the clock has no effect."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier if `wake` is called."""

    def wake(self) -> None:
        """End the current wait, or the next one if no thread waits; may be called from any thread."""
