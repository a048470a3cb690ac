"""Takes the values of secrets out of whatever leaves the machine, in every form a tool may give them.

A value is looked for as it is, in base64, URL-encoded and escaped for JSON. All of it is plain search,
many times faster than one regular expression of all forms.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TextIO
from urllib.parse import quote, quote_plus

HIDDEN = b"***"

#: Up to this many bytes are too common to be told from other text.
SHORT = 6

BREAKS = b"\r\n"

#: After so many columns base64 (GNU coreutils) and openssl begin a new line.
COLUMNS = (76, 64)

#: Beginnings of a form from this length on are searched for, shorter ones looked up.
PROBE = 8


class Forms:
    """Some forms, and how they begin."""

    def __init__(self, forms: Iterable[bytes] = ()) -> None:
        self.all = frozenset(forms)
        self._short = frozenset(form[:n] for form in self.all for n in range(1, min(PROBE, len(form))))
        self._by_probe: dict[bytes, list[bytes]] = {}
        for form in self.all:
            if len(form) > PROBE:
                self._by_probe.setdefault(form[:PROBE], []).append(form)

    def found(self, data: bytes) -> list[tuple[int, int]]:
        """Where they are, those that overlap too."""
        spans = []
        for form in self.all:
            at = data.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return spans

    def beginning(self, data: bytes) -> int:
        """From where on the end of the data may be the beginning of one."""
        longest = min(PROBE - 1, len(data))
        first = next((len(data) - n for n in range(longest, 0, -1) if data[-n:] in self._short), len(data))
        for probe, forms in self._by_probe.items():
            at = data.find(probe, max(0, len(data) - max(map(len, forms)) + 1))
            while 0 <= at < first:
                rest = data[at:]
                if any(form.startswith(rest) and form != rest for form in forms):
                    first = at
                at = data.find(probe, at + 1)
        return first


@dataclass(frozen=True)
class Sought:
    """What to look for: `plain` as it is, the others however they are broken into lines."""

    plain: Forms
    #: Base64, as far as the value alone decides it.
    encoded: Forms
    #: The same to the end of its text; there is none without an encoded one.
    ended: Forms


class Mask:
    """The secrets of a node; any thread may add values, and they count from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sought = Sought(Forms(), Forms(), Forms())

    def add(self, values: Iterable[bytes]) -> None:
        """Values of up to six bytes are passed over."""
        whole = {way for value in values for way in _ways(value)}
        with self._lock:
            old = self.sought
            self.sought = Sought(
                Forms(old.plain.all.union(*map(_plain, whole))),
                Forms(old.encoded.all.union(*map(_encoded, whole))),
                Forms(old.ended.all.union(*map(_ended, whole))),
            )

    def text(self, text: str) -> str:
        """The masked text, which stands for itself."""
        if not self.sought.plain.all:
            return text
        stream = Stream(self)
        try:
            data = text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            data = text.encode(errors="replace")
        return (stream.feed(data) + stream.finish()).decode(errors="surrogateescape")


