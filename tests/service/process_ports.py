"""The clock and the meter of a world's control plane."""

from collections.abc import Callable

from provisioner.ports.meter import Unmetered


class Meter(Unmetered):
    """Reports the end of each pass to the world."""

    def __init__(self, ended: Callable[[float, float], None]) -> None:
        self._ended = ended

    def passed(self, seconds: float, at: float, *, whole: bool) -> None:  # noqa: ARG002
        self._ended(seconds, at)


class Clock:
    """The control plane's clock, which may be wrong; waiting lets the world proceed."""

    def __init__(self, now: Callable[[], float], ahead: Callable[[], float], advance: Callable[[float], None]) -> None:
        """`now` is the true time, and `ahead` the number of seconds by which this clock is ahead."""
        self._now, self._ahead, self._advance = now, ahead, advance

    def now(self) -> float:
        return self._now() + self._ahead()

    def elapsed(self) -> float:
        return self._now()

    def wait(self, seconds: float) -> None:
        self._advance(seconds)

    def wake(self) -> None:
        """Do nothing: after each pause the loop calls `changes` to see new records."""
