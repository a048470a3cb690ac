"""The contract for the log of events and errors, for people and programs.

The two methods that write never raise and never wait for a reader: an unread journal must not stop a pass. `at` is in
Unix seconds. Fields are plain values, above all `run`, whose id correlates lines; empty fields are omitted.
"""

from typing import Protocol


class Journal(Protocol):
    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        """Log an event."""

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        """Log an error."""

    def close(self) -> None:
        """Write the lines that are left, and wait only briefly for a reader that does not read."""
