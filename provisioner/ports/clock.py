"""The contract with time."""

from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds."""

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when somebody called `wake`."""

    def wake(self) -> None:
        """End the current wait, or else the next one; from any thread."""
