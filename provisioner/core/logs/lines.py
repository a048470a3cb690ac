"""The index of a stream's lines: where they begin, about every 64 KiB. A line ends after a newline and at a gap."""

import json
import sys
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, pairwise

from provisioner.core.errors import Invalid
from provisioner.core.logs.archive import KeptStream
from provisioner.core.logs.chunks import Chunks, Gap, Read

#: A mark is set after this many bytes, or after this many chunks: a job that writes one byte a second makes a chunk of
#: each byte. A segment, the part between two marks, has less than twice as many bytes.
BLOCK, CHUNKS = 64 << 10, 64
#: With more marks, every second one is removed: memory for 8 MiB of them is enough for a log of any size.
MARKS_MOST = 1 << 19
#: Version of the encoded index. An index of another version is made anew.
VERSION = 1


@dataclass(frozen=True)
class Block:
    """What a part of a chunk adds to the index: its bytes, its newlines, and whether its last byte is a newline."""

    length: int
    newlines: int
    ended: bool


def blocks(data: bytes) -> list[Block]:
    """Return the blocks of the bytes of one read."""
    ends = [*range(BLOCK, len(data), BLOCK), len(data)]
    return [
        Block(end - start, data.count(b"\n", start, end), data[end - 1] == 10)
        for start, end in pairwise([0, *ends])
        if end > start
    ]


