"""The contract with chance."""

from typing import Protocol


class Ids(Protocol):
    def new(self) -> str:
        """A name never given before: 32 lower-case hexadecimal digits."""
