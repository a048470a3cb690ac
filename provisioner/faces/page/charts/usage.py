"""Geometry of the charts of usage: a column for each day or month, divided by use, and a bar for each group."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.usage.amounts import Use
from provisioner.core.views.costs.usage import Usage, UsageRow

#: Kinds of use, from the bottom of a column to its top, with their words.
KINDS: Mapping[str, str] = {
    "kept": "succeeded",
    "failed": "failed or refused",
    "taken": "interrupted or lost",
    "stopped": "stopped or timed out",
    "waited": "waiting for peers, or for the next attempt",
    "unattributed": "unattributed",
    "open": "not ended yet",
}
_KIND_OF = {
    Use.SUCCEEDED: "kept",
    Use.FAILED: "failed",
    Use.REFUSED: "failed",
    Use.LOST: "taken",
    Use.INTERRUPTED: "taken",
    Use.CANCELLED: "stopped",
    Use.TIMED_OUT: "stopped",
    Use.WAITING: "waited",
    Use.KEPT: "waited",
    Use.UNATTRIBUTED: "unattributed",
    Use.UNFINISHED: "open",
}
#: Height of the columns in pixels, of the room above them, and of the least visible part.
HEIGHT, TOP, LEAST = 150.0, 12.0, 2.0
#: Room for the labels of the dollars, in percent of the width, and the share of its place that a column fills.
LEFT, FILLED = 8.0, 0.72
#: Maximum number of labels on the axis.
LABELS = 8


@dataclass(frozen=True)
class Piece:
    """The part of a column for one kind of use, in pixels from the top."""

    kind: str
    y: float
    height: float
    dollars: float


@dataclass(frozen=True)
class Column:
    """A day or a month. `x` and `width` are in percent of the chart's width."""

    name: str
    x: float
    width: float
    dollars: float
    #: The part of `dollars` that is an estimate.
    estimated: float
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Mark:
    """A label on an axis: at `x` percent, or at `y` pixels."""

    text: str
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Columns:
    columns: tuple[Column, ...]
    #: Labels of the days or months, and of the dollars.
    across: tuple[Mark, ...]
    up: tuple[Mark, ...]
    #: The kinds that occur, with their dollars.
    kinds: tuple[tuple[str, float], ...]
    height: float = TOP + HEIGHT


def columns(item: Usage) -> Columns:
    """Return a column for each day or month of the period; `item` is grouped by one of them and by use."""
    monthly = item.by[0] == "month"
    names = _months(item) if monthly else _days(item)
    sums: dict[str, dict[str, float]] = {name: {} for name in names}
    estimated = dict.fromkeys(names, 0.0)
    for row in item.rows:
        name, use = row.group
        kind = kind_of(use)
        sums[name][kind] = sums[name].get(kind, 0.0) + row.total
        estimated[name] += row.estimated.total
    top = ceiling(max((sum(parts.values()) for parts in sums.values()), default=0.0))
    place = (100 - LEFT) / len(names)
    made = tuple(
        Column(
            name,
            LEFT + number * place + place * (1 - FILLED) / 2,
            place * FILLED,
            sum(parts.values()),
            estimated[name],
            tuple(_pieces(parts, top)),
        )
        for number, (name, parts) in enumerate(sums.items())
    )
    every = math.ceil(len(names) / LABELS)
    across = tuple(
        Mark(name if monthly else name[5:], x=LEFT + (number + 0.5) * place)
        for number, name in enumerate(names)
        if number % every == 0
    )
    up = tuple(Mark(axis_text(top * share), y=TOP + HEIGHT * (1 - share)) for share in (0.5, 1.0)) if top else ()
    totals = ((kind, sum(parts.get(kind, 0.0) for parts in sums.values())) for kind in KINDS)
    return Columns(made, across, up, tuple((kind, dollars) for kind, dollars in totals if dollars))


def kind_of(use: str) -> str:
    """Return the kind of a use; one that another version wrote is not ended."""
    return _KIND_OF[Use(use)] if use in set(Use) else "open"


def _pieces(parts: Mapping[str, float], top: float) -> Iterable[Piece]:
    floor = TOP + HEIGHT
    for kind in KINDS:
        if (dollars := parts.get(kind, 0.0)) > 0:
            height = min(max(LEAST, dollars / top * HEIGHT), floor - TOP)
            floor -= height
            yield Piece(kind, floor, height, dollars)


def ceiling(most: float) -> float:
    """Return the end of the axis: the next of 1, 2, 5, 10, 20 … dollars or of their fractions; 0 for 0."""
    if most <= 0:
        return 0.0
    # Amounts are whole numbers of nanodollars.
    most = max(most, 1e-9)
    unit = 10.0 ** math.floor(math.log10(most))
    return next(step * unit for step in (1, 2, 5, 10) if step * unit >= most * (1 - 1e-9))


def axis_text(dollars: float) -> str:
    return f"${dollars:,.0f}" if dollars >= 10 or dollars == 0 else f"${dollars:.2g}"


def _days(item: Usage) -> Sequence[str]:
    first, last = dt.date.fromisoformat(item.first), dt.date.fromisoformat(item.last)
    return [(first + dt.timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def _months(item: Usage) -> Sequence[str]:
    first, last = (int(day[:4]) * 12 + int(day[5:7]) - 1 for day in (item.first, item.last))
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(first, last + 1)]


@dataclass(frozen=True)
class Line:
    """A group with its bar; the widths are in percent of the largest group's."""

    group: tuple[str, ...]
    row: UsageRow
    final: float
    estimated: float


def lines(rows: Sequence[UsageRow]) -> tuple[Line, ...]:
    """Return a bar for each group."""
    most = max((row.total for row in rows), default=0.0)
    share = 100 / most if most > 0 else 0.0
    return tuple(Line(row.group, row, row.final.total * share, row.estimated.total * share) for row in rows)
