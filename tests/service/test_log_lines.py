"""Lines of a stream and searches in it, compared with the lines of its bytes."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core.errors import Invalid, Misconfigured
from provisioner.core.logs import lines as index
from provisioner.core.logs.archive import lines_key
from provisioner.core.protocol.keys import chunk_key
from provisioner.core.run.machines.messages import CHUNK_MOST
from provisioner.ports.control.logs import LineQuery
from provisioner.service.log_lines import content, indexes, pages, search
from tests.service.log_stream import RUN, Stream, texts


@pytest.fixture
def real_sizes() -> None:
    """Keep the real sizes of blocks, reads, parts and long lines."""


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks, reads, parts and long lines a few bytes long, so that a short stream has many of them."""
    if "real_sizes" in request.fixturenames:
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
        assert len(page.lines) <= count
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


def test_index_of_a_long_stream_is_stored_and_read_by_the_next_process() -> None:
    stream = Stream(*_laid([(0, b"one\ntwo\n" * 10), (5, b"three\n")]))
    stream.archive()
    before = texts(stream.page(1))
    assert stream.index
    gets, stream.lines = stream.bucket.gets, stream.process()
    assert texts(stream.page(21)) == ["three"]
    assert stream.bucket.gets - gets <= 6
    assert texts(stream.page(1)) == before


@pytest.mark.parametrize(
    "stored", [b"", b"{}", b'{"version": 99}\nx', b"\xff\n", b'{"version":1,"chunks":1000000000000,"marks":1}\nx']
)
def test_stored_index_that_cannot_be_read_is_made_anew(stored: bytes) -> None:
    """The stored index may be damaged, or written by a later version."""
    stream = Stream((0, b"one\ntwo\n"))
    stream.archive()
    stream.bucket.put(lines_key(RUN, 1, 0, "output"), stored)
    assert texts(stream.page()) == ["one", "two"]
    assert stream.index != stored


def test_page_without_a_first_line_has_the_last_lines() -> None:
    stream = Stream((0, b"1\n2\n3\n4\n5"))
    assert texts(stream.page(count=2)) == ["4", "5"]
    assert stream.page(count=2).open
    assert texts(stream.page(first=99)) == []
    assert stream.page(first=99).first == 6


def test_last_line_of_a_live_stream_grows_and_is_open_until_its_newline() -> None:
    stream = Stream()
    seen = []
    for piece in (b"on", b"e", b"\n", b"tw"):
        stream.append(piece)
        page = stream.page()
        seen.append((texts(page), page.open))
    stream.archive()
    page = stream.page()
    seen.append((texts(page), page.open))
    assert seen == [(["on"], True), (["one"], True), (["one"], False), (["one", "tw"], True), (["one", "tw"], False)]


def test_many_readers_of_a_live_stream_share_its_listings() -> None:
    stream = Stream((0, b"one\n"))
    listings = stream.bucket.listings
    for _ in range(50):
        stream.page()
    assert stream.bucket.listings - listings == 1


def test_reader_of_a_live_stream_reads_only_new_chunks() -> None:
    stream = Stream()
    for number in range(50):
        stream.append(b"line %03d\n" % number)
        read = stream.bucket.read
        assert texts(stream.page(first=number + 1)) == [f"line {number:03}"]
        assert stream.bucket.read - read <= 9 + 2 * 4 * 9


def test_gaps_are_reported_with_the_line_after_them() -> None:
    stream = Stream((3, b"one\ntw"), (12, b"o\nthree"))
    stream.archive(missing_from=3, missing_at_least=30)
    page = stream.page(1)
    assert texts(page) == ["one", "tw", "o", "three"]
    assert [(gap.before, gap.offset, gap.missing) for gap in page.gaps] == [(1, 0, 3), (3, 9, 3), (5, 19, 14)]
    assert [gap.before for gap in stream.page(2, 1).gaps] == []
    assert [gap.before for gap in stream.page(3, 1).gaps] == [3]


