"""Read lines of a stream: a bounded number of bytes and of reads, however long the stream and its lines are."""

from dataclasses import dataclass
from itertools import pairwise

from provisioner.core.logs.lines import Index
from provisioner.core.views.log import Gap, Line, LinePage
from provisioner.ports.control.logs import LineQuery
from provisioner.service.log_lines.content import Content

#: Bytes of the beginning and of the end of a line that are shown; a line of up to both together is shown whole.
HEAD, TAIL = 6 << 10, 2 << 10
#: A page ends after it has read this many bytes, or has this many in its lines.
READ_MOST, SHOWN_MOST = 4 << 20, 1 << 20
#: Number of segments that are read at the same time.
AT_ONCE = 4


@dataclass
class _Starts:
    """Where consecutive lines begin, and the bytes that were read to find this out."""

    first: int
    positions: list[int]
    #: The bytes by the position of the first one; segments that follow each other are joined.
    read: dict[int, bytearray]


def page(content: Content, query: LineQuery) -> LinePage:
    index = content.index
    first = _first(content, query)
    count = max(0, min(query.count, index.lines - first + 1))
    lines = _lines(content, first, count) if count else []
    # Find gaps from the first line of the page to its last line, or to the end of the stream if no line follows.
    start = index.chunks.position(lines[0].offset) if lines else index.size
    last = first + len(lines) > index.lines
    end = index.covered + 1 if last else index.chunks.position(lines[-1].offset) + lines[-1].size if lines else start
    node = content.node
    return LinePage(
        node.attempt,
        node.rank,
        content.stream,
        first,
        tuple(lines),
        _gaps(content, lines, start, end) if content.over or lines else (),
        index.lines,
        not index.ended and not content.over,
        content.over,
        index.size,
        index.covered,
    )


def line_at(content: Content, position: int) -> int:
    """Return the number of the line with the byte at a position that was read."""
    begin, end = content.index.segment(content.index.segment_of(position))
    return content.index.line_at(position, begin, content.between(begin, end))


def _first(content: Content, query: LineQuery) -> int:
    index = content.index
    if query.offset is not None and index.covered:
        return line_at(content, min(index.chunks.position(query.offset), index.covered - 1))
    if query.first is None:
        return max(1, index.lines - query.count + 1)
    return min(max(1, query.first), index.lines + 1)


def _gaps(content: Content, lines: list[Line], start: int, end: int) -> tuple[Gap, ...]:
    numbers = {content.index.chunks.position(line.offset): line.number for line in lines}
    return tuple(
        Gap(numbers.get(gap.position, content.index.lines + 1), gap.offset, gap.length)
        for gap in content.index.gaps(start, end)
    )


def _lines(content: Content, first: int, count: int) -> list[Line]:
    index, starts = content.index, _starts(content, first, count)
    found: list[Line] = []
    shown = 0
    for number, (start, end) in enumerate(_ranges(index, starts)[:count], first):
        last = _bytes(content, starts, end - 1, end)
        ended = last == b"\n"
        line = _line(content, starts, number, start, end - ended)
        shown += len(line.text) + len(line.end)
        found.append(line)
        if shown >= SHOWN_MOST:
            break
    return found


def _starts(content: Content, first: int, count: int) -> _Starts:
    """Return where lines begin: `count` lines, fewer after READ_MOST bytes, and the line after the last one."""
    index = content.index
    found = _Starts(first, [0] if first == 1 else [], {})
    numbers = index.segments_of(first, count)
    # Lines that begin before the first one, in the same segment.
    skip = first - 1 - index.counts[numbers[0]] if first > 1 else 0
    begin, read = -1, 0
    for at in range(0, len(numbers), AT_ONCE):
        group = numbers[at : at + AT_ONCE]
        for number, data in zip(group, content.segments(group), strict=True):
            found.positions += index.starts(number, data)
            start = index.segment(number)[0]
            if begin < 0 or begin + len(found.read[begin]) != start:
                begin = start
                found.read[begin] = bytearray()
            found.read[begin] += data
            read += len(data)
        if read >= READ_MOST and len(found.positions) - skip > 1:
            break
    found.positions = found.positions[skip : skip + count + 1]
    return found


def _ranges(index: Index, starts: _Starts) -> list[tuple[int, int]]:
    """Return where each line begins and ends; the end of the last one is known if nothing follows it."""
    positions = starts.positions
    if starts.first + len(positions) - 1 == index.lines:
        positions = [*positions, index.covered]
    return list(pairwise(positions))


def _line(content: Content, starts: _Starts, number: int, start: int, end: int) -> Line:
    offset, size = content.index.chunks.offset(start), end - start
    if size <= HEAD + TAIL:
        return Line(number, offset, size, _bytes(content, starts, start, end).decode(errors="replace"))
    head = _bytes(content, starts, start, start + HEAD)
    tail = _bytes(content, starts, end - TAIL, end)
    # Do not cut a UTF-8 character.
    head, tail = head[: whole(head)], tail[before(tail) :]
    return Line(
        number,
        offset,
        size,
        head.decode(errors="replace"),
        size - len(head) - len(tail),
        tail.decode(errors="replace"),
    )


def whole(data: bytes) -> int:
    """Return the number of bytes without a UTF-8 character that is cut at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if length > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def before(data: bytes) -> int:
    """Return the number of bytes at the beginning that end a UTF-8 character."""
    return next((at for at, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)


def _bytes(content: Content, starts: _Starts, start: int, end: int) -> bytes:
    """Return bytes from the segments that were read; other bytes, of long lines, are read now."""
    for begin, data in starts.read.items():
        if begin <= start and end <= begin + len(data):
            return bytes(data[start - begin : end - begin])
    return content.between(start, end)
