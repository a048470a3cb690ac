"""Read the bytes of a stream by their positions, as its index has them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from provisioner.core.errors import Transient
from provisioner.core.logs.chunks import Read
from provisioner.core.logs.lines import Index
from provisioner.core.run.machines.messages import CHUNK_MOST
from provisioner.core.run.records import Node
from provisioner.ports.bucket import Bucket
from provisioner.ports.pool import Pool
from provisioner.service.log_lines.chunks import key

T = TypeVar("T")

#: Maximum number of bytes of one read: of the chunks as agents make them, one read gets one.
PIECE = CHUNK_MOST


class Moved(Transient):
    """The bucket no longer has a chunk under its key: its log was archived, or the machine has replaced the chunk."""


@dataclass(frozen=True)
class Content:
    """The bytes of one stream that were in the bucket when its index was made."""

    bucket: Bucket
    pool: Pool
    node: Node
    stream: str
    index: Index
    #: Whether the index is final: it has every byte of an archived stream.
    over: bool

    def get(self, read: Read) -> bytes:
        """Return the bytes of one read; raises Moved."""
        data = self.bucket.get(key(self.node, self.stream, read.chunk), start=read.start, length=read.length)
        if data is None or len(data) != read.length:
            run, found = self.node.run[:12], "missing" if data is None else "shorter than before"
            raise Moved(f"run {run}: the chunk of {self.stream} at byte {read.chunk} is {found}; try again")
        return data

    def between(self, start: int, end: int) -> bytes:
        """Return the bytes from one position to another."""
        return b"".join(found_all(self.pool.map(self.get, self.index.chunks.reads(start, end, PIECE))))

    def segments(self, numbers: Iterable[int]) -> list[bytes]:
        """Return the bytes of each segment of the index."""
        return found_all(self.pool.map(lambda number: self.between(*self.index.segment(number)), numbers))


def found_all(results: Sequence[T | Exception]) -> list[T]:
    """Return the results of a pool; raises the first exception among them."""
    found = []
    for each in results:
        if isinstance(each, Exception):
            raise each
        found.append(each)
    return found
