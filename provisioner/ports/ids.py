"""The contract for random ids and secrets."""

from typing import Protocol


class Ids(Protocol):
    def new(self) -> str:
        """Return a unique id: 32 lower-case hexadecimal digits."""

    def secret(self) -> str:
        """Return a secret with 256 random bits: 43 characters from letters, digits, `-` and `_`."""
