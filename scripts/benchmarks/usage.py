"""Compare usage with the double's own history, over many runs with failures, interruptions and gangs."""

from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.figures import Figure, figure
from tests.service import test_usage

#: Number of runs, and seconds between two passes of the control plane, as while runs are unfinished.
RUNS, BUSY = 500, 1.0


def usage(_: Path, quick: bool) -> Iterator[Figure]:
    """Dollars by which the usage of 500 runs differs from what the double's own history costs; baseline: that cost."""
    played = test_usage.played(test_usage.RUNS if quick else RUNS, 16, test_usage.BUSY if quick else BUSY)
    for by in ((), ("owner",)):
        told, known = test_usage.rows(played, *by), test_usage.truth(played, *by)
        for group, dollars in known.items():
            name = f"usage differs {' '.join(group) or 'in all'}"
            yield figure(name, abs(told[group].final.total - dollars), "$", dollars, aim="< 0.01")
