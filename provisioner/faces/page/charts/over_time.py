"""A job's runs over time: a bar for each run, as high as it lasted or as it cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.caps.budget import dollars
from provisioner.core.views.history.shapes import PastRun
from provisioner.faces.page.charts.scale import (
    Tick,
    kind_of,
    lasted,
    marked,
    of_numbers,
    of_seconds,
    spoken,
    ticks,
    took,
)

#: Pixels of the drawing's height, of the room above and below it for half of a label, and of the lowest bar, so that a
#: short run stays visible.
TALL, ROOM, LOWEST = 120, 10, 2
#: Fewer runs leave room on the left, so that bars are not too wide; and the share of its place that a bar takes.
PLACES, FILLED = 30, 0.8


@dataclass(frozen=True)
class Bar:
    """One run; `x` and `width` are in percent of the drawing's width, `y` and `height` in pixels."""

    run: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    #: Whether there is a mark below the bar, because the run did not succeed: colour alone must not tell this.
    marked: bool
    #: The text that a pointer shows.
    text: str


@dataclass(frozen=True)
class OverTime:
    """One chart. Its widths are in percent, so that it fits every screen without distorted text."""

    #: Pixels of the whole height, and of the drawing's: the y of ticks, bars and median count from `top`.
    height: int
    top: int
    bottom: int
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    #: The y of the median; None without bars.
    median: float | None
    #: The whole chart in words, for screen readers.
    text: str


def durations(runs: Sequence[PastRun], median: float | None, now: float) -> OverTime:
    """Return the chart of the runs' durations, which are given newest first."""
    values = [None if run.began_at is None else lasted(run, now) for run in runs]
    middle = "" if median is None else f"; a run that succeeds takes {took(median)} (median)"
    text = f"durations of the last {len(runs)} runs{middle}"
    return _chart(runs, values, of_seconds, took, median, text, lambda run: spoken(run, now))


def costs(runs: Sequence[PastRun]) -> OverTime:
    """Return the chart of what the runs cost at most, which are given newest first."""
    values = [run.dollars_at_most for run in runs]
    known = [value for value in values if value is not None]
    text = f"costs of the last {len(runs)} runs: {dollars(sum(known))} together"
    if len(known) < len(values):
        text += f"; the cost of {len(values) - len(known)} of them is not known"

    def said(run: PastRun) -> str:
        cost = "an unknown cost" if run.dollars_at_most is None else dollars(run.dollars_at_most)
        return f"{kind_of(run).replace('_', ' ')}, {cost}, run {run.id[:12]}"

    return _chart(runs, values, of_numbers, dollars, None, text, said)


def _chart(
    runs: Sequence[PastRun],
    values: Sequence[float | None],
    step: Callable[[float], float],
    label: Callable[[float], str],
    median: float | None,
    text: str,
    said: Callable[[PastRun], str],
) -> OverTime:
    most = max((value for value in values if value is not None), default=0.0)
    lines = ticks(most, step(most), TALL, label)
    top = lines[-1].value
    places = max(PLACES, len(runs))
    slot = 100 / places
    bars = []
    for place, (run, value) in enumerate(zip(runs, values, strict=True), 1):
        if value is not None:
            height = round(max(LOWEST, TALL * value / top), 1)
            x = round(slot * (places - place + (1 - FILLED) / 2), 3)
            bars.append(
                Bar(
                    run.id,
                    kind_of(run),
                    x,
                    round(TALL - height, 1),
                    round(slot * FILLED, 3),
                    height,
                    marked(run),
                    said(run),
                )
            )
    at = None if median is None or not bars else round(TALL * (1 - min(median, top) / top), 1)
    return OverTime(TALL + 2 * ROOM, ROOM, TALL, tuple(lines), tuple(reversed(bars)), at, text)
