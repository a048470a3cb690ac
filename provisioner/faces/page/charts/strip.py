"""The history strip of a job: its last runs as bars. A bar's height is the run's duration, its colour the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.views.history.shapes import PastRun
from provisioner.faces.page.charts.scale import kind_of, lasted, spoken

#: Pixels of a bar, of the gap after it, of the tallest and of the lowest bar.
WIDTH, GAP, TALLEST, LOWEST = 5, 2, 22, 3
#: Pixels of the mark below a run that did not succeed: colour alone must not tell this.
MARK = 3


@dataclass(frozen=True)
class Bar:
    """One run; `kind` is its outcome, or its state while it has not ended."""

    run: str
    kind: str
    x: int
    y: float
    width: int
    height: float
    #: Whether there is a mark below the bar.
    marked: bool
    #: The text that a pointer shows.
    text: str


@dataclass(frozen=True)
class Strip:
    width: int
    height: int
    bars: tuple[Bar, ...]
    #: The whole strip in words, for screen readers.
    text: str


def strip(runs: Sequence[PastRun], now: float, places: int = 30) -> Strip:
    """Return the strip of at most `places` of a job's runs, which are given newest first; the newest is on the right.

    Places of runs that do not exist stay empty, so that strips of several jobs have the same width.
    """
    shown = list(runs[:places])
    longest = max((lasted(run, now) for run in shown), default=0.0)
    bars = []
    for place, run in enumerate(shown):
        height = max(LOWEST, TALLEST * lasted(run, now) / longest) if longest else LOWEST
        x = (places - 1 - place) * (WIDTH + GAP)
        kind = kind_of(run)
        marked = run.outcome is not None and run.outcome != "succeeded"
        bars.append(Bar(run.id, kind, x, round(TALLEST - height, 1), WIDTH, round(height, 1), marked, spoken(run, now)))
    return Strip(places * (WIDTH + GAP) - GAP, TALLEST + 1 + MARK, tuple(reversed(bars)), _summary(shown))


def _summary(runs: Sequence[PastRun]) -> str:
    if not runs:
        return "no runs"
    counts: dict[str, int] = {}
    for run in runs:
        counts[kind_of(run)] = counts.get(kind_of(run), 0) + 1
    told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items()))
    return f"last {len(runs)} runs: {told}"
