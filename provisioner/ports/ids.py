"""The contract with chance."""

from typing import Protocol


class Ids(Protocol):
    def new(self) -> str:
        """A name never given before: 32 lower-case hexadecimal digits."""

    def secret(self) -> str:
        """What nobody can guess: 43 characters of letters, digits, `-` and `_`, with 256 bits of chance."""
