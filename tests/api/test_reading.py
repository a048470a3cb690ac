"""The threads that read logs, and their fair use by callers."""

import asyncio
import threading
from collections import Counter

import pytest

from provisioner.faces.api.http.reading import Readers


class Slow:
    """Reads that block until the test releases them, with counts of readers by caller."""

    def __init__(self) -> None:
        self.going = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.reading, self.most, self.order = Counter[str](), Counter[str](), list[str]()

    def read(self, caller: str) -> str:
        with self.lock:
            self.reading[caller] += 1
            self.most[caller] = max(self.most[caller], self.reading[caller])
            self.order.append(caller)
        self.going.acquire()
        with self.lock:
            self.reading[caller] -= 1
        return caller


async def begun(slow: Slow, count: int) -> None:
    while len(slow.order) < count:
        await asyncio.sleep(0)


def test_caller_with_many_reads_does_not_delay_another() -> None:
    """A caller with many reads leaves a thread free, so the next caller's read begins at once."""

    async def main() -> None:
        readers, slow = Readers(4), Slow()
        many = [asyncio.ensure_future(readers.read("greedy", slow.read, "greedy")) for _ in range(20)]
        await begun(slow, 2)
        other = asyncio.ensure_future(readers.read("quiet", slow.read, "quiet"))
        await begun(slow, 3)
        assert slow.order == ["greedy", "greedy", "quiet"]
        for _ in range(21):
            slow.going.release()
        assert await asyncio.gather(other, *many) == ["quiet", *["greedy"] * 20]
        assert slow.most["greedy"] == 2

    asyncio.run(main())


def test_a_caller_with_fewer_reads_is_next() -> None:
    """If all threads are busy, the next read is from the caller with the fewest reads, not from the first in line."""

    async def main() -> None:
        readers, slow = Readers(4), Slow()
        reads = [asyncio.ensure_future(readers.read(name, slow.read, name)) for name in "aaabbb"]
        await begun(slow, 4)
        reads.append(asyncio.ensure_future(readers.read("c", slow.read, "c")))
        await asyncio.sleep(0)
        slow.going.release()
        await begun(slow, 5)
        assert slow.order[4] == "c"
        for _ in range(6):
            slow.going.release()
        await asyncio.gather(*reads)

    asyncio.run(main())


def test_a_read_that_is_given_up_takes_no_thread() -> None:
    """The read may be cancelled while it waits for a thread or just after it got one."""

    async def main() -> None:
        readers, slow = Readers(2), Slow()
        first = asyncio.ensure_future(readers.read("a", slow.read, "a"))
        await begun(slow, 1)
        gone = [asyncio.ensure_future(readers.read("a", slow.read, "a")) for _ in range(3)]
        await asyncio.sleep(0)
        for task in gone[:2]:
            task.cancel()
        await asyncio.sleep(0)
        slow.going.release()
        await first
        gone[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone[2]
        slow.going.release()
        last = [asyncio.ensure_future(readers.read(name, slow.read, name)) for name in "ab"]
        for _ in range(4):
            slow.going.release()
        assert await asyncio.gather(*last) == ["a", "b"]

    asyncio.run(main())
