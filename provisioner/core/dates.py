"""Unix seconds that a calendar can show."""

import math

#: Two days within the years 1 and 9999, which are datetime's first and last, for any time zone.
FIRST, LAST = -62_135_596_800.0 + 172_800, 253_402_300_799.0 - 172_800


def datable(at: float) -> float:
    """Return the nearest time that datetime takes in every time zone; 0 for what is no number.

    Whatever is formatted passes through this: one absurd time in the store must not hide all other rows.
    """
    return 0.0 if math.isnan(at) else min(max(at, FIRST), LAST)
