"""Search a stream for a text: read it in parallel, a bounded part for each request."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from provisioner.core.errors import Invalid
from provisioner.core.logs.lines import Index
from provisioner.core.views.log import Hit, Hits
from provisioner.ports.control.logs import Search
from provisioner.service.log_lines.content import Content
from provisioner.service.log_lines.pages import before, whole

#: Maximum number of characters of the text.
TEXT_MOST = 1000
#: Bytes of a line that are shown before and after the place.
AROUND = 512
#: About the number of bytes that one thread searches at once, and the number of these parts at the same time.
PART, AT_ONCE = 4 << 20, 8
#: Maximum number of bytes that one request searches.
SEARCHED_MOST = 1 << 30


@dataclass(frozen=True)
class _Wanted:
    text: bytes
    ignore_case: bool
    limit: int
    #: The first position, and the number of the line before the first one that counts.
    start: int
    after: int


def search(content: Content, wish: Search, late: Callable[[], bool]) -> Hits:
    """Return the hits after `wish.after`. `late` returns whether the search must end; then `next` is where it ended."""
    index = content.index
    offset, line = _place(wish.after)
    wanted = _wanted(wish, index.chunks.position(offset), line)
    hits: list[Hit] = []
    done, end = min(wanted.start, index.covered), min(index.covered, wanted.start + SEARCHED_MOST)
    parts = _parts(index, done, end)
    while done < end and len(hits) < wish.limit and not late():
        several = [part for _, part in zip(range(AT_ONCE), parts, strict=False)]
        for part, found in zip(several, content.pool.map(partial(_found, content, wanted), several), strict=True):
            if isinstance(found, Exception):
                raise found
            hits += [hit for hit in found if hit.line > line]
            if hits:
                line = hits[-1].line
            done = part[1]
            if len(hits) >= wish.limit:
                break
    if len(hits) >= wish.limit:
        hits = hits[: wish.limit]
        done, line = index.chunks.position(hits[-1].offset) + 1, hits[-1].line
    # The end of a stream that is still written, or not read yet, is searched by a later request.
    left = done < index.size or len(hits) >= wish.limit
    node = content.node
    return Hits(
        node.attempt,
        node.rank,
        content.stream,
        tuple(hits),
        f"{index.chunks.offset(done)}.{line}" if left else None,
        min(done, index.size),
        index.size,
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


def _parts(index: Index, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of the stream begin and end; each begins with a segment of the index."""
    number = index.segment_of(start)
    while number < len(index.marks) and index.marks[number] < end:
        after = max(number + 1, index.segment_of(index.marks[number] + PART))
        yield index.marks[number], index.segment(after - 1)[1]
        number = after


def _found(content: Content, wanted: _Wanted, part: tuple[int, int]) -> list[Hit]:
    """Return the first hit of each line in a part of the stream, at most `wanted.limit` of them."""
    index, (begin, end) = content.index, part
    # Read a little more on both sides: a hit may end in the next part, and its line may begin in the one before.
    base, stop = max(0, begin - AROUND), min(index.covered, end + AROUND + len(wanted.text))
    data = content.between(base, stop)
    searched = data.lower() if wanted.ignore_case else data
    breaks = index.chunks.breaks(base + 1, stop)
    found: list[Hit] = []
    at = searched.find(wanted.text, max(begin, wanted.start) - base)
    while 0 <= at < end - base and len(found) < wanted.limit:
        size = len(wanted.text)
        if any(base + at < each < base + at + size for each in breaks):
            # These bytes are not beside each other in the stream.
            at = searched.find(wanted.text, at + 1)
            continue
        hit = _hit(index, base, data, at, size, breaks)
        if hit.line > wanted.after:
            found.append(hit)
        newline = searched.find(b"\n", at)
        edge = min((each - base for each in breaks if each - base > at), default=len(data))
        at = searched.find(wanted.text, min(edge, newline if newline >= 0 else edge))
    return found


def _hit(index: Index, base: int, data: bytes, at: int, size: int, breaks: list[int]) -> Hit:
    """Return the hit at data[at : at + size]."""
    inner = [each - base for each in breaks]
    first = max([data.rfind(b"\n", 0, at) + 1, *[each for each in inner if each <= at]])
    newline = data.find(b"\n", at)
    last = min([newline if newline >= 0 else len(data), *[each for each in inner if each > at]])
    left, right = data[max(first, at - AROUND) : at], data[at + size : min(last, at + size + AROUND)]
    cut_left, cut_right = first < at - AROUND or (first == 0 and base > 0), last > at + size + AROUND
    if cut_left:
        left = left[before(left) :]
    if cut_right:
        right = right[: whole(right)]
    return Hit(
        index.line_at(base + at, base, data),
        index.chunks.offset(base + at),
        left.decode(errors="replace"),
        data[at : at + size].decode(errors="replace"),
        right.decode(errors="replace"),
        cut_left,
        cut_right or (newline < 0 and base + len(data) < index.covered),
    )
