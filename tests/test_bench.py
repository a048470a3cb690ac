"""scripts/bench: what it prints. Its measurements are not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCH = (sys.executable, "-m", "scripts.benchmarks")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BENCH, *words], cwd=ROOT, capture_output=True, text=True, check=True)


def test_a_measure_prints_figures_that_can_be_compared(tmp_path: Path) -> None:
    """Each line is one JSON object with a baseline, and a later run is compared with it."""
    assert "help " in bench("--quick", "--list").stdout
    printed = bench("--quick", "help").stdout
    (figure,) = map(json.loads, printed.splitlines())
    assert {"name", "value", "unit", "baseline", "ratio", "n"} <= figure.keys()
    old = tmp_path / "old.json"
    old.write_text(json.dumps({**figure, "value": 100.0}) + "\n")
    assert "help: 100.0 -> " in bench("--quick", "help", "--compare", str(old)).stderr


@pytest.mark.load
def test_hostile_mailboxes_cost_no_answer_and_little_memory() -> None:
    """The benchmark runs for one minute with a fixed seed.

    The delay before other owners' runs start is printed, not asserted: the computer may be busy.
    """
    words = (sys.executable, "-m", "scripts.benchmarks.hostile", "--minutes", "1", "--seed", "1")
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout, found.stderr
    told = json.loads(found.stdout.splitlines()[-1])
    print(found.stdout)
    assert told["failed"] == {}
    assert not [each for each in told["broken"] if "start" not in each], told
