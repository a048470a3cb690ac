"""The geometry of a run's waterfall."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.protocol.words import Outcome
from provisioner.core.views.codec import Moment
from provisioner.core.views.receipt import Phase, Receipt
from provisioner.core.views.run import Attempt
from provisioner.faces.page.charts.waterfall import LEAST, RANKS, ROWS, WIDTH, Row, waterfall

BEGAN = 1_700_000_000.0
#: The least width of a phase, in percent.
TINY = 100 * LEAST / WIDTH


def phase(
    name: str, began: float, seconds: float | None, attempt: int = 1, rank: int = 0, *, beside: bool = False
) -> Phase:
    """Return a phase that begins so many seconds after the trigger, and is open if `seconds` is None."""
    at = Moment(BEGAN + began)
    ended = None if seconds is None else Moment(at + seconds)
    return Phase(name, attempt, rank, beside, True, at, ended, seconds, "store", "store", 0.0, "store", 0.0)


def receipt(*phases: Phase, outcome: Outcome | None = None) -> Receipt:
    at = Moment(BEGAN)
    return Receipt("r1", "job", "ann", outcome, None, None, True, at, None, phases, (), None, None, None, None, None)


def attempt(number: int = 1, rank: int = 0, outcome: Outcome | None = None) -> Attempt:
    none: dict[str, int] = {}
    at = Moment(BEGAN)
    rest = (None,) * 6
    return Attempt(
        number,
        rank,
        f"i-{number}-{rank}",
        at,
        None,
        none,
        none,
        *rest,
        30.0,
        None,
        outcome,
        None,
        None,
        "",
        at,
        None,
        at,
    )


def drawn(*phases: Phase, attempts: tuple[Attempt, ...] = (), now: float = 0.0) -> tuple[Row, ...]:
    return waterfall(receipt(*phases), attempts, BEGAN + now).rows


ONE_HOUR = (
    phase("queued", 0, 0.5),
    phase("launching", 0.5, 1),
    phase("boot", 1.5, 20),
    phase("command", 21.5, 3600),
    phase("closing", 3621.5, 1),
)


def test_phases_of_an_attempt_follow_each_other_over_the_whole_width() -> None:
    [row] = drawn(*ONE_HOUR)
    assert [bar.name for bar in row.bars] == ["queued", "launching", "boot", "command", "closing"]
    assert row.bars[0].x == 0
    for one, next in pairwise(row.bars):
        assert one.x + one.width == pytest.approx(next.x, abs=0.01)
    assert row.bars[-1].x + row.bars[-1].width == pytest.approx(100, abs=0.01)


def test_short_phase_is_visible_beside_an_hour() -> None:
    [row] = drawn(*ONE_HOUR)
    assert min(bar.width for bar in row.bars) == pytest.approx(TINY, abs=0.01)
    assert row.bars[3].width > 90


def test_long_phases_are_to_scale() -> None:
    [row] = drawn(phase("boot", 0, 100), phase("command", 100, 300))
    assert [bar.width for bar in row.bars] == pytest.approx([25, 75], abs=0.01)


def test_phase_without_duration_is_not_drawn_but_kept() -> None:
    [row] = drawn(phase("queued", 0, 0), phase("command", 0, 10))
    assert [bar.name for bar in row.drawn] == ["command"]
    assert [bar.name for bar in row.bars] == ["queued", "command"]


def test_open_phase_grows_until_now() -> None:
    phases = phase("boot", 0, 10), phase("command", 10, None)
    for now in (20.0, 40.0):
        [row] = drawn(*phases, now=now)
        assert row.live
        assert row.bars[-1].seconds == now - 10
        assert row.bars[0].width == pytest.approx(100 * 10 / now, abs=0.01)


def test_each_attempt_has_a_row_on_one_axis() -> None:
    first = phase("queued", 0, 10), phase("command", 10, 90)
    second = phase("queued", 100, 50, 2), phase("command", 150, 50, 2)
    rows = drawn(*first, *second, attempts=(attempt(outcome=Outcome.INTERRUPTED), attempt(2)))
    assert [(row.attempt, row.outcome) for row in rows] == [(1, "interrupted"), (2, "")]
    assert rows[0].bars[-1].x + rows[0].bars[-1].width == pytest.approx(rows[1].bars[0].x, abs=0.01) == 50


def test_parallel_phase_is_beside_in_its_own_row() -> None:
    [row] = drawn(phase("pull", 0, 60), phase("clone", 0, 5, beside=True), phase("command", 60, 60))
    assert [(bar.name, bar.beside) for bar in row.bars] == [("pull", False), ("clone", True), ("command", False)]


def test_end_of_a_machine_beside_the_next_attempt_stays_in_its_row() -> None:
    phases = phase("command", 0, 50), phase("gone", 50, 10, beside=True), phase("queued", 50, 20, 2)
    first, second = drawn(*phases)
    assert [(bar.name, bar.beside) for bar in first.bars] == [("command", False), ("gone", False)]
    assert [bar.name for bar in second.bars] == ["queued"]


def test_ranks_have_rows_of_their_own() -> None:
    others = [
        phase(name, at, 10, rank=rank, beside=True) for rank in (1, 2) for name, at in (("boot", 0), ("pull", 10))
    ]
    found = waterfall(receipt(phase("boot", 0, 20), *others), tuple(attempt(rank=rank) for rank in range(3)), BEGAN)
    assert found.ranked
    assert [row.rank for row in found.rows] == [0, 1, 2]
    assert not any(bar.beside for row in found.rows for bar in row.bars)


def test_rows_are_bounded_and_the_others_are_counted() -> None:
    ranks = [phase("command", 10 * number, 5, number, rank) for number in (1, 2, 3) for rank in range(100)]
    found = waterfall(receipt(*ranks), (), BEGAN + 100)
    assert len(found.rows) <= ROWS
    assert sum(row.attempt == 3 for row in found.rows) == RANKS
    assert len(found.rows) + found.hidden == 300


def test_more_phases_than_there_is_room_for_are_all_inside() -> None:
    [row] = drawn(*(phase("boot", number, 1) for number in range(300)))
    assert row.bars[-1].x + row.bars[-1].width == pytest.approx(100, abs=0.01)


def test_wait_longer_than_everything_else_is_shortened_and_marked() -> None:
    [row] = drawn(phase("queued", 0, 36000), phase("boot", 36000, 50), phase("command", 36050, 50))
    assert [bar.shortened for bar in row.bars] == [True, False, False]
    assert [bar.width for bar in row.bars] == pytest.approx([50, 25, 25], abs=0.1)
    assert row.bars[0].seconds == 36000


def test_run_that_only_waits_is_drawn_to_scale() -> None:
    [row] = drawn(phase("queued", 0, None, 1), now=500)
    assert [(bar.width, bar.shortened) for bar in row.bars] == [(100, False)]


def test_run_that_has_just_begun_has_an_empty_row() -> None:
    [row] = drawn(phase("queued", 0, None))
    assert row.drawn == []
    assert waterfall(receipt(), (), BEGAN).rows == ()


def test_closing_belongs_to_the_last_row() -> None:
    """A run that is stopped while it waits again has no machine in its last row."""
    rows = drawn(phase("command", 0, 10), phase("queued", 10, 10, 2), phase("closing", 20, 1))
    assert [[bar.name for bar in row.bars] for row in rows] == [["command"], ["queued", "closing"]]


def test_ticks_are_at_round_times_and_apart() -> None:
    found = waterfall(receipt(*ONE_HOUR), (), BEGAN)
    assert [tick.label for tick in found.ticks] == ["0", "10 min", "20 min", "30 min", "40 min", "50 min"]
    assert all(two.x - one.x > 8 for one, two in pairwise(found.ticks))


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.integers(0, 3),
            st.floats(0, 1e6),
            st.one_of(st.none(), st.floats(0, 1e6)),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_every_phase_is_inside_the_chart_and_at_least_as_wide_as_there_is_room(
    items: list[tuple[int, int, float, float | None, bool]],
) -> None:
    phases = [phase("boot", at, lasts, number, rank, beside=beside) for number, rank, at, lasts, beside in items]
    found = waterfall(receipt(*phases), (), BEGAN + 2e6)
    bars = [bar for row in found.rows for bar in row.bars]
    least = min(TINY, 100 / max(1, 2 * len(bars)))
    for bar in bars:
        assert -0.01 <= bar.x <= bar.x + bar.width <= 100.01
        assert bar.width >= least - 0.01 or not bar.width
    ordered = sorted(bars, key=lambda bar: bar.began)
    assert all(one.x <= two.x for one, two in pairwise(ordered))


def test_outcome_of_a_row_without_a_machine_is_the_run_s() -> None:
    found = waterfall(replace(receipt(phase("queued", 0, 10)), outcome=Outcome.REFUSED), (), BEGAN)
    assert [row.outcome for row in found.rows] == ["refused"]
