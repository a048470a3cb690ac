"""How far this computer's clock is from the cloud's, as far as two readings can tell."""

from dataclasses import dataclass

#: Seconds that the clocks may differ before nothing is decided by ours.
TOLERANCE = 5.0
#: The Date header has whole seconds (RFC 9110, 5.6.7).
RESOLUTION = 1.0


@dataclass(frozen=True)
class Reading:
    """The cloud's time, and what a clock that is never set showed when the answer was there."""

    #: Unix seconds, of the Date header.
    cloud: float
    #: Seconds since a fixed moment, and how many of them the call took.
    elapsed: float
    took: float

    def ahead(self, now: float, elapsed: float) -> float:
        """Seconds that a clock which shows `now` is ahead of the cloud's at least; below 0 if it is behind."""
        earliest = self.cloud + elapsed - self.elapsed
        latest = earliest + self.took + RESOLUTION
        return now - latest if now > latest else min(0.0, now - earliest)


def told(ahead: float) -> str:
    """What is wrong with the clock, what that means, and what to do."""
    away, where = abs(ahead), "ahead of" if ahead > 0 else "behind"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    unit, name = next(each for each in units if away >= each[0] or each[0] == 1)
    return (
        f"the clock of this computer is {away / unit:.0f} {name} {where} EC2's: nothing is launched, judged, ended or "
        "started by a schedule until it is right (timedatectl shows whether it is synchronized)"
    )
