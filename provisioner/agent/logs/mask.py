"""Mask the values of secrets, in every form that tools print, in the text that leaves the machine."""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import TextIO

from provisioner.agent.logs import encodings
from provisioner.agent.logs.matcher import Sieve, Span, Strings

HIDDEN = b"***"

#: Base64 may continue after a line break of at most LONGEST bytes, if the line before the break has at least NARROWEST
#: columns, or if at least ENOUGH characters of the base64 precede the break. LONGEST is two line breaks of a terminal
#: (CR CR LF is one line break that was translated twice).
NARROWEST, ENOUGH, LONGEST = 60, 8, 4

LINE, BREAK = re.compile(b"[^\r\n]+"), re.compile(b"[\r\n]+")


class Sought:
    """The strings to search for: those in `plain` unchanged, those in `encoded` also with line breaks inside."""

    def __init__(self, plain: Iterable[bytes] = (), encoded: Iterable[bytes] = ()) -> None:
        plain, encoded = set(plain), set(encoded)
        lines = {each for each in plain if not BREAK.search(each)}
        # Almost every string with a line break begins with one of `lines`; it is a suspect if that line is in the text.
        broken = {each for each in plain - lines if BREAK.split(each)[0].rstrip() not in lines}
        self._in_text, self._in_data = Sieve((plain - broken) | encoded), Sieve(broken)
        reach = max(self._in_text.reach, self._in_data.reach)
        self.plain, self.encoded = Strings(plain, reach), Strings(encoded, reach)

    def suspects(self, data: bytes, text: bytes) -> list[bytes]:
        """Return the strings that may be in the data; `text` is the data without line breaks."""
        return self._in_text.suspects(text) + self._in_data.suspects(data)


class Mask:
    """The values of a node's secrets. Any thread may add values, which are masked from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The values as they were added.
        self.values: frozenset[bytes] = frozenset()
        self.sought = Sought()

    def add(self, values: Iterable[bytes]) -> None:
        """Add values to be masked; values of up to six bytes are ignored."""
        values = frozenset(values)
        whole = {way for value in values for way in encodings.ways(value)}
        with self._lock:
            self.values |= values
            old = self.sought
            self.sought = Sought(
                old.plain.all.union(*map(encodings.plain, whole)), old.encoded.all.union(*map(encodings.encoded, whole))
            )

    def text(self, text: str) -> str:
        """Return the text masked. The text must be complete, not a piece of a stream."""
        if not self.sought.plain.all:
            return text
        stream = Stream(self)
        try:
            data = text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            data = text.encode(errors="replace")
        return (stream.feed(data) + stream.finish()).decode(errors="surrogateescape")


class Stream:
    """Masks a stream that comes in pieces; the output does not depend on where the pieces are cut."""

    def __init__(self, mask: Mask, hidden: int = 0, column: int = 0) -> None:
        """`hidden` and `column` continue an earlier Stream that held no bytes, or whose held bytes are fed again."""
        self._mask = mask
        #: Bytes that may be the beginning of a secret; the first `hidden` of them are masked already.
        self._held = b""
        self.hidden = hidden
        #: Length of the last line, as far as it has been returned.
        self.column = column

    @property
    def held(self) -> int:
        """The number of fed bytes that have not been returned yet."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """Add data; return it masked, but hold back its last bytes if they may be the beginning of a secret."""
        return self._pass(data, final=False)

    def finish(self) -> bytes:
        """Return the held bytes, masked; nothing more may be fed."""
        return self._pass(b"", final=True)

    def _pass(self, data: bytes, *, final: bool) -> bytes:
        sought = self._mask.sought
        if not sought.plain.all:
            return data
        data = self._held + data
        lines = Lines(data, self.column)
        suspects = sought.suspects(data, lines.text)
        spans = sought.plain.spans(data, suspects)
        spans += map(lines.span, sought.encoded.spans(lines.text, suspects, lines.joined))
        end = len(data)
        if not final:
            end = min(sought.plain.begun(data, suspects), default=end)
            end = min(end, lines.begun(sought.encoded.begun(lines.text, suspects)))
        return self._hide(data, spans, end)

    def _hide(self, data: bytes, spans: Iterable[Span], end: int) -> bytes:
        """Return the bytes before `end`, with the spans masked, and hold the rest."""
        out, done, hidden = [], 0, max(0, self.hidden - end)
        for first, last in _merged([(0, self.hidden), *spans] if self.hidden else spans):
            if first >= end:
                break
            # A span whose beginning was masked by an earlier call gets no second mask.
            out += [data[done:first], HIDDEN if first or not self.hidden else b""]
            done, hidden = min(last, end), max(0, last - end)
        out.append(data[done:end])
        self.column = _column(data, end, self.column)
        self._held, self.hidden = data[end:], hidden
        return b"".join(out)


class Lines:
    """Data and its text without line breaks; maps positions in the text to positions in the data."""

    def __init__(self, data: bytes, column: int) -> None:
        """`column` is the number of bytes of the first line that precede the data."""
        self._data = data
        self._column = column
        self.text = data.replace(b"\n", b"").replace(b"\r", b"")

    def span(self, span: Span) -> Span:
        """Convert a span of the text to a span of the data."""
        return self._place(span[0]), self._place(span[1] - 1) + 1

    def joined(self, span: Span) -> bool:
        """Return whether the line breaks within this span of the text are like those of an encoder."""
        first, last = self.span(span)
        return last - first == span[1] - span[0] or self._joined(first, last)

    def begun(self, starts: Iterable[int]) -> int:
        """Return where the first encoded text begins that may continue after the data; the data's end if there is none.

        `starts` are the candidates' positions in the text, in order.
        """
        for at in starts:
            first = self._from_end(len(self.text) - at)
            if first is not None and self._joined(first, len(self._data)):
                return first
        return len(self._data)

    def _from_end(self, count: int) -> int | None:
        """Return where the last `count` bytes begin, not counting line breaks; None if there are too many breaks."""
        at = len(self._data)
        least = at - count * (1 + LONGEST)
        while count and at >= least:
            at, last = at - count, at
            count = self._data.count(b"\n", at, last) + self._data.count(b"\r", at, last)
        return None if count else at

    def _joined(self, first: int, last: int) -> bool:
        breaks = 0
        for found in BREAK.finditer(self._data, first, last):
            at, length = found.start(), len(found[0])
            if length > LONGEST or (at - first - breaks < ENOUGH and _column(self._data, at, self._column) < NARROWEST):
                return False
            breaks += length
        return True

    @cached_property
    def _lines(self) -> tuple[list[Span], list[int]]:
        """The span of each line in the data, and where each line begins in the text."""
        lines = [found.span() for found in LINE.finditer(self._data)]
        return lines, [0, *accumulate(last - first for first, last in lines)]

    def _place(self, at: int) -> int:
        lines, begins = self._lines
        line = bisect_right(begins, at) - 1
        return lines[line][0] + at - begins[line]


class Masked:
    """A text file that masks secrets in the text before it writes the text."""

    def __init__(self, file: TextIO, mask: Mask) -> None:
        self._file = file
        self._mask = mask

    def write(self, text: str) -> int:
        self._file.write(self._mask.text(text))
        return len(text)

    def flush(self) -> None:
        self._file.flush()


def _column(data: bytes, at: int, first: int) -> int:
    """Return how many bytes of its line precede position `at`; the first line has `first` bytes before the data."""
    begin = data.rfind(b"\n", 0, at) + 1
    begin = max(begin, data.rfind(b"\r", begin, at) + 1)
    return at - begin + (0 if begin else first)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order; overlapping spans are merged."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
