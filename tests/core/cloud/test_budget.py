"""The cap on the cost of a day: which days a use counts on, what still fits, and from when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.caps.budget import DAY, Budget, Use, budget, date, day_of, dollars

TODAY = 20_000
MIDNIGHT = TODAY * DAY
NOON = MIDNIGHT + DAY / 2
HOUR = 3600.0


def use(hours: float, hourly: float = 1.0, begins: float = NOON) -> Use:
    return Use(begins, begins + hours * HOUR, hourly)


def test_each_hour_counts_on_the_utc_day_on_which_it_is_used() -> None:
    over_midnight = use(18.0, 2.0)
    assert [over_midnight.on(day) for day in over_midnight.days] == [24.0, 12.0]
    assert over_midnight.dollars == 36.0
    assert (date(TODAY), day_of(NOON), day_of(MIDNIGHT)) == ("2024-10-04", TODAY, TODAY)


@pytest.mark.parametrize(
    ("spent", "committed", "hourly", "room"),
    [
        (0.0, 0.0, 1.0, 10),
        (1.0, 0.0, 1.0, 9),
        (0.0, 1.0, 1.0, 9),
        (4.0, 5.0, 1.0, 1),
        (5.0, 5.0, 1.0, 0),
        (9.0, 5.0, 1.0, 0),
        (0.0, 0.0, 10.0, 1),
        (0.0, 0.0, 10.01, 0),
        (0.0, 0.0, 0.1, 100),
    ],
)
def test_a_use_fits_as_often_as_the_day_has_dollars_for_it(
    spent: float, committed: float, hourly: float, room: int
) -> None:
    """Exactly the cap fits; the smallest amount more does not."""
    left = Budget(10.0, NOON, spent, {TODAY: committed})
    assert left.room(use(1.0, hourly)) == room
    assert left.fits(use(1.0, hourly)) is (room > 0)


def test_a_use_must_fit_on_every_day_that_it_touches() -> None:
    """Otherwise the launches of one evening would use up the next day twice."""
    tomorrow_is_full = Budget(10.0, NOON, 0.0, {TODAY + 1: 9.5})
    assert tomorrow_is_full.fits(use(12.0, 0.5))
    assert not tomorrow_is_full.fits(use(14.0, 0.5))
    assert tomorrow_is_full.tight(use(14.0, 0.5)) == TODAY + 1


def test_what_costs_nothing_always_fits() -> None:
    assert Budget(10.0, NOON, 99.0).room(use(1.0, 0.0)) is None


def test_used_hours_are_spent_and_the_rest_is_committed() -> None:
    """A machine counts once, however much of its lifetime is over."""
    machine, ended_yesterday = use(18.0, 1.0, NOON - 2 * HOUR), use(2.0, 5.0, MIDNIGHT - HOUR)
    found = budget(100.0, NOON, 3.0, [machine, ended_yesterday])
    assert found.spent == 3.0 + 2.0 + 5.0
    assert found.committed == {TODAY: 12.0, TODAY + 1: 4.0}
    assert found.left(TODAY) == 100.0 - 10.0 - 12.0


def test_a_launch_fits_at_midnight_if_today_is_used_up() -> None:
    full = Budget(10.0, NOON, 10.0)
    assert full.fits_at(use(2.0)) == MIDNIGHT + DAY


def test_a_launch_fits_before_midnight_if_a_part_of_it_is_left_for_today() -> None:
    """One dollar is left, which pays for the hour before midnight; tomorrow pays for the rest."""
    left = Budget(10.0, NOON, 9.0)
    assert left.fits_at(use(4.0)) == MIDNIGHT + DAY - HOUR


def test_a_launch_that_exceeds_an_empty_day_never_fits() -> None:
    empty = Budget(10.0, NOON)
    assert empty.fits_at(use(48.0, 0.5)) is None
    # Nine dollars before midnight, and nine after it.
    assert empty.fits_at(use(18.0, 1.0)) == MIDNIGHT + DAY - 10 * HOUR


@given(
    st.floats(0, 20),
    st.dictionaries(st.integers(TODAY, TODAY + 3), st.floats(0, 12)),
    st.floats(0.1, 60),
    st.floats(0.01, 5),
)
def test_a_launch_fits_when_it_was_said_to_fit(
    spent: float, committed: dict[int, float], hours: float, hourly: float
) -> None:
    """`fits_at` is not only a guess: at this time the launch is admitted, if nothing else was launched meanwhile."""
    left, wanted = Budget(10.0, NOON, spent, committed), use(hours, hourly)
    at = left.fits_at(wanted)
    if at is None:
        assert not left.fits(wanted)
    else:
        assert at >= NOON
        assert left.fits(wanted.beginning(at))


@given(st.lists(st.tuples(st.floats(-30, 30), st.floats(0.1, 40), st.floats(0.01, 3)), max_size=8))
def test_launches_that_are_admitted_one_by_one_never_exceed_a_day(wanted: list[tuple[float, float, float]]) -> None:
    left, admitted = Budget(10.0, NOON), list[Use]()
    for _, hours, hourly in wanted:
        if left.fits(new := use(hours, hourly)):
            left, admitted = left.plus(new), [*admitted, new]
    for day in range(TODAY, TODAY + 4):
        assert sum(each.on(day) for each in admitted) <= 10.0 * (1 + 1e-6)


def test_amounts_below_a_dollar_have_more_digits() -> None:
    assert [dollars(each) for each in (0.0, 0.0421, 1.0, 1234.5)] == ["$0.00", "$0.0421", "$1.00", "$1,234.50"]