def test_stream_of_which_nothing_was_shipped_shows_that_bytes_are_missing() -> None:
    stream = Stream()
    stream.archive(missing_from=0)
    page = stream.page()
    assert (page.total, page.over, [(gap.before, gap.offset, gap.missing) for gap in page.gaps]) == (
        0,
        True,
        [(1, 0, None)],
    )


def test_chunks_of_a_machine_that_writes_some_bytes_twice_are_shown_once() -> None:
    stream = Stream((0, b"one\ntwo\n"), (4, b"two\nthree\n"), (5, b"wo\n"), (14, b"four\n"))
    assert texts(stream.page()) == ["one", "two", "three", "four"]
    assert stream.find_all("o") == [1, 2, 4]


def test_stream_that_is_archived_while_it_is_read_is_read_from_the_archive() -> None:
    stream = Stream((0, b"one\ntwo\n"))
    assert stream.page().total == 2
    stale = stream.node
    stream.archive()
    page = stream.lines.page(stale, "output", LineQuery(), lambda: stream.node)
    assert (texts(page), page.over) == (["one", "two"], True)


def test_chunk_that_becomes_shorter_is_an_error_that_the_next_try_repairs() -> None:
    """Only a hostile machine replaces a chunk."""
    stream = Stream((0, b"one\ntwo\n"))
    assert stream.page().total == 2
    stream.bucket.put(chunk_key("box", "output", 0), b"1\n")
    stream.clock.step(1.0)
    assert texts(stream.page()) == ["1"]


def test_index_that_cannot_be_stored_fails_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream((0, b"one\ntwo\n"))
    stream.archive()

    def denied(*_: object, **__: object) -> bool:
        raise Misconfigured("no right to put")

    monkeypatch.setattr(stream.bucket, "put", denied)
    assert texts(stream.page()) == ["one", "two"]


def test_indexes_in_memory_are_bounded_and_the_oldest_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "INDEXES", 2)
    stream = Stream((0, b"one\n"))

    def reads(run: int) -> int:
        """Return how many objects a page of this run's stream reads: the stream's bytes, also for the index."""
        node, gets = replace(stream.node, run=f"{run:032x}"), stream.bucket.gets
        stream.lines.page(node, "output", LineQuery(), lambda: node)
        return stream.bucket.gets - gets

    first = reads(1)
    assert reads(1) < first
    assert [reads(run) for run in (2, 3, 1)] == [first, first, first]


@pytest.mark.parametrize("after", ["x", "1", "-1.0", "1.0.0", "1" * 30 + ".0"])
def test_search_from_a_wrong_place_is_refused(after: str) -> None:
    with pytest.raises(Invalid, match="pass `next` of the previous search"):
        Stream((0, b"one\n")).search("o", after)


@pytest.mark.parametrize("text", ["", "a\nb", "a" * 1001])
def test_search_for_a_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="must have 1 to 1,000 characters in one line"):
        Stream((0, b"one\n")).search(text)


def test_hit_shows_the_line_around_the_text() -> None:
    stream = Stream((0, b"x\n0123456789ab-ERR-cdef0123456789\n"))
    [hit] = stream.search("-err-", ignore_case=True).hits
    assert (hit.line, hit.offset, hit.before, hit.match, hit.after) == (2, 14, "89ab", "-ERR-", "cdef")
    assert (hit.cut_before, hit.cut_after) == (True, True)


def test_letters_beyond_ascii_match_only_themselves() -> None:
    stream = Stream((0, "Übung\nübung\n".encode()))
    assert stream.find_all("ÜBUNG", ignore_case=True) == [1]


def test_search_of_a_live_stream_continues_where_it_ended() -> None:
    stream = Stream((0, b"one err\ntwo e"))
    first = stream.search("err")
    assert ([hit.line for hit in first.hits], first.next, first.searched) == ([1], None, 13)
    stream.append(b"rr\nthree\n")
    assert stream.find_all("err") == [1, 2]


