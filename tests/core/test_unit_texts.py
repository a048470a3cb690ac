"""Durations and rates as text."""

import pytest

from provisioner.core.units import precise, rate, stopwatch


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (0.04, "0.0 s"),
        (0.4, "0.4 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min 0 s"),
        (185.0, "3 min 5 s"),
        (float("nan"), "0 s"),
    ],
)
def test_short_duration_has_tenths_of_a_second(seconds: float, text: str) -> None:
    assert precise(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0:00"), (4.9, "0:04"), (1068.0, "17:48"), (3600.0, "1:00:00"), (93738.0, "26:02:18"), (1e300, None)],
)
def test_stopwatch_counts_hours_beyond_a_day(seconds: float, text: str | None) -> None:
    assert text is None or stopwatch(seconds) == text
    assert stopwatch(seconds).count(":") <= 2


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(12_000.0, "12,000/s"), (1.25, "1.2/s"), (0.5, "30/min"), (0.02, "1.2/min"), (1e-4, "0.4/h")],
)
def test_rate_is_in_the_unit_that_gives_at_least_one(per_second: float, text: str) -> None:
    assert rate(per_second) == text
