"""Any stored time can be shown."""

import math

import pytest

from provisioner.core import units
from provisioner.core.dates import datable, zoned
from provisioner.core.views.codec import iso
from provisioner.faces.cli.terminal import screen

TIMES = (0.0, -1e18, 1e18, 9e15, -9e15, 253402300800.0, -62135596801.0, math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("at", TIMES)
def test_any_time_is_formatted(at: float) -> None:
    """Each time can be shown in UTC, in a zone far east or west, and as a duration."""
    assert iso(at).endswith("Z")
    for shown in (screen.date(at), screen.clock(at), units.duration(at), units.ago(at, 0.0), units.ago(0.0, at)):
        assert shown
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert zoned(at, zone)


def test_a_time_of_a_calendar_stays_as_it_is() -> None:
    """A time within the range of the calendar is kept exactly."""
    assert datable(1_800_000_000.123) == 1_800_000_000.123
