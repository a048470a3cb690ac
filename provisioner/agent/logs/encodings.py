"""What a value looks like in the hands of tools: as it is, in base64, URL-encoded, escaped for JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

#: Up to this many bytes are too common to be told from other text.
SHORT = 6

BREAKS = b"\r\n"

#: After so many columns base64 (GNU coreutils) and openssl begin a new line.
COLUMNS = (76, 64)


def ways(value: bytes) -> Iterator[bytes]:
    """The value with either ending of its lines, and without its last one; none of a short value."""
    for way in (value, value.rstrip(BREAKS)):
        unix = way.replace(b"\r\n", b"\n")
        yield from (each for each in (way, unix, unix.replace(b"\n", b"\r\n")) if len(each) > SHORT)


def plain(value: bytes) -> Iterator[bytes]:
    """What is to be found as it is."""
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


def encoded(value: bytes) -> Iterator[bytes]:
    """Base64, which may be broken into lines: of the value amid anything else, and to the end of its text."""
    for before in range(3):
        whole = (before + len(value)) * 8 // 6
        yield from _alphabets(_from(before, value)[: whole - before - (before > 0)])
        for ending in (b"", b"\n"):
            text = _from(before, value + ending)
            yield from (each for end in (text, text.rstrip(b"=")) for each in _alphabets(end))
    # Something else may stand before each line.
    for text in (base64.b64encode(value), base64.b64encode(value + b"\n")):
        lines = (text[at : at + width] for width in COLUMNS for at in range(0, len(text), width))
        yield from (line for line in lines if len(line) > SHORT)


def _from(before: int, value: bytes) -> bytes:
    """The value's base64 after so many other bytes, from the first character that it alone decides."""
    return base64.b64encode(bytes(before) + value)[before + (before > 0) :]


def _alphabets(text: bytes) -> tuple[bytes, bytes]:
    """Standard and URL-safe (RFC 4648, sections 4 and 5)."""
    return text, text.translate(bytes.maketrans(b"+/", b"-_"))
