"""The contract for running several calls at the same time."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R | Exception]:
        """Return the result of `function` for each item, in order; the exception takes the place of a missing result.

        Returns when all calls have ended. A `BaseException` that is no `Exception` is raised.
        """
