"""Keep log bytes on this machine's disk until the bucket has them; no byte is ever dropped.

A stream is a sequence of segment files, named by their offset. A segment becomes one chunk, so the bytes
of a chunk are fixed before the first try to ship it, and stay the same across tries and restarts.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from provisioner.core.protocol.command_lines import Extent
from provisioner.core.protocol.messages import Chunk, StreamEnd

#: A segment of this many bytes is sealed, and shipped at once.
SEGMENT = 8 << 20


@dataclass(frozen=True)
class Segment:
    """A piece of a stream, in a file of its own; once it is sealed, its bytes do not change."""

    offset: int
    path: Path

    def chunk(self, data: bytes) -> Chunk:
        """Return the chunk that the segment becomes; `data` are its bytes."""
        return Chunk(self.offset, len(data), hashlib.sha256(data).hexdigest())


class Stream:
    """The bytes of one stream. Any thread may write; one thread ships."""

    def __init__(self, spool: Spool, name: str, longest: int = 0) -> None:
        """No chunk has more than `longest` bytes, unless one write has; 0: chunks have about SEGMENT bytes."""
        self.name = name
        self.longest = longest
        self._spool = spool
        self._folder = spool.folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal = spool.folder / f"{name}.chunks"
        self._chunks = list(self._read_journal())
        self._checksum = hashlib.sha256()
        #: False after a restart: the checksum of bytes that an earlier process shipped cannot be computed again.
        self._checksum_known = not self._chunks
        self.shipped = sum(chunk.length for chunk in self._chunks)
        self._sealed = self._left_over()
        if self._sealed:
            self.shipped = self._sealed[0].offset
        self.produced = self.shipped + sum(segment.path.stat().st_size for segment in self._sealed)
        #: Bytes that could not be written because the disk was full: of the stream, and of the journal.
        self._held = b""
        self._notes = b""
        #: The segment that grows, and its open file; None if there is none.
        self._growing: Segment | None = None
        self._file: FileIO | None = None

    @property
    def waiting(self) -> int:
        return self.produced - self.shipped

    @property
    def chunks(self) -> int:
        return len(self._chunks)

    def write(self, data: bytes, *, wait: bool = True) -> list[Extent]:
        """Append the bytes; with `wait`, block while the spool has no room. Return where they are, in order.

        Without `wait`, bytes that cannot be written to a full disk stay in memory until the next call.
        """
        extents: list[Extent] = []
        with self._spool.changed:
            if self.longest and self.produced - self._begun() + len(data) > self.longest:
                self._seal()
            rest = memoryview(self._held + data)
            self._held = b""
            while rest:
                piece = rest[: self._spool.pressing]
                while wait and self._spool.full(len(piece)):
                    self._spool.changed.wait()
                chunk, at = self._begun(), self.produced
                taken = self._append(piece)
                rest = rest[taken:]
                if taken:
                    add(extents, (chunk, at - chunk, taken))
                if not taken and not wait:
                    self._held = bytes(rest)
                    return extents
                if not taken:
                    # A full disk counts as a full spool. Shipping, or the job itself, may free space.
                    self._spool.changed.wait(1.0)
        return extents

    def _begun(self) -> int:
        """The offset of the chunk that the next byte will be in."""
        return self._growing.offset if self._growing is not None else self.produced

    def _append(self, data: memoryview) -> int:
        growing = self._growing or Segment(self.produced, self._folder / f"{self.produced:015d}")

        def write() -> int | None:
            self._file = self._file or growing.path.open("ab", buffering=0)
            return self._file.write(data)

        taken = _taken(write)
        if not taken:
            return 0
        self._growing = growing
        self.produced += taken
        if self.produced - growing.offset >= (self.longest or SEGMENT):
            self._seal()
        return taken

    def next(self) -> Segment | None:
        """Return the oldest segment that waits to be shipped, and seal it if necessary; None if no byte waits."""
        with self._spool.changed:
            if not self._sealed:
                self._seal()
            return self._sealed[0] if self._sealed else None

    def acknowledged(self, segment: Segment, chunk: Chunk, data: bytes) -> None:
        """Note in the journal that the bucket has the segment as this chunk, then delete its file."""
        self._notes += json.dumps(dataclasses.asdict(chunk)).encode() + b"\n"

        def note() -> int | None:
            with self._journal.open("ab", buffering=0) as journal:
                return journal.write(self._notes)

        self._notes = self._notes[_taken(note) :]
        self._checksum.update(data)
        with self._spool.changed:
            self._chunks.append(chunk)
            self._sealed.remove(segment)
            self.shipped += chunk.length
            segment.path.unlink()
            self._spool.changed.notify_all()
        if self._notes:
            # The disk was full; now it may have free space. If not, the note is written with the next one.
            self._notes = self._notes[_taken(note) :]

    def forward(self, produced: int) -> None:
        """Continue after `produced` bytes of an earlier process. Bytes missing here were shipped, but not journaled."""
        missed = produced - self.produced
        if missed > 0:
            self.shipped += missed
            self.produced += missed

    def end(self) -> StreamEnd:
        """Return the EOF mark; call this when all bytes are shipped. An unknown checksum is empty."""
        checksum = self._checksum.hexdigest() if self._checksum_known else ""
        return StreamEnd(self.shipped, checksum, tuple(self._chunks))

    def close(self) -> None:
        """Close the file that grows; its bytes stay for the next agent process."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _seal(self) -> None:
        if self._growing is not None:
            self.close()
            self._sealed.append(self._growing)
            self._growing = None

    def _read_journal(self) -> Iterator[Chunk]:
        if self._journal.exists():
            for line in self._journal.read_text().splitlines():
                yield Chunk(**json.loads(line))

    def _left_over(self) -> list[Segment]:
        """Return the segments that an earlier process left; delete those that are acknowledged or empty."""
        segments = [Segment(int(path.name), path) for path in sorted(self._folder.iterdir())]
        for segment in segments:
            if segment.offset < self.shipped or not segment.path.stat().st_size:
                segment.path.unlink()
        return [segment for segment in segments if segment.path.exists()]


def add(extents: list[Extent], extent: Extent) -> None:
    """Append the extent to the list; if it continues the last one, replace both by one."""
    chunk, skip, length = extents[-1] if extents else (-1, 0, 0)
    if extent[:2] == (chunk, skip + length):
        extents[-1] = (chunk, skip, length + extent[2])
    else:
        extents.append(extent)


def _taken(write: Callable[[], int | None]) -> int:
    """Call `write` and return the number of bytes that it has written: fewer than requested if the disk is full."""
    try:
        return write() or 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return 0


class Spool:
    """The streams of a machine, with one limit for the waiting bytes of all streams together."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.changed = threading.Condition()
        self._limit = limit
        self.streams: dict[str, Stream] = {}

    def stream(self, name: str, longest: int = 0) -> Stream:
        """Return the stream; `longest` is for a stream that does not exist yet, as for Stream."""
        if name not in self.streams:
            self.streams[name] = Stream(self, name, longest)
        return self.streams[name]

    def full(self, more: int) -> bool:
        """Return whether there is no room for `more` bytes; an empty spool has room for any number."""
        waiting = sum(stream.waiting for stream in self.streams.values())
        return waiting > 0 and waiting + more > self._limit

    @property
    def pressing(self) -> int:
        """The number of waiting bytes from which a stream is shipped at once."""
        return min(SEGMENT, max(1, self._limit // 4))

    def restrict(self, limit: int) -> None:
        """Set the limit of waiting bytes."""
        with self.changed:
            self._limit = limit
            self.changed.notify_all()
