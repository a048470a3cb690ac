"""The rows of a log on the page: lines with their colours, and gaps."""

from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.core.views.log import Gap, Hit, Line, LinePage
from provisioner.faces.page.ansi import Painter, Span, last_state


@dataclass(frozen=True)
class Row:
    """One line, or with `gap` missing bytes."""

    number: int = 0
    spans: tuple[Span, ...] = ()
    #: Bytes left out after `spans`, and the text after them.
    cut: int = 0
    end: tuple[Span, ...] = ()
    #: Bytes that a progress bar has overwritten.
    overwritten: int = 0
    gap: Gap | None = None


def rows(page: LinePage) -> list[Row]:
    """Return the rows of a page of lines, for parts/lines.html."""
    gaps = {gap.before: gap for gap in page.gaps}
    found: list[Row] = []
    for line in page.lines:
        if gap := gaps.pop(line.number, None):
            found.append(Row(gap=gap))
        found.append(_row(line))
    return [*found, *(Row(gap=gap) for gap in gaps.values())]


def hit_spans(hit: Hit) -> Iterator[tuple[Span, bool]]:
    """Yield the spans of a hit, and whether each one is a part of the text that was found."""
    painter = Painter()
    for text, found in ((hit.before, False), (hit.match, True), (hit.after, False)):
        for span in painter.paint(text):
            yield span, found


def _row(line: Line) -> Row:
    painter = Painter()
    if line.cut:
        head, begin = tuple(painter.paint(line.text)), last_state(line.end)
        end = tuple(painter.paint(line.end, last=True))
        if begin:
            return Row(line.number, end, overwritten=line.size - len(line.end[begin:].encode()))
        return Row(line.number, head, line.cut, end)
    over = len(line.text[: last_state(line.text)].encode())
    return Row(line.number, tuple(painter.paint(line.text, last=True)), overwritten=over)