@dataclass
class Index:
    """The chunks of a stream, and the marks of the part that was read so far. Copy it before you extend it."""

    chunks: Chunks = field(default_factory=Chunks)
    #: By mark: its position, and the number of lines that begin there or before.
    marks: "array[int]" = field(default_factory=lambda: array("q", [0]))
    counts: "array[int]" = field(default_factory=lambda: array("q", [1]))
    #: Blocks between two marks, and the number of chunks since the last one.
    step: int = 1
    since: int = 0
    #: Number of bytes that were read, the number of lines that begin in them or at their end, and whether one begins
    #: at their end.
    covered: int = 0
    count: int = 1
    ended: bool = True
    #: Number of bytes missing at the end; None if it is unknown.
    missing: int | None = 0

    @classmethod
    def of(cls, kept: KeptStream, known: "Index | None" = None) -> "Index":
        """Return the index of an archived stream. What `known` has read of the same chunks stays read."""
        chunks = Chunks()
        for offset, length in kept.chunks:
            chunks.add(offset, length)
        missing: int | None = 0
        if kept.missing_from is not None:
            at_least = kept.missing_at_least
            missing = None if at_least is None else max(0, kept.missing_from + at_least - chunks.end)
        if known and known.chunks.begin(chunks):
            return replace(known.copy(), chunks=chunks, missing=missing)
        return cls(chunks, missing=missing)

    def copy(self) -> "Index":
        return replace(self, chunks=self.chunks.copy(), marks=self.marks[:], counts=self.counts[:])

    @property
    def size(self) -> int:
        """The number of bytes of all chunks."""
        return self.chunks.size

    @property
    def lines(self) -> int:
        """The number of lines in the bytes that were read; the last one may have no newline yet."""
        return self.count - self.ended

    @property
    def weight(self) -> int:
        """The number of bytes that the index takes in memory, about."""
        return 8 * (3 * len(self.chunks) + 2 * len(self.marks)) + 1000

    def cover(self, block: Block) -> None:
        """Continue the index by the next block, which ends in the same chunk as it begins."""
        if self.chunks.begins_at(self.covered):
            # The bytes before a gap are a line, even without a newline.
            self.count += not self.ended and bool(self.chunks.breaks(self.covered, self.covered + 1))
            self.since += 1
        if self.covered - self.marks[-1] >= self.step * BLOCK or self.since > CHUNKS:
            self.marks.append(self.covered)
            self.counts.append(self.count)
            self.since = 1
            if len(self.marks) > MARKS_MOST:
                self.marks, self.counts, self.step = self.marks[::2], self.counts[::2], 2 * self.step
        self.covered += block.length
        self.count += block.newlines
        self.ended = block.ended

    def unread(self, pieces: int, most: int) -> list[Read]:
        """Return the next parts to read, at most `pieces` of at most `most` bytes."""
        return list(islice(self.chunks.reads(self.covered, self.size, most), pieces))

    def gaps(self, start: int, end: int) -> list[Gap]:
        """Return the gaps before the positions from `start` to `end`, without `end`, and a gap at the end, if read."""
        found = self.chunks.gaps(start, end)
        if end > self.size == self.covered and self.missing != 0:
            found.append(Gap(self.size, self.chunks.end, self.missing))
        return found

    def segment_of(self, position: int) -> int:
        """Return the number of the segment with a position."""
        return bisect_right(self.marks, position) - 1

    def segment(self, number: int) -> tuple[int, int]:
        """Return the positions at which a segment begins and ends."""
        return self.marks[number], self.marks[number + 1] if number + 1 < len(self.marks) else self.covered

    def segments_of(self, first: int, count: int) -> list[int]:
        """Return the segments in which `count` lines from line `first` on begin, and the line after them."""
        number, last = self._with(first), self._with(min(first + count, self.lines + 1))
        found = []
        while number <= last:
            # Of the segments with the same count, a line begins in the last one.
            number = bisect_right(self.counts, self.counts[number]) - 1
            found.append(number)
            number += 1
        return found

    def _with(self, line: int) -> int:
        """Return the segment whose bytes show where a line begins; line 1 begins before them all."""
        return max(0, bisect_left(self.counts, line) - 1)

    def starts(self, number: int, data: bytes) -> list[int]:
        """Return the positions after a segment's first byte at which lines begin; `data` are the segment's bytes."""
        begin, end = self.segment(number)
        found, at = [], data.find(b"\n")
        while at >= 0:
            found.append(begin + at + 1)
            at = data.find(b"\n", at + 1)
        if breaks := self.chunks.breaks(begin + 1, end + 1):
            found = sorted({*found, *breaks})
        return [each for each in found if each < self.covered]

    def line_at(self, position: int, base: int, data: bytes) -> int:
        """Return the number of the line at a position; `data` begins at position `base`, at or before its segment."""
        number = self.segment_of(position)
        begin = self.marks[number]
        breaks = [at for at in self.chunks.breaks(begin + 1, position + 1) if data[at - base - 1] != 10]
        return self.counts[number] + data.count(b"\n", begin - base, position - base) + len(breaks)

    def encode(self) -> bytes:
        """Return the index of a stream that was read to its end as bytes."""
        head = {
            "version": VERSION,
            "chunks": len(self.chunks),
            "marks": len(self.marks),
            "size": self.size,
            "count": self.count,
            "ended": self.ended,
            "missing": self.missing,
        }
        columns = [self.chunks.keys, self.chunks.offsets, self.chunks.positions, self.marks, self.counts]
        return json.dumps(head).encode() + b"\n" + zlib.compress(b"".join(map(_written, columns)))

    @classmethod
    def decode(cls, data: bytes) -> "Index":
        """Return the index of bytes that `encode` made; raises Invalid for other bytes and other versions."""
        first, _, rest = data.partition(b"\n")
        try:
            head = json.loads(first)
            if head["version"] != VERSION:
                raise ValueError(f"version {head['version']!r:.20}, expected {VERSION}")
            ends = [8 * end for end in accumulate([*[head["chunks"]] * 3, *[head["marks"]] * 2], initial=0)]
            body = zlib.decompressobj().decompress(rest, ends[-1] + 1)
            if len(body) != ends[-1]:
                raise ValueError(f"{len(body)} bytes, expected {ends[-1]}")
            keys, offsets, positions, marks, counts = (_read(body[start:end]) for start, end in pairwise(ends))
            return cls(
                Chunks(keys, offsets, positions, head["size"]),
                marks,
                counts,
                covered=head["size"],
                count=head["count"],
                ended=head["ended"],
                missing=head["missing"],
            )
        except (ValueError, TypeError, KeyError, zlib.error, OverflowError) as error:
            raise Invalid(f"not an index of lines: {error}") from error


def _written(column: Sequence[int]) -> bytes:
    """Return the differences of a column's numbers, which need little space when they are compressed."""
    found = array("q", (later - earlier for earlier, later in pairwise([0, *column])))
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def _read(data: bytes) -> "array[int]":
    found = array("q", data)
    if sys.byteorder == "big":
        found.byteswap()
    return array("q", accumulate(found))
