"""A reader's position in a run's log: a byte in each stream of each rank and attempt. It is sent as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from provisioner.core.errors import Invalid
from provisioner.core.protocol.words import STREAMS


@dataclass(frozen=True)
class At:
    """A position in a stream: the offset of the next byte to read, and the offset of the first chunk to list."""

    chunk: int = 0
    byte: int = 0


#: The text of a cursor at the beginning of all streams.
START = "start"
_STREAM = "|".join(STREAMS)
#: `7.output.0.12`: the position in the stream `output` of rank 0 of attempt 7; `7r3.output.0.12`: the same of rank 3.
_AT = re.compile(rf"([1-9]\d{{0,5}})(?:r([1-9]\d{{0,2}}))?\.({_STREAM})\.(\d{{1,15}})\.(\d{{1,15}})", re.ASCII)
#: `7.output.end`: the stream `output` of rank 0 of attempt 7 has been read to its end; `7r3.output.end`: the same of
#: rank 3; `-7.output.end`: the same of all ranks of attempts 1 to 7.
_END = re.compile(rf"([1-9]\d{{0,5}})(?:r([1-9]\d{{0,2}}))?\.({_STREAM})\.end", re.ASCII)
_END_TO = re.compile(rf"-([1-9]\d{{0,5}})\.({_STREAM})\.end", re.ASCII)
#: Maximum number of characters of a cursor: more than `write` makes, less than a server accepts in headers (h11: 16
#: KiB).
LONGEST = 12_000


@dataclass
class Cursor:
    """The position in each stream; the beginning by default. Ended attempts are merged, so the cursor stays small."""

    #: The ranks whose streams are read.
    ranks: Sequence[int] = (0,)
    #: By attempt, rank and stream.
    _places: dict[tuple[int, int, str], At] = field(default_factory=dict)
    _ended: set[tuple[int, int, str]] = field(default_factory=set)
    #: By stream: the largest number N for which the stream has ended in all attempts from 1 to N.
    _ended_to: dict[str, int] = field(default_factory=dict)

    def at(self, attempt: int, stream: str, rank: int = 0) -> At:
        return self._places.get((attempt, rank, stream), At())

    def move(self, attempt: int, stream: str, at: At, rank: int = 0) -> None:
        self._places[attempt, rank, stream] = at

    def end(self, attempt: int, stream: str, rank: int = 0) -> None:
        """Record that this stream has no more bytes."""
        self._places.pop((attempt, rank, stream), None)
        self._ended.add((attempt, rank, stream))
        self._gather(stream)

    def end_to(self, attempt: int, stream: str) -> None:
        """Record that this stream of this attempt and of all earlier attempts has no more bytes, for all ranks."""
        self._ended_to[stream] = max(attempt, self._ended_to.get(stream, 0))
        self._gather(stream)

    def _gather(self, stream: str) -> None:
        if not self.ranks:
            return
        while (keys := self._keys(self._ended_to.get(stream, 0) + 1, stream)) <= self._ended:
            self._ended -= keys
            self._ended_to[stream] = self._ended_to.get(stream, 0) + 1

    def _keys(self, attempt: int, stream: str) -> set[tuple[int, int, str]]:
        return {(attempt, rank, stream) for rank in self.ranks}

    def ended(self, attempt: int, stream: str, rank: int = 0) -> bool:
        return attempt <= self._ended_to.get(stream, 0) or (attempt, rank, stream) in self._ended

    def write(self) -> str:
        """Return the position as a short text; equal positions give equal texts."""
        parts = [f"-{attempt}.{stream}.end" for stream, attempt in sorted(self._ended_to.items())]
        parts += [f"{_part(attempt, rank)}.{stream}.end" for attempt, rank, stream in sorted(self._ended)]
        parts += [
            f"{_part(attempt, rank)}.{stream}.{at.chunk}.{at.byte}"
            for (attempt, rank, stream), at in sorted(self._places.items())
        ]
        return ",".join(parts) or START


def _part(attempt: int, rank: int) -> str:
    return f"{attempt}r{rank}" if rank else str(attempt)


def read(text: str, ranks: Sequence[int] = (0,)) -> Cursor:
    """Return the cursor in a text that `write` made, for a reader of these ranks; raises Invalid for another text."""
    found = Cursor(ranks)
    if text == START:
        return found
    for part in text.split(",") if len(text) <= LONGEST else ("",):
        if at := _AT.fullmatch(part):
            found.move(int(at[1]), at[3], At(int(at[4]), int(at[5])), int(at[2] or 0))
        elif end := _END.fullmatch(part):
            found.end(int(end[1]), end[3], int(end[2] or 0))
        elif end := _END_TO.fullmatch(part):
            found.end_to(int(end[1]), end[2])
        else:
            raise Invalid(f"invalid log cursor {text[:60]!r}: pass `next` of the previous page, or the last event id")
    return found