def test_second_heavy_reader_gets_what_is_known_and_searches_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each such reader has 32 MiB in memory."""
    monkeypatch.setattr(indexes, "HEAVY", 0)
    stream = Stream((0, b"line\n" * 100))
    stream.lines = stream.process()
    hits = stream.search("line")
    assert (hits.hits, hits.searched) == ((), 0)
    assert hits.next
    page = stream.page()
    assert (page.total, page.read, page.size, page.over) == (0, 0, 500, False)


def test_index_of_a_very_long_stream_keeps_few_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MARKS_MOST", 8)
    stream = Stream((0, b"".join(b"line %04d\n" % number for number in range(1000))))
    stream.archive()
    assert texts(stream.page(501, 2)) == ["line 0500", "line 0501"]
    assert stream.find_all("line 0999") == [1000]
    assert stream.index
    assert len(index.Index.decode(stream.index).marks) <= 8


@pytest.mark.usefixtures("real_sizes")
def test_line_of_a_gigabyte_is_shown_in_a_few_reads() -> None:
    """A program that never writes a newline: progress bars, binary output."""
    piece = b"\r 99 %" * (CHUNK_MOST // 6)
    stream = Stream((0, b"begin\n"), (6, piece))
    for _ in range(1_000_000_000 // len(piece)):
        stream.append(piece)
    stream.append(b"end\nlast\n")
    while not (page := stream.page(first=1)).lines or page.read < page.size:
        pass
    read = stream.bucket.read
    page = stream.page(first=1)
    assert [line.number for line in page.lines] == [1, 2, 3]
    assert page.lines[1].size > 1_000_000_000
    assert page.lines[1].cut == page.lines[1].size - pages.HEAD - pages.TAIL
    assert page.lines[1].end.endswith("\r 99 %end")
    assert stream.bucket.read - read < 1_000_000
    assert stream.find_all("last") == [3]
    assert stream.find_all("99 %end") == [2]


@pytest.mark.usefixtures("real_sizes")
def test_page_of_long_lines_is_bounded_and_has_fewer_lines() -> None:
    stream = Stream((0, (b"x" * 100_000 + b"\n") * 160))
    assert stream.page(first=1, count=160).total == 160
    read = stream.bucket.read
    page = stream.page(first=1, count=160)
    assert 20 < len(page.lines) < 80
    assert stream.bucket.read - read < 2 * pages.READ_MOST
    assert sum(len(line.text) + len(line.end) for line in page.lines) < 2 * pages.SHOWN_MOST
    assert stream.page(first=len(page.lines) + 1).lines[0].number == len(page.lines) + 1


@pytest.mark.usefixtures("real_sizes")
def test_page_of_a_stream_of_one_byte_chunks_reads_few_of_them() -> None:
    """A job that writes one byte a second."""
    stream = Stream()
    for number in range(3000):
        stream.write((number, b"a\n"[number % 2 : number % 2 + 1]))
    assert stream.page().total == 1500
    gets = stream.bucket.gets
    page = stream.page(first=700, count=10)
    assert [line.number for line in page.lines] == list(range(700, 710))
    assert stream.bucket.gets - gets <= 3 * index.CHUNKS


@pytest.mark.usefixtures("real_sizes")
def test_common_word_fills_a_page_of_hits_without_reading_the_whole_stream() -> None:
    data = b"line with a common word\n" * 600_000
    stream = Stream((0, data), (len(data), data))
    stream.page()
    read = stream.bucket.read
    hits = stream.search("common", limit=50)
    assert [hit.line for hit in hits.hits] == list(range(1, 51))
    assert hits.next
    again = stream.search("common", hits.next, limit=50)
    assert [hit.line for hit in again.hits] == list(range(51, 101))
    assert stream.bucket.read - read <= 2 * search.AT_ONCE * CHUNK_MOST


def test_search_that_ends_early_makes_progress_whatever_its_text_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read takes longer than a search may."""
    stream = Stream(*[(number, b"a") for number in range(100)], (100, b"b" * 30))
    stream.archive()
    stream.page()
    get = stream.bucket.get

    def slow(key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        stream.clock.step(10.0)
        return get(key, start=start, length=length)

    monkeypatch.setattr(stream.bucket, "get", slow)
    assert stream.find_all("a" * 50 + "b" * 30) == [1]
    assert len(stream.search("b" * 40).hits) == 0
