"""Search a stream for a text: read it in parallel, a bounded part for each request."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from provisioner.core.errors import Invalid
from provisioner.core.logs.lines import Index
from provisioner.core.views.log import Hit, Hits
from provisioner.ports.control.logs import Search
from provisioner.service.log_lines.content import Content, found_all
from provisioner.service.log_lines.pages import before, line_at, whole

#: Maximum number of characters of the text.
TEXT_MOST = 1000
#: Bytes of a line that are shown before and after the place.
AROUND = 512
#: A part has whole chunks: one of any size, or several of so many bytes together. And the number of parts that are
#: searched at the same time: with chunks as agents make them, 32 MiB in memory.
PART, CHUNKS, AT_ONCE = 8 << 20, 64, 4
#: A hit near the edge of its part is shown with the bytes beyond, if they are in fewer chunks than this.
FEW = 4


@dataclass(frozen=True)
class _Wanted:
    text: bytes
    ignore_case: bool
    limit: int
    #: The first position, and the number of the line before the first one that counts.
    start: int
    after: int

    def found_in(self, data: bytes) -> bytes:
        """Return the data to search: in lower case if the search ignores case."""
        return data.lower() if self.ignore_case else data


@dataclass(frozen=True)
class _Found:
    """The hits in one part, and its first and last bytes, up to a gap: they may have a part of the text."""

    begin: int
    hits: list[Hit]
    head: bytes
    tail: bytes
    #: Whether there is a gap between its bytes.
    gap: bool


def search(content: Content, wish: Search, late: Callable[[], bool]) -> Hits:
    """Return the hits after `wish.after`. `late` returns whether the search must end; then `next` is where it ended."""
    index, node = content.index, content.node
    offset, line = _place(wish.after)
    wanted = _wanted(wish, min(index.chunks.position(offset), index.covered), line)
    hits: list[Hit] = []
    done, tail = wanted.start, b""
    parts = _parts(index, done)
    # Search at least as many bytes as the text has, else the next search would begin at the same place.
    least = wanted.start + len(wanted.text)
    while len(hits) < wish.limit and not (late() and not wanted.start < done < least):
        several = list(islice(parts, AT_ONCE))
        if not several:
            break
        for found in found_all(content.pool.map(partial(_found, content, wanted), several)):
            if index.chunks.breaks(found.begin, found.begin + 1):
                tail = b""
            for hit in (*_across(content, wanted, found, tail), *found.hits):
                # The line of the last hit may go on in this part.
                if hit.line > (hits[-1].line if hits else line):
                    hits.append(hit)
            tail = found.tail if found.gap else _last(tail + found.tail, len(wanted.text) - 1)
        done = several[-1][1]
    if len(hits) >= wish.limit:
        hits = hits[: wish.limit]
        done = index.chunks.position(hits[-1].offset) + 1
    elif done < index.size:
        # The text may begin in the bytes that were searched, and end in those that follow.
        done = max(wanted.start, done - len(wanted.text) + 1)
    # The end of a stream that is still written, or not read yet, is searched by a later request.
    left = done < index.size or len(hits) >= wish.limit
    place = f"{index.chunks.offset(done)}.{hits[-1].line if hits else line}"
    return Hits(
        node.attempt, node.rank, content.stream, tuple(hits), place if left else None, min(done, index.size), index.size
    )


def _place(after: str) -> tuple[int, int]:
    """Return the offset at which the search begins, and the number of the line before."""
    if not after:
        return 0, 0
    found = re.fullmatch(r"(\d{1,15})\.(\d{1,15})", after, re.ASCII)
    if not found:
        raise Invalid(f"invalid place {after[:40]!r} of a search: pass `next` of the previous search")
    return int(found[1]), int(found[2])


def _wanted(wish: Search, start: int, after: int) -> _Wanted:
    text = wish.text
    if not text or "\n" in text or len(text) > TEXT_MOST:
        what = "it is empty" if not text else "it has a line break" if "\n" in text else f"it has {len(text):,}"
        raise Invalid(f"the text to search for must have 1 to {TEXT_MOST:,} characters in one line; {what}")
    wanted = text.encode(errors="surrogatepass")
    return _Wanted(wanted.lower() if wish.ignore_case else wanted, wish.ignore_case, wish.limit, start, after)


def _parts(index: Index, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of the stream begin and end."""
    chunk, positions = index.chunks.at(start), index.chunks.positions
    while start < index.covered:
        first = chunk
        chunk += 1
        while chunk < min(len(positions), first + CHUNKS) and index.chunks.end_of(chunk) - start <= PART:
            chunk += 1
        end = min(index.chunks.end_of(chunk - 1), index.covered)
        yield start, end
        start = end


