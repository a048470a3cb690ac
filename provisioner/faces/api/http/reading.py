"""Run reads of the bucket and requests to the cloud in their own threads, so that slow ones delay no start of a run.

The threads are shared fairly: of several waiting callers, the one with the fewest reads in progress is served next,
and one caller never has more than half of the threads.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar, cast

import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter

P = ParamSpec("P")
T = TypeVar("T")

#: Maximum number of reads at the same time, of all callers; further reads wait in order.
READERS = 10
_END = object()


def in_thread(items: AsyncIterator[T]) -> Iterator[T]:
    """Yield the items in a thread of `Readers`; the event loop produces them."""
    while (found := anyio.from_thread.run(anext, items, _END)) is not _END:
        yield cast(T, found)


class Readers:
    """A fixed number of threads, shared between callers; used from one event loop only."""

    def __init__(self, most: int = READERS) -> None:
        self._limiter = CapacityLimiter(most)
        self._free = most
        #: Maximum number of reads of one caller at the same time.
        self.each = max(1, most // 2)
        self._reading = Counter[str]()
        #: Waiting reads by caller; the caller that was served last comes last.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def read(self, caller: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread as soon as the caller gets one, and return its result."""
        await self._enter(caller)
        try:
            # A cancelled read keeps its thread until the function returns.
            return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)
        finally:
            self._leave(caller)

    async def each_of(self, caller: str, items: Iterator[T]) -> AsyncIterator[T]:
        """Yield the items; each is read in a thread, which is free again while the item is used."""
        while found := await self.read(caller, tuple, islice(items, 1)):
            yield found[0]

    async def _enter(self, caller: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(caller)
            raise

    def _leave(self, caller: str) -> None:
        self._free += 1
        self._reading[caller] -= 1
        if not self._reading[caller]:
            del self._reading[caller]
        self._serve()

    def _serve(self) -> None:
        """Assign the free threads to waiting callers."""
        while self._free and (ready := [each for each in self._waiting if self._reading[each] < self.each]):
            caller = min(ready, key=self._reading.__getitem__)
            turns = self._waiting.pop(caller)
            turn = turns.popleft()
            if turns:
                self._waiting[caller] = turns
            if not turn.cancelled():
                self._free -= 1
                self._reading[caller] += 1
                turn.set_result(None)
