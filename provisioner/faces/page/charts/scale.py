"""What the charts of runs share: the size and the words of a run, and axes with round numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.core import units
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.history.shapes import PastRun

#: Steps of an axis of seconds.
TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Tick:
    """A line of an axis, with its value in the axis's unit and as text."""

    at: float
    value: float
    text: str


def kind_of(run: PastRun) -> str:
    """Return the run's outcome, or its state while it has not ended."""
    return str(run.outcome or run.state)


def marked(run: PastRun) -> bool:
    """Return whether the run ended without success."""
    return run.outcome is not None and run.outcome is not Outcome.SUCCEEDED


def lasted(run: PastRun, now: float) -> float:
    """Return the seconds from the run's first machine to its end, or to `now`; 0 if it had no machine."""
    return 0.0 if run.began_at is None else max(0.0, (now if run.ended_at is None else run.ended_at) - run.began_at)


def spoken(run: PastRun, now: float) -> str:
    """Return a run in words."""
    told = f" in {took(lasted(run, now))}" if run.began_at is not None else ""
    return f"{kind_of(run).replace('_', ' ')}{told}, run {run.id[:12]}"


def took(seconds: float) -> str:
    """Return a duration in at most two units, without a second unit of zero."""
    return units.duration(seconds).removesuffix(" 0 s").removesuffix(" 0 min").removesuffix(" 0 h")


def of_seconds(most: float) -> float:
    """Return a round step for an axis of seconds up to `most`, with at most four steps."""
    return next((step for step in TIMES if step * 4 >= most), None) or of_numbers(most / 86400) * 86400


def of_numbers(most: float) -> float:
    """Return a round step, 1, 2 or 5 times a power of ten, for an axis up to `most`, with at most four steps."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most / 4))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 4 >= most * (1 - 1e-9))


def ticks(most: float, step: float, height: float, text: Callable[[float], str]) -> Sequence[Tick]:
    """Return the axis's lines from 0 to the first that is at least `most`; the axis grows upwards."""
    count = max(1, math.ceil(most / step - 1e-9))
    return [Tick(round(height * (1 - each / count), 1), each * step, text(each * step)) for each in range(count + 1)]
