"""What reads the bucket or asks the cloud waits in threads of its own: a slow one delays no start."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

P = ParamSpec("P")
T = TypeVar("T")

#: Reads at once, of all callers; the others wait in their order.
READERS = 10


class Readers:
    """So many threads and no more."""

    def __init__(self, most: int = READERS) -> None:
        self._limiter = CapacityLimiter(most)

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)

    async def each(self, items: Iterator[T]) -> AsyncIterator[T]:
        """The items, a thread for each only while it is awaited."""
        while found := await self.read(tuple, islice(items, 1)):
            yield found[0]
