"""How seldom a machine that ends many commands may write to the bucket and read from it: each request costs money."""

from __future__ import annotations

#: Seconds over which the rate is measured; fewer if INTERVAL * BRISK commands have ended sooner. And the rate, in
#: commands a second, from which a machine may make requests less often.
INTERVAL, BRISK = 3.0, 10.0


class Pace:
    """Measures how fast commands end, and how long the waiting ones will last."""

    def __init__(self, now: float) -> None:
        """`now` is the time in seconds, by a clock of the caller's choice."""
        self._since, self._ended = now, 0
        self._rate = 0.0

    def ahead(self, now: float, ended: int, waiting: int) -> float:
        """Return the seconds that the waiting commands will last; 0 if few commands end each second.

        `ended` commands have ended so far.
        """
        count, seconds = ended - self._ended, now - self._since
        if seconds > 0 and (seconds >= INTERVAL or count >= INTERVAL * BRISK):
            self._rate = count / seconds
            self._since, self._ended = now, ended
        return waiting / self._rate if self._rate >= BRISK else 0.0
