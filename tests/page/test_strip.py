"""The geometry of the history strip."""

from dataclasses import replace

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.faces.page.charts import strip as strips
from provisioner.faces.page.charts.strip import strip
from tests.support.past_runs import past


def test_newest_run_is_on_the_right_and_the_longest_is_tallest() -> None:
    found = strip([past(50, id="new"), past(100, id="old")], now=0.0)
    assert [bar.run for bar in found.bars] == ["old", "new"]
    old, new = found.bars
    assert new.x + strips.WIDTH == found.width
    assert old.x < new.x
    assert (old.height, new.height) == (strips.TALLEST, strips.TALLEST / 2)
    # All bars stand on one line.
    assert {bar.y + bar.height for bar in found.bars} == {strips.TALLEST}


def test_strip_of_few_runs_is_as_wide_as_that_of_many() -> None:
    assert strip([past(1)], 0.0).width == strip([past(1)] * 40, 0.0).width
    assert len(strip([past(1)] * 40, 0.0).bars) == 30


def test_short_run_and_run_without_a_machine_stay_visible() -> None:
    unbound = replace(past(0, None), began_at=None, state=State.QUEUED)
    found = strip([unbound, past(0.01), past(9000)], now=200.0)
    assert [bar.height for bar in found.bars] == [strips.TALLEST, strips.LOWEST, strips.LOWEST]
    assert all(bar.height == strips.LOWEST for bar in strip([unbound], now=200.0).bars)


def test_run_that_did_not_succeed_is_marked_not_only_by_colour() -> None:
    runs = [past(1, None), past(1, Outcome.FAILED), past(1)]
    found = strip(runs, now=200.0)
    assert [(bar.kind, bar.marked) for bar in found.bars] == [
        ("succeeded", False),
        ("failed", True),
        ("running", False),
    ]


def test_strip_is_told_in_words() -> None:
    runs = [past(1, Outcome.TIMED_OUT), past(1), past(1)]
    assert strip(runs, 0.0).text == "last 3 runs: 2 succeeded, 1 timed out"
    assert strip([], 0.0).text == "no runs"


def test_bars_of_one_kind_are_one_path() -> None:
    """A list of jobs has thousands of bars."""
    found = strip([past(11, Outcome.FAILED), past(22), past(22)], 0.0, places=3)
    assert found.paths == {"succeeded": "M0 0h5v22h-5zM7 0h5v22h-5z", "failed": "M14 11h5v11h-5z"}
    assert found.marks == "M15 23h3v3h-3z"


def test_running_bar_grows_until_now() -> None:
    first, later = (strip([past(0, None), past(100)], now).bars[-1].height for now in (120.0, 150.0))
    assert first < later
