"""Waterfall chart for `provision receipt --waterfall`: the run's phases, drawn to scale, one line each."""

import sys
from collections.abc import Iterator, Sequence

from provisioner.core.plain import plain
from provisioner.core.units import duration
from provisioner.core.views.receipt import Phase, Receipt

#: Columns if the width of the terminal is unknown, and the fewest columns for the bars.
WIDTH, NARROWEST = 100, 10
#: Characters of the bars: those of phases, and those of phases that ran beside another phase.
PLAIN, BLOCKS = "#-", "█░"


def marks() -> str:
    """Return BLOCKS for a terminal with UTF-8, else PLAIN."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return BLOCKS if sys.stdout.isatty() and encoding == "utf8" else PLAIN


def waterfall(item: Receipt, now: float, width: int | None = None, marks: str = PLAIN) -> Iterator[str]:
    """Yield the lines, attempts in order, at most `width` columns if possible; open phases are drawn until `now`."""
    ordered = sorted(item.phases, key=lambda phase: (phase.attempt, phase.began, phase.beside))
    end = max((_end(phase, now) for phase in ordered), default=now)
    several = len({phase.attempt for phase in ordered}) > 1
    labels = [_label(phase, several) for phase in ordered]
    starts = [f"+{phase.began - item.created_at:.1f}" for phase in ordered]
    lasts = [f"{_end(phase, now) - phase.began:.1f} s{' ' if phase.ended is not None else '+'}" for phase in ordered]
    columns = [max(map(len, column), default=0) for column in (labels, starts, lasts)]
    room = max(NARROWEST, (width or WIDTH) - sum(columns) - 2 * len(columns))
    yield f"run {item.run[:12]} ({item.owner}/{item.job}): {duration(end - item.created_at)} from the trigger"
    for phase, label, start, last in zip(ordered, labels, starts, lasts, strict=True):
        bar = _bar(phase, item.created_at, end, now, room, marks)
        facts = f"{label:{columns[0]}}  {start:>{columns[1]}}  {last:>{columns[2]}}"
        yield f"{facts}  {bar}"


def _end(phase: Phase, now: float) -> float:
    return phase.ended if phase.ended is not None else max(now, phase.began)


def _label(phase: Phase, several: bool) -> str:
    attempt = f"{phase.attempt} " if several else ""
    rank = f" of rank {phase.rank}" if phase.rank else ""
    return plain(f"{attempt}{'  ' if phase.beside else ''}{phase.name}{rank}")


def _bar(phase: Phase, since: float, until: float, now: float, room: int, marks: Sequence[str]) -> str:
    """Return the phase's bar at its place among `room` columns; the shortest phase gets one column."""
    scale = room / (until - since) if until > since else 0.0
    first = min(room - 1, round((phase.began - since) * scale))
    last = max(first + 1, round((_end(phase, now) - since) * scale))
    return " " * first + marks[phase.beside] * (last - first)
