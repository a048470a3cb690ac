"""The contract with whoever keeps what happened, for people and for programs.

Neither method ever raises, nor waits for a reader: a journal that nobody reads stops no pass. `at` is
in Unix seconds. Fields are plain values, `run` above all: its id is what correlates; empty ones are left out.
"""

from typing import Protocol


class Journal(Protocol):
    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        """Something happened."""

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        """Something went wrong."""

    def close(self) -> None:
        """Write what was told; a reader that is away is waited for a moment only."""
