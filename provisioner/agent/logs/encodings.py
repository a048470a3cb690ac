"""Return the forms in which tools print a value: unchanged, in base64, URL-encoded, and escaped for JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

#: Strings of up to this many bytes are too common in other text to be masked.
SHORT = 6

BREAKS = b"\r\n"

#: The columns after which base64 (GNU coreutils) and openssl begin a new line.
COLUMNS = (76, 64)


def ways(value: bytes) -> Iterator[bytes]:
    """Yield the value with each kind of line end, with and without the last one; skip forms of at most SHORT bytes."""
    for way in (value, value.rstrip(BREAKS)):
        unix = way.replace(b"\r\n", b"\n")
        yield from (each for each in (way, unix, unix.replace(b"\n", b"\r\n")) if len(each) > SHORT)


def plain(value: bytes) -> Iterator[bytes]:
    """Yield the forms that tools do not break into lines: the value, its lines, URL-encoded, and escaped for JSON."""
    yield value
    yield from (line for line in map(bytes.strip, value.splitlines()) if len(line) > SHORT)
    # Which characters stay unescaped depends on the part of the URL, and on the library.
    for url in (*(quote(value, safe) for safe in ("", "/", "!'()*")), quote_plus(value)):
        yield url.encode()
        yield re.sub("%..", lambda found: found[0].lower(), url).encode()
    text = value.decode(errors="surrogateescape")
    for ascii_only in (True, False):
        inner = json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode(errors="surrogateescape")
        # Some libraries escape the slash, too, and Go's also escapes HTML's special characters.
        yield from (inner, inner.replace(b"/", b"\\/"))
        yield re.sub(b"[<>&]", lambda found: b"\\u%04x" % found[0][0], inner)


def encoded(value: bytes) -> Iterator[bytes]:
    """Yield the value's base64, inside a longer text and at the end of one; tools may break base64 into lines."""
    for before in range(3):
        whole = (before + len(value)) * 8 // 6
        yield from _alphabets(_from(before, value)[: whole - before - (before > 0)])
        for ending in (b"", b"\n"):
            text = _from(before, value + ending)
            yield from (each for end in (text, text.rstrip(b"=")) for each in _alphabets(end))
    # A tool may print other text before each line, so each line is a form, too.
    for text in (base64.b64encode(value), base64.b64encode(value + b"\n")):
        lines = (text[at : at + width] for width in COLUMNS for at in range(0, len(text), width))
        yield from (line for line in lines if len(line) > SHORT)


def _from(before: int, value: bytes) -> bytes:
    """Return the value's base64 after `before` other bytes, from the first character that depends on the value only."""
    return base64.b64encode(bytes(before) + value)[before + (before > 0) :]


def _alphabets(text: bytes) -> tuple[bytes, bytes]:
    """Return the text in the standard and the URL-safe alphabet (RFC 4648, sections 4 and 5)."""
    return text, text.translate(bytes.maketrans(b"+/", b"-_"))
