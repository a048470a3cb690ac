"""Unix times as dates, and their limit: those that datetime can represent."""

import datetime as dt
import math

#: datetime's first and last years are 1 and 9999; two days of margin allow for any time zone.
FIRST, LAST = -62_135_596_800.0 + 172_800, 253_402_300_799.0 - 172_800


def datable(at: float) -> float:
    """Return the nearest Unix time that datetime can represent in every time zone; 0 for NaN.

    Call this function before formatting any time: one wrong time in the store must not make a whole listing fail.
    """
    return 0.0 if math.isnan(at) else min(max(at, FIRST), LAST)


def zoned(at: float, zone: str) -> str:
    """Return date, time of day and zone, as a clock in that zone shows them."""
    # A command that shows no schedule should not spend the time to import it.
    import zoneinfo

    return f"{dt.datetime.fromtimestamp(datable(at), zoneinfo.ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %Z}"
