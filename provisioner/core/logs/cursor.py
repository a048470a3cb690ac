"""A reader's position in a run's log: a byte in each stream of each attempt, with conversion to and from text."""

import re
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
_AT = re.compile(rf"([1-9]\d{{0,5}})\.({_STREAM})\.(\d{{1,15}})\.(\d{{1,15}})", re.ASCII)
#: `7.output.end`: the stream `output` of attempt 7 has been read to its end; `-7.output.end`: those of attempts 1 to 7.
_END = re.compile(rf"(-?)([1-9]\d{{0,5}})\.({_STREAM})\.end", re.ASCII)
#: Maximum number of characters of a cursor: more than `write` makes, less than a server accepts in headers (h11: 16
#: KiB).
LONGEST = 12_000


@dataclass
class Cursor:
    """The position in each stream; the beginning by default. Ended attempts are merged, so the cursor stays small."""

    _places: dict[tuple[int, str], At] = field(default_factory=dict)
    _ended: set[tuple[int, str]] = field(default_factory=set)
    #: By stream: the largest number N for which the stream has ended in all attempts from 1 to N.
    _ended_to: dict[str, int] = field(default_factory=dict)

    def at(self, attempt: int, stream: str) -> At:
        return self._places.get((attempt, stream), At())

    def move(self, attempt: int, stream: str, at: At) -> None:
        self._places[attempt, stream] = at

    def end(self, attempt: int, stream: str) -> None:
        """Record that this stream has no more bytes."""
        self._places.pop((attempt, stream), None)
        self._ended.add((attempt, stream))
        self._gather(stream)

    def end_to(self, attempt: int, stream: str) -> None:
        """Record that this stream of this attempt and of all earlier attempts has no more bytes."""
        self._ended_to[stream] = max(attempt, self._ended_to.get(stream, 0))
        self._gather(stream)

    def _gather(self, stream: str) -> None:
        while (key := (self._ended_to.get(stream, 0) + 1, stream)) in self._ended:
            self._ended.remove(key)
            self._ended_to[stream] = key[0]

    def ended(self, attempt: int, stream: str) -> bool:
        return attempt <= self._ended_to.get(stream, 0) or (attempt, stream) in self._ended

    def write(self) -> str:
        """Return the position as a short text; equal positions give equal texts."""
        parts = [f"-{attempt}.{stream}.end" for stream, attempt in sorted(self._ended_to.items())]
        parts += [f"{attempt}.{stream}.end" for attempt, stream in sorted(self._ended)]
        parts += [f"{attempt}.{stream}.{at.chunk}.{at.byte}" for (attempt, stream), at in sorted(self._places.items())]
        return ",".join(parts) or START


def read(text: str) -> Cursor:
    """Return the cursor in a text that `write` made; raises Invalid for any other text."""
    found = Cursor()
    if text == START:
        return found
    for part in text.split(",") if len(text) <= LONGEST else ("",):
        if at := _AT.fullmatch(part):
            found.move(int(at[1]), at[2], At(int(at[3]), int(at[4])))
        elif end := _END.fullmatch(part):
            (found.end_to if end[1] else found.end)(int(end[2]), end[3])
        else:
            raise Invalid(f"invalid log cursor {text[:60]!r}: pass `next` of the previous page, or the last event id")
    return found
