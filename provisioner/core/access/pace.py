"""Spread the expensive requests of each caller over time, so that one caller does not slow down the others."""


class Pace:
    """The first `burst` requests of a caller are due at once, the following ones `rate` times a second.

    No request waits behind more than `most` others, also if their senders have given up.
    """

    def __init__(self, rate: float, burst: int, most: int) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        #: By caller, when all of its requests so far are paid for, at one request in 1 / `rate` seconds.
        self._paid_at: dict[str, float] = {}

    def wait(self, caller: str, now: float) -> float:
        """Count a request of the caller; return the seconds until it is due. `now` is a monotonic time."""
        paid_at = max(self._paid_at.get(caller, now), now)
        # Callers that have nothing left to pay are dropped.
        self._paid_at = {each: at for each, at in self._paid_at.items() if at > now}
        self._paid_at[caller] = min(paid_at + 1 / self._rate, now + self._most / self._rate)
        return max(0.0, paid_at - now - (self._burst - 1) / self._rate)
