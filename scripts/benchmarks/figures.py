"""Figures of measures with their baselines, and the differences between two sets of figures."""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

#: A figure has moved if it differs by more than this share of the old value, and by more than so many spreads.
SHARE, SPREADS = 0.1, 3.0


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    #: Cost of a minimal equivalent on this computer, in the same unit and from the same run.
    baseline: float | None
    #: value / baseline
    ratio: float | None
    n: int
    #: Half of the samples' interquartile range: an estimate of the noise between two runs of the same code.
    spread: float = 0.0
    #: Target of the value as text, such as `<= 1`; empty for none.
    aim: str = ""


def figure(
    name: str, value: float, unit: str, baseline: float | None = None, *, n: int = 1, spread: float = 0.0, aim: str = ""
) -> Figure:
    ratio = value / baseline if baseline else None
    return Figure(name, _rounded(value), unit, _rounded(baseline), _rounded(ratio), n, _rounded(spread), aim)


def of_samples(
    name: str, samples: Sequence[float], unit: str, baseline: float | None = None, *, at: float = 0.5, aim: str = ""
) -> Figure:
    """Return the figure whose value is the quantile `at` of the samples; 0.5 is the median."""
    ordered = sorted(samples)
    spread = (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / 2
    return figure(name, quantile(ordered, at), unit, baseline, n=len(ordered), spread=spread, aim=aim)


def quantile(ordered: Sequence[float], at: float) -> float:
    """Return the quantile `at` of sorted samples by nearest rank: the share `at` of all samples is not above it."""
    return ordered[max(0, math.ceil(at * len(ordered)) - 1)]


def seconds(deed: Callable[[], object], times: int) -> list[float]:
    """Return the seconds of each of `times` calls of `deed`, after one call that is not counted."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        deed()
        found.append(time.perf_counter() - began)
    return found[1:]


def median_seconds(deed: Callable[[], object], times: int) -> float:
    return statistics.median(seconds(deed, times))


def line(found: Figure) -> str:
    return json.dumps(asdict(found))


def read(path: Path) -> list[Figure]:
    """Return the figures that an earlier run has printed to the file; other lines are ignored."""
    return [Figure(**json.loads(text)) for text in path.read_text().splitlines() if text.startswith("{")]


def moved(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    """Return a line for each figure that is new, or differs by more than the noise of both runs."""
    before = {each.name: each for each in old}
    lines = []
    for each in new:
        was = before.get(each.name)
        if was is None:
            lines.append(f"{each.name}: new, {each.value} {each.unit}")
            continue
        difference = each.value - was.value
        if abs(difference) > max(SHARE * abs(was.value), SPREADS * max(was.spread, each.spread)):
            share = f" ({difference / was.value:+.0%})" if was.value else ""
            lines.append(f"{each.name}: {was.value} -> {each.value} {each.unit}{share}")
    return lines


@overload
def _rounded(number: float) -> float: ...
@overload
def _rounded(number: None) -> None: ...
@overload
def _rounded(number: float | None) -> float | None: ...
def _rounded(number: float | None) -> float | None:
    # Four digits: more would only be noise.
    return None if number is None else float(f"{number:.4g}")
