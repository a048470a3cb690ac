"""The indexes of streams: made when a stream is first read or archived, extended while it is written, kept in memory.

The index of a long archived stream is stored in the archive beside the log, so that each process need not read the log.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from provisioner.service.log_lines.content import Content, found_all

#: Least seconds between two listings of a stream that is written, for all its readers together.
LOOK_EVERY = 0.2
#: Seconds for which one call extends an index, bytes of a read, and the number of reads at the same time.
EXTENDING, PIECE, AT_ONCE = 1.0, 8 << 20, 4
#: An index is stored if its stream has as many bytes or chunks. A shorter stream is read again in a few reads.
STORED_BYTES, STORED_CHUNKS = 1 << 20, 64
#: Maximum number of bytes of a stored index: 40 bytes for each of CHUNKS_MOST chunks and 16 for each mark, compressed.
STORED_MOST = 32 << 20
#: Maximum number of bytes of all indexes in memory, and of indexes. That of a log of 1 GB takes 0.3 MB.
MEMORY, INDEXES = 64 << 20, 1000
#: Maximum number of threads that read a large part of a stream at the same time.
HEAVY = 2


@dataclass(frozen=True)
class _State:
    """The index of one stream. Threads replace it as a whole: if two extend it, the work of one is lost."""

    index: Index = field(default_factory=Index)
    #: Whether the index has the chunks of the archive.
    archived: bool = False
    #: Whether the index is in the bucket, or too short for that.
    stored: bool = False
    #: The number of chunks of a mailbox that were listed, the offset in the last one's key, and when.
    listed: int = 0
    last: int = 0
    listed_at: float = float("-inf")

    @property
    def over(self) -> bool:
        return self.archived and self.index.covered == self.index.size


class Indexes:
    """The indexes of all streams that this process reads. Methods may be called concurrently."""

    def __init__(self, bucket: Bucket, pool: Pool, clock: Clock, extending: float = EXTENDING, piece: int = 0) -> None:
        """One call extends an index for `extending` seconds; each read has at most `piece` bytes, or PIECE."""
        self._bucket = bucket
        self._pool = pool
        self._clock = clock
        self._extending, self._piece = extending, piece or PIECE
        #: The stream that was used last comes last.
        self._states: OrderedDict[tuple[str, int, int, str], _State] = OrderedDict()
        #: One item for each thread that may begin to read a large part of a stream.
        self._free = deque(range(HEAVY))

    def content(self, node: Node, stream: str) -> Content:
        """Return the stream with its index, which may not be complete yet: then call again. Raises Moved."""
        state = self._states.get(_id(node, stream), _State())
        if not (state.over and state.stored):
            if node.archived_at is None:
                state = self._listed(state, node, stream)
            elif not state.archived:
                state = self._opened(state, node, stream)
            state = self._extended(state, node, stream)
            if state.over and not state.stored:
                self._store(state, node, stream)
                state = replace(state, stored=True)
        self._keep(_id(node, stream), state)
        over = state.over and node.archived_at is not None
        return Content(self._bucket, self._pool, node, stream, state.index, over)

    def forget(self, node: Node, stream: str) -> None:
        """Drop the index of a stream whose chunks were moved or replaced."""
        self._states.pop(_id(node, stream), None)

    @contextmanager
    def heavy(self) -> Iterator[bool]:
        """Context for reading a large part of a stream; False if HEAVY other threads do so."""
        # A deque's methods are atomic, and a thread that finds none free does not wait.
        try:
            turn = self._free.pop()
        except IndexError:
            yield False
            return
        try:
            yield True
        finally:
            self._free.append(turn)

    def _keep(self, id: tuple[str, int, int, str], state: _State) -> None:
        self._states.pop(id, None)
        self._states[id] = state
        weight = sum(each.index.weight for each in list(self._states.values()))
        while len(self._states) > 1 and (weight > MEMORY or len(self._states) > INDEXES):
            weight -= self._states.popitem(last=False)[1].index.weight

    def _listed(self, state: _State, node: Node, stream: str) -> _State:
        """Add the chunks that were written since the last listing."""
        now = self._clock.elapsed()
        if state.archived or 0 <= now - state.listed_at < LOOK_EVERY:
            return state
        index, last, listed = state.index.copy(), state.last, state.listed
        after = key(node, stream, last) if listed else ""
        for offset, _, size in islice(chunks(self._bucket, node, stream, after), CHUNKS_MOST - listed):
            index.chunks.add(offset, size)
            last, listed = offset, listed + 1
        return replace(state, index=index, last=last, listed=listed, listed_at=now)

    def _opened(self, state: _State, node: Node, stream: str) -> _State:
        """Take the index of an archived stream from the archive, or begin it."""
        stored = self._bucket.get(lines_key(*_id(node, stream)), length=STORED_MOST)
        if stored is not None:
            try:
                return _State(Index.decode(stored), archived=True, stored=True)
            except Invalid:
                # Another version has written it: make it anew.
                pass
        data = self._bucket.get(manifest_key(node.run, node.attempt, node.rank))
        kept = decode(Manifest, data).streams.get(stream) if data else None
        return _State(Index.of(kept or KeptStream(0, ()), state.index), archived=True)

    def _extended(self, state: _State, node: Node, stream: str) -> _State:
        """Read on for a while. Only few threads may do so for a long part."""
        left = state.index.size - state.index.covered
        if left <= AT_ONCE * self._piece:
            return self._read(state, node, stream) if left else state
        with self.heavy() as free:
            return self._read(state, node, stream) if free else state

    def _read(self, state: _State, node: Node, stream: str) -> _State:
        until, index = self._clock.elapsed() + self._extending, state.index.copy()
        scan = partial(_scan, Content(self._bucket, self._pool, node, stream, index, over=False))
        while index.covered < index.size:
            for found in found_all(self._pool.map(scan, index.unread(AT_ONCE, self._piece))):
                for block in found:
                    index.cover(block)
            if self._clock.elapsed() >= until:
                break
        return replace(state, index=index)

    def _store(self, state: _State, node: Node, stream: str) -> None:
        if is_stored(state.index.size, len(state.index.chunks)):
            try:
                self._bucket.put(lines_key(*_id(node, stream)), state.index.encode())
            except CloudError:
                # A reader needs the lines, not the stored index; another process will make it.
                pass


def is_stored(size: int, chunks: int) -> bool:
    """Return whether the index of an archived stream with so many bytes and chunks is stored."""
    return size >= STORED_BYTES or chunks >= STORED_CHUNKS


def _scan(content: Content, read: Read) -> list[Block]:
    return blocks(content.get(read))


def _id(node: Node, stream: str) -> tuple[str, int, int, str]:
    return node.run, node.attempt, node.rank, stream
