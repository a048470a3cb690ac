"""The geometry of the charts of durations and costs."""

from dataclasses import replace
from itertools import pairwise

import pytest

from provisioner.faces.page.charts import over_time, scale
from provisioner.faces.page.charts.over_time import costs, durations
from tests.support.past_runs import past


def test_bars_are_in_order_of_time_and_reach_the_axis_at_their_value() -> None:
    found = durations([past(120, id="new"), past(60, id="old")], None, now=0.0)
    assert [bar.run for bar in found.bars] == ["old", "new"]
    assert found.bars[0].x < found.bars[1].x
    new = found.bars[1]
    line = next(tick for tick in found.ticks if tick.value == 120)
    assert new.y == line.at
    assert {bar.y + bar.height for bar in found.bars} == {found.bottom}


def test_bars_stay_within_the_drawing_for_one_run_and_for_many() -> None:
    for count in (1, 30, 500):
        found = durations([past(10.0 + each) for each in range(count)], 12.0, now=0.0)
        assert len(found.bars) == count
        assert all(bar.x >= 0 and bar.x + bar.width <= 100 for bar in found.bars)
        assert all(left.x + left.width < right.x for left, right in pairwise(found.bars))
        assert all(bar.y >= 0 and bar.height >= over_time.LOWEST for bar in found.bars)
        assert all(0 <= tick.at <= found.bottom for tick in found.ticks)


def test_run_without_a_known_value_leaves_a_gap() -> None:
    """A bar of height 0 would mean that the run was free."""
    dear = replace(past(60, id="dear"), dollars_at_least=1.0, dollars_at_most=2.0)
    found = costs([past(60), dear])
    assert [bar.run for bar in found.bars] == ["dear"]
    assert found.text == "costs of the last 2 runs: $2.00 together; the cost of 1 of them is not known"


def test_chart_without_runs_has_an_axis_and_no_bars() -> None:
    for found in (durations([], None, 0.0), costs([])):
        assert (found.bars, found.median) == ((), None)
        assert len(found.ticks) == 2


def test_median_is_a_line_between_the_bars() -> None:
    found = durations([past(120), past(60)], 90.0, now=0.0)
    assert found.median is not None
    assert found.bars[1].y < found.median < found.bars[0].y
    assert found.text == "durations of the last 2 runs; a run that succeeds takes 1 min 30 s (median)"


@pytest.mark.parametrize(
    ("most", "step"), [(0, 1), (3, 1), (50, 15), (240, 60), (3000, 900), (86400, 21600), (10 * 86400, 5 * 86400)]
)
def test_axis_of_time_has_round_steps(most: float, step: float) -> None:
    assert scale.of_seconds(most) == step


@pytest.mark.parametrize(("most", "step"), [(0, 1), (4, 1), (5, 2), (0.03, 0.01), (1000, 500), (1e-7, 5e-8)])
def test_axis_of_money_has_round_steps(most: float, step: float) -> None:
    assert scale.of_numbers(most) == pytest.approx(step)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (119.6, "2 min"), (3720, "1 h 2 min"), (86400, "1 d")],
)
def test_durations_have_no_second_unit_of_zero(seconds: float, text: str) -> None:
    assert scale.took(seconds) == text
