"""The contract for the log of events and errors, for people and programs.

`tell` and `complain` never raise and never wait for a reader: an unread journal must not stop a pass. `at` is in Unix
seconds. Fields are plain values; the id in the field `run` connects the lines of a run. Empty fields are omitted.
"""

from typing import Protocol


class Journal(Protocol):
    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        """Log an event."""

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        """Log an error."""

    def close(self) -> None:
        """Write the remaining lines; wait only briefly if the stream's reader does not read."""
