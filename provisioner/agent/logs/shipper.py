"""Ship the spool to the bucket: often while a stream is new or followed by a client, less often later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from provisioner.agent.logs.spool import Spool, Stream
from provisioner.core.protocol.messages import Chunk
from provisioner.core.protocol.words import RECORDS

#: Seconds between two chunks. Each put costs money, so the interval depends on the number of puts: it is SOONEST for
#: the first YOUNG chunks, then it grows up to LATEST.
SOONEST, LATEST = 1.0, 10.0
YOUNG = 30
#: With more chunks than this the interval grows further, also while the log is followed. So a log of 30 days has at
#: most 161,000 chunks; the control plane keeps 200,000.
OLD = 5000

#: Seconds between two chunks of records: OFTEN usually, and BRISK_OFTEN to SELDOM on a machine that ends ten or more
#: commands a second. Such a machine ships its output together with its records, because each put costs money.
OFTEN, BRISK_OFTEN, SELDOM = 2.0, 8.0, 30.0


def pace(chunks: int, *, followed: bool) -> float:
    """Return the seconds to wait before the next chunk of a stream that has `chunks` chunks."""
    soon = SOONEST if followed else min(LATEST, max(SOONEST, chunks / YOUNG))
    return max(soon, chunks / OLD)


class Shipper(threading.Thread):
    def __init__(
        self,
        spool: Spool,
        put: Callable[[str, Chunk, bytes], None],
        followed: Callable[[], bool],
    ) -> None:
        """`put(stream, chunk, its bytes)` returns when the bucket has the bytes, however long it takes."""
        super().__init__(name="shipper", daemon=True)
        self._spool = spool
        self._put = put
        self._followed = followed
        self._last: dict[str, float] = {}
        #: Seconds between two chunks of records: from OFTEN to SELDOM, or 0 if no command runs.
        self.records_every = OFTEN
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.0 if any(map(self._presses, list(self._spool.streams.values()))) else 0.1):
            for stream in list(self._spool.streams.values()):
                if self._due(stream):
                    self._ship(stream)
        for stream in self._spool.streams.values():
            while stream.waiting:
                self._ship(stream)

    def finish(self) -> None:
        """Ship all waiting bytes, and return when the bucket has them; no thread may write any more."""
        self._over.set()
        self.join()

    def _due(self, stream: Stream) -> bool:
        if not stream.waiting:
            return False
        if stream.name == RECORDS:
            # The first record does not go alone.
            self._last.setdefault(RECORDS, time.time())
        return self._presses(stream) or time.time() - self._last.get(stream.name, 0.0) >= self.interval(stream)

    def interval(self, stream: Stream) -> float:
        """Return the seconds between two chunks of the stream."""
        followed = self._followed()
        every = min(self.records_every, SOONEST) if followed else self.records_every
        if stream.name == RECORDS:
            return max(every, stream.chunks / OLD)
        interval = pace(stream.chunks, followed=followed)
        # Each chunk of records ships the output before it, so that output is due only if no command ends.
        return max(interval, every + OFTEN) if stream.name == "output" and every > OFTEN else interval

    def _presses(self, stream: Stream) -> bool:
        return stream.waiting >= min(self._spool.pressing, stream.longest or self._spool.pressing)

    def _ship(self, stream: Stream) -> None:
        segment = stream.next()
        if segment is None:
            return
        if stream.name == RECORDS:
            # The bucket must have the output that the records in the segment point to.
            output = self._spool.stream("output")
            end = output.produced
            while output.shipped < end:
                self._ship(output)
        data = segment.path.read_bytes()
        chunk = segment.chunk(data)
        self._put(stream.name, chunk, data)
        stream.acknowledged(segment, chunk, data)
        self._last[stream.name] = time.time()
