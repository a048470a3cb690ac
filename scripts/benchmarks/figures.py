"""What a measure gives: figures with their baselines, and what moved between two sets of them."""

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

#: A figure moved if it differs by more than this share, and by more than its own scatter explains.
SHARE, SPREADS = 0.1, 3.0


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    #: The same unit, from the same run: what the machine itself takes for the like.
    baseline: float | None
    #: value / baseline
    ratio: float | None
    n: int
    #: Half the middle half of the samples: how far two runs of the same code differ without a reason.
    spread: float = 0.0
    #: What we want of it, in words.
    aim: str = ""


def figure(
    name: str, value: float, unit: str, baseline: float | None = None, *, n: int = 1, spread: float = 0.0, aim: str = ""
) -> Figure:
    ratio = value / baseline if baseline else None
    return Figure(name, _rounded(value), unit, _rounded(baseline), _rounded(ratio), n, _rounded(spread), aim)


def of_samples(
    name: str, samples: Sequence[float], unit: str, baseline: float | None = None, *, at: float = 0.5, aim: str = ""
) -> Figure:
    """The quantile `at` of the samples: 0.5 is the median."""
    ordered = sorted(samples)
    spread = (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / 2
    return figure(name, quantile(ordered, at), unit, baseline, n=len(ordered), spread=spread, aim=aim)


def quantile(ordered: Sequence[float], at: float) -> float:
    """The smallest sample that is not below the share `at` of all."""
    return ordered[max(0, math.ceil(at * len(ordered)) - 1)]


def seconds(deed: Callable[[], object], times: int) -> list[float]:
    """How long the deed takes, so many times; one more, before, is not counted."""
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
    """Figures as an earlier run has printed them; other lines are passed over."""
    return [Figure(**json.loads(text)) for text in path.read_text().splitlines() if text.startswith("{")]


def moved(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    """A line for each figure that differs by more than the noise of both runs."""
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
