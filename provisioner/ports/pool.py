"""The contract with whatever does several things at once."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Pool(Protocol):
    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R | Exception]:
        """`function` of each item, in the items' order; one's exception takes its place in the list.

        Returns when all are done. `BaseException`s that are no `Exception` are raised.
        """
