"""Estimate by how much this computer's clock differs from the cloud's clock."""

from dataclasses import dataclass

#: Seconds by which the clocks may differ. If they differ by more, the control plane makes no decision by its clock.
TOLERANCE = 5.0
#: The Date header has whole seconds (RFC 9110, 5.6.7).
RESOLUTION = 1.0


@dataclass(frozen=True)
class Reading:
    """The cloud's time in an answer, and the reading of a monotonic clock when the answer arrived."""

    #: Unix seconds from the Date header.
    cloud: float
    #: Seconds of the monotonic clock, and seconds that the call took.
    elapsed: float
    took: float

    def ahead(self, now: float, elapsed: float) -> float:
        """Return the least number of seconds that `now` is ahead of the cloud's time; negative if it is behind.

        Returns 0 if the clocks may agree: the cloud's time is known only to a second plus the duration of the call.
        """
        earliest = self.cloud + elapsed - self.elapsed
        latest = earliest + self.took + RESOLUTION
        return now - latest if now > latest else min(0.0, now - earliest)


def told(ahead: float) -> str:
    """Return the error message for a clock that is `ahead` seconds ahead: the difference, its effect and the remedy."""
    away, where = abs(ahead), "ahead of" if ahead > 0 else "behind"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    unit, name = next(each for each in units if away >= each[0] or each[0] == 1)
    return (
        f"this computer's clock is {away / unit:.0f} {name} {where} EC2's: set it (timedatectl shows whether it is "
        "synchronized). Until then nothing is launched, scheduled or judged, and only terminations that were already "
        "decided are requested"
    )
