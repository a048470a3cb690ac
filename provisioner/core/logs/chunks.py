"""The chunks of a stream by the position of their bytes.

An *offset* counts the bytes that were written. A *position* counts only the bytes that are in the bucket, without gaps:
a machine can write a chunk at any offset, but the number of positions is the number of bytes it has stored.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Read:
    """A part of a chunk: the offset in its key, the first byte, and the number of bytes."""

    chunk: int
    start: int
    length: int


@dataclass(frozen=True)
class Gap:
    """Missing bytes of a stream before a position, from `offset` on; `length` is None if their number is unknown."""

    position: int
    offset: int
    length: int | None


@dataclass
class Chunks:
    """The chunks of a stream, in order."""

    #: By chunk: the offset in its key, the offset of its first byte that no earlier chunk has, and its position.
    keys: "array[int]" = field(default_factory=lambda: array("q"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    positions: "array[int]" = field(default_factory=lambda: array("q"))
    #: Number of bytes of all chunks.
    size: int = 0

    def copy(self) -> "Chunks":
        return Chunks(self.keys[:], self.offsets[:], self.positions[:], self.size)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offsets[-1] + self.size - self.positions[-1] if self.keys else 0

    def begin(self, other: "Chunks") -> bool:
        """Return whether the other chunks begin with these."""
        count = len(self)
        size = other.positions[count] if count < len(other) else other.size
        return (self.keys, self.positions, self.size) == (other.keys[:count], other.positions[:count], size)

    def add(self, offset: int, length: int) -> None:
        """Add a chunk after all others. Bytes that an earlier chunk has are ignored."""
        first = max(offset, self.end)
        if offset + length > first:
            self.keys.append(offset)
            self.offsets.append(first)
            self.positions.append(self.size)
            self.size += offset + length - first

    def at(self, position: int) -> int:
        """Return the index of the chunk with a position; -1 if there are no chunks."""
        return bisect_right(self.positions, position) - 1

    def begins_at(self, position: int) -> bool:
        """Return whether a chunk begins at a position."""
        chunk = self.at(position)
        return chunk >= 0 and self.positions[chunk] == position

    def reads(self, start: int, end: int, most: int) -> Iterator[Read]:
        """Yield the parts of chunks with the bytes from one position to another, each of at most `most` bytes."""
        chunk = self.at(start)
        while start < end:
            until = self.end_of(chunk)
            skip = self.offsets[chunk] - self.keys[chunk] + start - self.positions[chunk]
            length = min(until, end, start + most) - start
            yield Read(self.keys[chunk], skip, length)
            start += length
            chunk += start == until

    def offset(self, position: int) -> int:
        """Return the offset of a position; of the end, the offset after the last byte."""
        chunk = self.at(position)
        return self.offsets[chunk] + position - self.positions[chunk] if chunk >= 0 else position

    def position(self, offset: int) -> int:
        """Return the position of an offset; in a gap, that of the next byte that is not missing."""
        chunk = bisect_right(self.offsets, offset) - 1
        if chunk < 0:
            return 0
        return min(self.positions[chunk] + offset - self.offsets[chunk], self.end_of(chunk))

    def gaps(self, start: int, end: int) -> list[Gap]:
        """Return the gaps before the positions from `start` to `end`, without `end`."""
        chunks = range(bisect_left(self.positions, start), bisect_left(self.positions, end))
        found = [(chunk, self._end_before(chunk)) for chunk in chunks]
        return [
            Gap(self.positions[chunk], before, self.offsets[chunk] - before)
            for chunk, before in found
            if self.offsets[chunk] > before
        ]

    def breaks(self, start: int, end: int) -> list[int]:
        """Return the positions from `start` to `end`, without `end`, before which bytes are missing."""
        return [gap.position for gap in self.gaps(start, end)]

    def end_of(self, chunk: int) -> int:
        """Return the position after the last byte of a chunk."""
        return self.positions[chunk + 1] if chunk + 1 < len(self) else self.size

    def _end_before(self, chunk: int) -> int:
        """Return the offset after the last byte before a chunk."""
        return self.offsets[chunk - 1] + self.positions[chunk] - self.positions[chunk - 1] if chunk else 0