def _found(content: Content, wanted: _Wanted, part: tuple[int, int]) -> _Found:
    """Return the first hit of each line in a part of the stream, at most `wanted.limit` of them."""
    begin, end = part
    size, data, found = len(wanted.text), content.between(begin, end), list[Hit]()
    searched, breaks = wanted.found_in(data), [each - begin for each in content.index.chunks.breaks(begin + 1, end)]
    at, counted, line = searched.find(wanted.text), 0, 0
    while at >= 0 and len(found) < wanted.limit:
        # Bytes on both sides of a gap are not beside each other in the stream.
        edge = next((each for each in breaks if each > at), len(data))
        if at + size > edge:
            at = searched.find(wanted.text, at + 1)
            continue
        line = line or line_at(content, begin)
        gaps = sum(counted < each <= at and data[each - 1] != 10 for each in breaks)
        line, counted = line + data.count(b"\n", counted, at) + gaps, at
        if line > wanted.after:
            found.append(_hit(content, begin, data, at, size, line))
        newline = data.find(b"\n", at, edge)
        at = searched.find(wanted.text, newline if newline >= 0 else edge)
    head, tail = data[: min([size - 1, *breaks])], data[max([0, *breaks]) :]
    return _Found(begin, found, head, _last(tail, size - 1), bool(breaks))


def _across(content: Content, wanted: _Wanted, part: _Found, tail: bytes) -> list[Hit]:
    """Return the hit that begins in `tail`, the bytes before a part, and ends in the part, if there is one."""
    if not tail:
        return []
    size, joined = len(wanted.text), wanted.found_in(tail + part.head)
    at = joined.find(wanted.text)
    if at < 0 or at >= len(tail):
        return []
    position = part.begin - len(tail) + at
    return [_hit(content, position, b"", 0, size, line_at(content, position))]


def _hit(content: Content, base: int, data: bytes, at: int, size: int, line: int) -> Hit:
    """Return the hit at a place of the bytes that begin at position `base`; read more if its line goes on."""
    chunks, position = content.index.chunks, base + at
    left, right = max(0, position - AROUND), min(content.index.covered, position + size + AROUND)
    if not data or ((left < base or right > base + len(data)) and chunks.at(right) - chunks.at(left) < FEW):
        data, base = content.between(left, right), left
    left, right = max(left, base), min(right, base + len(data))
    edges = chunks.breaks(left + 1, right)
    left = max([left, *[each for each in edges if each <= position]])
    right = min([right, *[each for each in edges if each > position]])
    shown, at = data[left - base : right - base], position - left
    first, newline = shown.rfind(b"\n", 0, at) + 1, shown.find(b"\n", at)
    last = newline if newline >= 0 else len(shown)
    cut_before = not first and left > 0 and not chunks.breaks(left, left + 1)
    cut_after = newline < 0 and right < content.index.covered and not chunks.breaks(right, right + 1)
    head, tail = shown[first:at], shown[at + size : last]
    return Hit(
        line,
        chunks.offset(position),
        (head[before(head) :] if cut_before else head).decode(errors="replace"),
        shown[at : at + size].decode(errors="replace"),
        (tail[: whole(tail)] if cut_after else tail).decode(errors="replace"),
        cut_before,
        cut_after,
    )


def _last(data: bytes, count: int) -> bytes:
    """Return at most `count` bytes from the end."""
    return data[max(0, len(data) - count) :]