class Stream:
    """Masks a stream that comes in pieces; how it is cut makes no difference to what comes out."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        #: What may be the beginning of a secret; its first bytes may be hidden already.
        self._held = b""
        self._hidden = 0
        #: How long the last line is, as far as it has been given out.
        self._column = 0

    def feed(self, data: bytes) -> bytes:
        """The masked bytes so far, but for an end that may be the beginning of a secret."""
        return self._pass(data, final=False)

    def finish(self) -> bytes:
        """What was held back; nothing follows."""
        return self._pass(b"", final=True)

    def _pass(self, data: bytes, *, final: bool) -> bytes:
        sought = self._mask.sought
        if not sought.plain.all:
            return data
        data = self._held + data
        view = data.translate(None, BREAKS)
        end, end_in_view = len(data), len(view)
        if not final:
            end = sought.plain.beginning(data)
            if not data.endswith((b"\r", b"\n")) or self._last_line(data) >= min(COLUMNS):
                end_in_view = min(sought.encoded.beginning(view), sought.ended.beginning(view))
        spans, in_view = sought.plain.found(data), sought.encoded.found(view)
        if in_view or end_in_view < len(view):
            place = _places(data)
            in_view += sought.ended.found(view) if in_view else []
            spans += [(place(first), place(last - 1) + 1) for first, last in in_view]
            if end_in_view < len(view):
                end = min(end, place(end_in_view))
        return self._hide(data, spans, end)

    def _last_line(self, data: bytes) -> int:
        """The length of the last line, which has ended."""
        line = data.rstrip(BREAKS)
        begin = max(line.rfind(b"\n"), line.rfind(b"\r"))
        return len(line) - begin - 1 if begin >= 0 else self._column + len(line)

    def _hide(self, data: bytes, spans: list[tuple[int, int]], end: int) -> bytes:
        """Give out what is before `end`, and keep the rest."""
        out, done, hidden = [], 0, 0
        for first, last in _merged([(0, self._hidden), *spans] if self._hidden else spans):
            if first >= end:
                break
            # What has been hidden in part before is hidden once.
            out += [data[done:first], HIDDEN if first or not self._hidden else b""]
            done, hidden = min(last, end), max(0, last - end)
        out.append(data[done:end])
        given = data[:end]
        begin = max(given.rfind(b"\n"), given.rfind(b"\r"))
        self._column = end - begin - 1 if begin >= 0 else self._column + end
        self._held, self._hidden = data[end:], hidden
        return b"".join(out)


class Masked:
    """A text file that writes masked."""

    def __init__(self, file: TextIO, mask: Mask) -> None:
        self._file = file
        self._mask = mask

    def write(self, text: str) -> int:
        self._file.write(self._mask.text(text))
        return len(text)

    def flush(self) -> None:
        self._file.flush()


def _ways(value: bytes) -> Iterator[bytes]:
    """The value with either ending of its lines, and without its last one."""
    for way in (value, value.rstrip(BREAKS)):
        unix = way.replace(b"\r\n", b"\n")
        yield from (each for each in (way, unix, unix.replace(b"\n", b"\r\n")) if len(each) > SHORT)


def _plain(value: bytes) -> Iterator[bytes]:
    yield value
    yield from (line for line in map(bytes.strip, value.splitlines()) if len(line) > SHORT)
    # What a URL may hold unescaped depends on the part of it, and on the library.
    for url in (*(quote(value, safe) for safe in ("", "/", "!'()*")), quote_plus(value)):
        yield url.encode()
        yield re.sub("%..", lambda found: found[0].lower(), url).encode()
    text = value.decode(errors="surrogateescape")
    for ascii_only in (True, False):
        inner = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode(errors="surrogateescape")
        # Some libraries escape the slash, and Go's what HTML would take for its own.
        yield from (inner, inner.replace(b"/", b"\\/"))
        yield re.sub(b"[<>&]", lambda found: b"\\u%04x" % found[0][0], inner)


def _encoded(value: bytes) -> Iterator[bytes]:
    """Base64 of the value amid anything else, and the lines that the value alone makes."""
    for before in range(3):
        whole = (before + len(value)) * 8 // 6
        yield from _alphabets(_from(before, value)[: whole - before - (before > 0)])
    for text in (base64.b64encode(value), base64.b64encode(value + b"\n")):
        lines = (text[at : at + width] for width in COLUMNS for at in range(0, len(text), width))
        yield from (line for line in lines if len(line) > SHORT)


def _ended(value: bytes) -> Iterator[bytes]:
    for before in range(3):
        for ending in (b"", b"\n"):
            text = _from(before, value + ending)
            yield from (each for end in (text, text.rstrip(b"=")) for each in _alphabets(end))


def _from(before: int, value: bytes) -> bytes:
    """The value's base64 after so many other bytes, from the first character that it alone decides."""
    return base64.b64encode(bytes(before) + value)[before + (before > 0) :]


def _alphabets(text: bytes) -> tuple[bytes, bytes]:
    """Standard and URL-safe (RFC 4648, sections 4 and 5)."""
    return text, text.translate(bytes.maketrans(b"+/", b"-_"))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, and as one where they overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _places(data: bytes) -> Callable[[int], int]:
    """Finds a byte of the data without its line breaks in the data itself."""
    lines = [found.span() for found in re.finditer(b"[^\r\n]+", data)]
    begins = [0, *accumulate(last - first for first, last in lines)]

    def place(at: int) -> int:
        line = bisect_right(begins, at) - 1
        return lines[line][0] + at - begins[line]

    return place
