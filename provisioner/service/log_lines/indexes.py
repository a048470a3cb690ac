"""The indexes of streams: made when a stream is first read or archived, extended while it is written, kept in memory.

The index of a long archived stream is stored in the archive beside the log, so that each process need not read the log.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from provisioner.core.errors import CloudError, Invalid
from provisioner.core.logs.archive import KeptStream, Manifest, lines_key, manifest_key
from provisioner.core.logs.chunks import Read
from provisioner.core.logs.lines import Block, Index, blocks
from provisioner.core.protocol.codec import decode
from provisioner.core.run.machines.messages import CHUNKS_MOST
from provisioner.core.run.records import Node
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.pool import Pool
from provisioner.service.log_lines.chunks import chunks, key
from provisioner.service.log_lines.content import PIECE, Content, found_all

#: Least seconds between two listings of a stream that is written, for all its readers together.
LOOK_EVERY = 0.2
#: Seconds for which one call extends an index, and bytes that it reads at most.
EXTENDING, EXTENDED_MOST = 1.0, 1 << 30
#: Number of reads at the same time: 32 MiB in memory.
AT_ONCE = 8
#: An index is stored if its stream has as many bytes or chunks. A shorter stream is read again in a few reads.
STORED_BYTES, STORED_CHUNKS = 1 << 20, 64
#: Maximum number of bytes of a stored index: 40 bytes for each of CHUNKS_MOST chunks and 16 for each mark, compressed.
STORED_MOST = 32 << 20
#: Maximum number of bytes of all indexes in memory, and of indexes. That of a log of 1 GB takes 0.3 MB.
MEMORY, INDEXES = 64 << 20, 1000
#: Maximum number of threads that read whole streams at the same time, and seconds for which others wait.
HEAVY, HEAVY_WAIT = 2, 1.0


@dataclass
class _Entry:
    """The index of one stream; it is replaced, never changed. Whether it was made from the archive."""

    index: Index = field(default_factory=Index)
    archived: bool = False
    #: The number of chunks of a mailbox that were listed, and the offset in the last one's key.
    listed: int = 0
    last: int = 0
    #: Whether the index is in the bucket, or too short for that.
    stored: bool = False
    listed_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        return self.archived and self.index.covered == self.index.size


class Indexes:
    """The indexes of all streams that this process reads. Methods may be called concurrently."""

    def __init__(self, bucket: Bucket, pool: Pool, clock: Clock) -> None:
        self._bucket = bucket
        self._pool = pool
        self._clock = clock
        #: The stream that was used last comes last.
        self._entries: OrderedDict[tuple[str, int, int, str], _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._heavy = threading.Semaphore(HEAVY)

    def content(self, node: Node, stream: str) -> Content:
        """Return the stream with its index, which may not be complete yet: then call again. Raises Moved."""
        entry = self._entry(node, stream)
        # While another thread extends the index, use it as it is.
        if not (entry.over and entry.stored) and entry.lock.acquire(timeout=EXTENDING):
            try:
                self._refresh(entry, node, stream)
            finally:
                entry.lock.release()
            self._shrink()
        return self._content(entry, node, stream)

    @contextmanager
    def heavy(self) -> Iterator[bool]:
        """Context for reading a whole stream; False if HEAVY other threads still do so after HEAVY_WAIT seconds."""
        free = self._heavy.acquire(timeout=HEAVY_WAIT)
        try:
            yield free
        finally:
            if free:
                self._heavy.release()

    def forget(self, node: Node, stream: str) -> None:
        """Drop the index of a stream whose chunks were replaced."""
        with self._lock:
            self._entries.pop(_id(node, stream), None)

    def _content(self, entry: _Entry, node: Node, stream: str) -> Content:
        return Content(self._bucket, self._pool, node, stream, entry.index, entry.over and node.archived_at is not None)

    def _entry(self, node: Node, stream: str) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(_id(node, stream), _Entry())
            self._entries.move_to_end(_id(node, stream))
            return entry

    def _shrink(self) -> None:
        with self._lock:
            weight = sum(entry.index.weight for entry in self._entries.values())
            while (weight > MEMORY and len(self._entries) > 1) or len(self._entries) > INDEXES:
                weight -= self._entries.popitem(last=False)[1].index.weight

    def _refresh(self, entry: _Entry, node: Node, stream: str) -> None:
        if node.archived_at is None:
            self._list(entry, node, stream)
        elif not entry.archived:
            self._open(entry, node, stream)
        left = entry.index.size - entry.index.covered
        if 0 < left <= AT_ONCE * PIECE:
            self._extend(entry, node, stream)
        elif left:
            with self.heavy() as free:
                if free:
                    self._extend(entry, node, stream)
        if entry.over and not entry.stored:
            self._store(entry, node, stream)

    def _list(self, entry: _Entry, node: Node, stream: str) -> None:
        """Add the chunks that were written since the last listing."""
        now = self._clock.elapsed()
        if entry.archived or 0 <= now - entry.listed_at < LOOK_EVERY:
            return
        index = entry.index.copy()
        after = key(node, stream, entry.last) if entry.listed else ""
        for offset, _, size in islice(chunks(self._bucket, node, stream, after), CHUNKS_MOST - entry.listed):
            index.chunks.add(offset, size)
            entry.last, entry.listed = offset, entry.listed + 1
        entry.index, entry.listed_at = index, now

    def _open(self, entry: _Entry, node: Node, stream: str) -> None:
        """Take the index of an archived stream from the archive, or begin it."""
        stored = self._bucket.get(lines_key(*_id(node, stream)), length=STORED_MOST)
        if stored is not None:
            try:
                entry.index, entry.archived, entry.stored = Index.decode(stored), True, True
                return
            except Invalid:
                # Another version has written it: make it anew.
                pass
        data = self._bucket.get(manifest_key(node.run, node.attempt, node.rank))
        kept = decode(Manifest, data).streams.get(stream) if data else None
        entry.index, entry.archived = Index.of(kept or KeptStream(0, ()), entry.index), True

    def _extend(self, entry: _Entry, node: Node, stream: str) -> None:
        """Read on for at most EXTENDING seconds."""
        until, most = self._clock.elapsed() + EXTENDING, entry.index.covered + EXTENDED_MOST
        index = entry.index.copy()
        while index.covered < min(index.size, most):
            reads = index.unread(AT_ONCE, PIECE)
            scan = partial(_scan, Content(self._bucket, self._pool, node, stream, index, over=False))
            for found in found_all(self._pool.map(scan, reads)):
                for block in found:
                    index.cover(block)
            entry.index = index
            if self._clock.elapsed() >= until:
                return
            index = index.copy()

    def _store(self, entry: _Entry, node: Node, stream: str) -> None:
        if entry.index.size >= STORED_BYTES or len(entry.index.chunks) >= STORED_CHUNKS:
            try:
                self._bucket.put(lines_key(*_id(node, stream)), entry.index.encode())
            except CloudError:
                # A reader needs the lines, not the stored index; another process makes it.
                pass
        entry.stored = True


def _scan(content: Content, read: Read) -> list[Block]:
    return blocks(content.get(read))


def _id(node: Node, stream: str) -> tuple[str, int, int, str]:
    return node.run, node.attempt, node.rank, stream
