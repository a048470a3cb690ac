"""Geometry of the charts of usage."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.usage.amounts import Use
from provisioner.core.views.costs.usage import Amounts, Usage, UsageRow
from provisioner.faces.page.charts.usage import HEIGHT, KINDS, TOP, ceiling, columns, kind_of, lines

NOTHING = Amounts(*[0.0] * 12)


def amounts(dollars: float) -> Amounts:
    return replace(NOTHING, dollars=dollars)


def usage(*rows: UsageRow, by: str = "day", first: str = "2026-01-30", last: str = "2026-02-02") -> Usage:
    return Usage(0.0, first, last, (by, "use"), rows, NOTHING, NOTHING, (), 0, ())  # type: ignore[arg-type]


def test_every_day_of_the_period_has_its_place() -> None:
    made = columns(usage(UsageRow(("2026-02-01", "failed"), amounts(3.0), amounts(1.0))))
    assert [each.name for each in made.columns] == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    column = made.columns[2]
    assert (column.dollars, column.estimated) == (4.0, 1.0)
    (piece,) = column.pieces
    assert (piece.kind, piece.y, piece.height) == ("failed", TOP + HEIGHT * 0.2, HEIGHT * 0.8)
    assert [mark.text for mark in made.up] == ["$2.5", "$5"]
    assert made.kinds == (("failed", 4.0),)


def test_months_are_columns_of_a_long_period() -> None:
    made = columns(usage(by="month", first="2025-11-01", last="2026-02-28"))
    assert [each.name for each in made.columns] == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert made.up == ()


@given(st.lists(st.tuples(st.sampled_from(list(Use)), st.floats(0, 1e9)), max_size=30))
def test_no_part_of_a_column_is_outside_the_chart(parts: list[tuple[Use, float]]) -> None:
    rows = [UsageRow(("2026-01-31", use), amounts(dollars), NOTHING) for use, dollars in parts]
    for column in columns(usage(*rows)).columns:
        floor = TOP + HEIGHT
        for piece in column.pieces:
            assert piece.y + piece.height == pytest.approx(floor)
            floor = piece.y
        assert floor >= TOP - 1e-6


@pytest.mark.parametrize(("most", "end"), [(0, 0), (0.003, 0.005), (1, 1), (1.1, 2), (37, 50), (99.9, 100)])
def test_the_axis_ends_at_a_round_number(most: float, end: float) -> None:
    assert ceiling(most) == pytest.approx(end)


def test_every_use_has_a_kind() -> None:
    assert {kind_of(use) for use in Use} == set(KINDS)
    assert kind_of("a later version's") == "open"


def test_bars_are_shares_of_the_largest_group() -> None:
    rows = (UsageRow(("a",), amounts(30.0), amounts(10.0)), UsageRow(("b",), amounts(4.0), NOTHING))
    assert [(line.final, line.estimated) for line in lines(rows)] == [(75.0, 25.0), (10.0, 0.0)]
    assert lines((UsageRow(("a",), NOTHING, NOTHING),))[0].final == 0.0
