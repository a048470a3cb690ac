"""The history strip of a job: its last runs as bars. A bar's height is the run's duration, its colour the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.views.history.shapes import PastRun
from provisioner.faces.page.charts.scale import kind_of, lasted, marked

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
    height: float
    #: Whether there is a mark below the bar.
    marked: bool


@dataclass(frozen=True)
class Strip:
    """A strip. A list of jobs has thousands of bars, so all bars of one kind are drawn as one path."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    #: The whole strip in words, for screen readers.
    text: str

    @property
    def paths(self) -> Mapping[str, str]:
        """The bars as the path of each kind."""
        found: dict[str, str] = {}
        for bar in self.bars:
            found[bar.kind] = f"{found.get(bar.kind, '')}M{bar.x} {bar.y:g}h{WIDTH}v{bar.height:g}h-{WIDTH}z"
        return found

    @property
    def marks(self) -> str:
        """The marks as one path."""
        return "".join(
            f"M{bar.x + 1} {TALLEST + 1}h{WIDTH - 2}v{MARK}h-{WIDTH - 2}z" for bar in self.bars if bar.marked
        )

    @property
    def runs(self) -> str:
        """The beginnings of the runs' ids, from the right: a script opens the run of the bar that is clicked."""
        return " ".join(bar.run[:12] for bar in reversed(self.bars))


def strip(runs: Sequence[PastRun], now: float, places: int = 30) -> Strip:
    """Return the strip of at most `places` of a job's runs, which are given newest first; the newest is on the right.

    Places of runs that do not exist stay empty, so that strips of several jobs have the same width.
    """
    shown = list(runs[:places])
    longest = max((lasted(run, now) for run in shown), default=0.0)
    bars = []
    for place, run in enumerate(shown):
        height = max(LOWEST, TALLEST * lasted(run, now) / longest) if longest else LOWEST
        x, y, high = (places - 1 - place) * (WIDTH + GAP), round(TALLEST - height, 1), round(height, 1)
        bars.append(Bar(run.id, kind_of(run), x, y, high, marked(run)))
    return Strip(places * (WIDTH + GAP) - GAP, TALLEST + 1 + MARK, tuple(reversed(bars)), _summary(shown))


def _summary(runs: Sequence[PastRun]) -> str:
    if not runs:
        return "no runs"
    counts: dict[str, int] = {}
    for run in runs:
        counts[kind_of(run)] = counts.get(kind_of(run), 0) + 1
    told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items()))
    return f"last {len(runs)} runs: {told}"
