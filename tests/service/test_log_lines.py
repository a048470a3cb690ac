"""Lines of a stream and searches in it, compared with the lines of its bytes."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core.logs import lines as index
from provisioner.service.log_lines import content, indexes, pages, search
from tests.service.log_stream import Stream


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks, reads, parts and long lines a few bytes long, so that a short stream has many of them."""
    if "real_sizes" in request.keywords:
        return
    monkeypatch.setattr(index, "BLOCK", 8)
    monkeypatch.setattr(index, "CHUNKS", 3)
    monkeypatch.setattr(content, "PIECE", 5)
    monkeypatch.setattr(indexes, "PIECE", 5)
    monkeypatch.setattr(search, "PART", 16)
    monkeypatch.setattr(search, "AROUND", 4)
    monkeypatch.setattr(pages, "HEAD", 6)
    monkeypatch.setattr(pages, "TAIL", 4)
    monkeypatch.setattr(indexes, "STORED_BYTES", 1)


def _expected(chunks: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the offset and the bytes of every line: of the bytes before and after each gap apart."""
    parts: list[tuple[int, bytes]] = []
    for offset, data in chunks:
        end = parts[-1][0] + len(parts[-1][1]) if parts else 0
        if data and parts and offset == end:
            parts[-1] = parts[-1][0], parts[-1][1] + data
        elif data:
            parts.append((offset, data))
    return [
        (offset + found.start(), found[0].removesuffix(b"\n"))
        for offset, data in parts
        for found in re.finditer(rb"[^\n]*\n|[^\n]+", data)
    ]


def _shown(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(data) <= 10 else f"{data[:6].decode()}[{len(data) - 10}]{data[-4:].decode()}"


def _seen(stream: Stream, count: int) -> list[tuple[int, int, str]]:
    """Return the number, the offset and the text of every line, from pages of `count` lines."""
    found: list[tuple[int, int, str]] = []
    while True:
        page = stream.page(len(found) + 1, count)
        assert page.first == len(found) + 1
        found += [
            (line.number, line.offset, f"{line.text}[{line.cut}]{line.end}" if line.cut else line.text)
            for line in page.lines
        ]
        if len(found) == page.total:
            return found
        assert page.lines, "a page without a line makes no progress"


#: Some text of `a`, `b` and newlines; most bytes are `a`, so that there are long lines.
TEXT = st.lists(st.sampled_from(b"aaaab\n"), min_size=1, max_size=30).map(bytes)
#: Chunks: the number of bytes missing before each one, and its bytes.
CHUNKS = st.lists(st.tuples(st.sampled_from([0, 0, 0, 7, 10**12]), TEXT), max_size=12)


def _laid(parts: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    chunks, end = [], 0
    for missing, data in parts:
        chunks.append((end + missing, data))
        end += missing + len(data)
    return chunks


@settings(deadline=None)
@given(CHUNKS, st.integers(1, 5), st.integers(0, 12), st.booleans())
def test_pages_have_every_line_whatever_the_chunks_are(
    parts: Sequence[tuple[int, bytes]], count: int, early: int, archived: bool
) -> None:
    chunks = _laid(parts)
    stream = Stream(*chunks[:early])
    stream.page()
    stream.write(*chunks[early:])
    if archived:
        stream.archive()
    expected = [(number, offset, _shown(data)) for number, (offset, data) in enumerate(_expected(chunks), 1)]
    assert _seen(stream, count) == expected
    stream.lines = stream.process()
    assert _seen(stream, count) == expected
    for number, offset, _ in expected:
        assert stream.page(offset=offset, count=1).first == number


@settings(deadline=None)
@given(CHUNKS, st.text("ab", min_size=1, max_size=6), st.integers(1, 4), st.booleans())
def test_a_search_finds_every_line_with_the_text(
    parts: Sequence[tuple[int, bytes]], text: str, limit: int, archived: bool
) -> None:
    chunks = _laid(parts)
    stream = Stream(*chunks)
    if archived:
        stream.archive()
    expected = [number for number, (_, data) in enumerate(_expected(chunks), 1) if text.encode() in data]
    assert stream.find_all(text, limit) == expected
    assert stream.find_all(text.upper(), limit, ignore_case=True) == expected
