"""The installation's cap on the cost of its machines in a day, and what machines count against it.

Days are UTC. A machine counts with the price of its hours, without its disk and traffic, and each hour counts on the
day on which it is used. A machine that is alive counts until the end of its lifetime, because it may live so long; a
machine that has ended counts for the time that it was used.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

#: Seconds of a day.
DAY = 86400.0
#: The name of the setting, for texts.
SETTING = "max_dollars_a_day"
#: Seconds after which a launch that does not fit is tried again, while machines are alive, and while none is.
SOON, LATER = 5.0, 60.0
#: Share of a day's dollars that a sum of floating-point numbers may be wrong by.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Caps:
    """The caps on cost in the settings."""

    #: US dollars of all machines in a UTC day; None for any amount.
    dollars_a_day: float | None = None
    #: Whether machines of unknown price may be launched under a cap; they count as free.
    unknown_prices: bool = False


NO_CAPS = Caps()


@dataclass(frozen=True)
class Use:
    """A period in which machines are used, in Unix seconds, and the US dollars of an hour of all of them."""

    begins: float
    ends: float
    hourly: float

    @property
    def days(self) -> range:
        """The UTC days of the period, as numbers of days since 1970."""
        return range(day_of(self.begins), day_of(self.ends) + 1)

    @property
    def dollars(self) -> float:
        return (self.ends - self.begins) * self.hourly / 3600

    def on(self, day: int) -> float:
        """Return the US dollars of the part of the period that is on this day."""
        seconds = min(self.ends, (day + 1) * DAY) - max(self.begins, day * DAY)
        return max(0.0, seconds) * self.hourly / 3600

    def until(self, end: float) -> Self:
        return replace(self, ends=max(self.begins, min(self.ends, end)))

    def since(self, begin: float) -> Self:
        return replace(self, begins=min(self.ends, max(self.begins, begin)))

    def beginning(self, begins: float) -> Self:
        """Return a period of the same length that begins at this time."""
        return replace(self, begins=begins, ends=begins + self.ends - self.begins)


@dataclass(frozen=True)
class Budget:
    """What the cap leaves for launches."""

    #: US dollars a day.
    most: float
    #: Unix seconds.
    now: float
    #: US dollars of the present day that have been used until now.
    spent: float = 0.0
    #: By day: US dollars that the machines and the open launches may still use.
    committed: Mapping[int, float] = field(default_factory=dict)

    def left(self, day: int) -> float:
        """Return the US dollars that a launch may use on this day."""
        return self.most - self.spent_on(day) - self.committed.get(day, 0.0)

    def spent_on(self, day: int) -> float:
        return self.spent if day == day_of(self.now) else 0.0

    def room(self, use: Use) -> int | None:
        """Return how many times this use fits, or None if it costs nothing."""
        slack = self.most * _ROUNDING
        parts = [(self.left(day) + slack, use.on(day)) for day in use.days]
        return min((max(0, math.floor(left / own)) for left, own in parts if own > 0), default=None)

    def fits(self, use: Use) -> bool:
        return self.room(use) != 0

    def tight(self, use: Use) -> int:
        """Return the first day on which the use does not fit; the present day if it fits."""
        wrong = (day for day in use.days if use.on(day) > self.left(day) + self.most * _ROUNDING)
        return next(wrong, day_of(self.now))

    def fits_at(self, use: Use) -> float | None:
        """Return when the use fits at the latest, even if no machine ends before its lifetime; None if it never does.

        It fits late on a day, so that little of it is on this day, or with the beginning of a day.
        """
        last = max([*self.committed, day_of(self.now)])
        for day in range(day_of(self.now), last + 2):
            late = (day + 1) * DAY - max(0.0, self.left(day)) / use.hourly * 3600
            for begins in (max(self.now, day * DAY), max(self.now, late)):
                if self.fits(use.beginning(begins)):
                    return begins
        return None

    @property
    def next_try_at(self) -> float:
        """When a launch that does not fit is tried again: soon, if a machine may end before its lifetime."""
        return self.now + (SOON if any(self.committed.values()) else LATER)

    def plus(self, use: Use) -> Self:
        """Return the budget after one more launch."""
        return replace(self, committed=_summed(self.committed, [use]))


def budget(most: float, now: float, ended: float, uses: Iterable[Use]) -> Budget:
    """Return the budget at `now`.

    `ended` is what the machines that have ended cost on the present day. `uses` are those of the machines that are
    alive, and of the open launches.
    """
    every, today = list(uses), day_of(now)
    spent = ended + sum(use.until(now).on(today) for use in every)
    return Budget(most, now, spent, _summed({}, [use.since(now) for use in every if use.ends > now]))


def day_of(at: float) -> int:
    """Return the number of UTC days from 1970 to this Unix time."""
    return int(at // DAY)


def date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


def clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def dollars(amount: float) -> str:
    """Return the amount as text: with cents, and with two more digits if it is less than a dollar and needs them."""
    text = f"{amount:,.2f}" if abs(amount) >= 1 else f"{amount:.4f}".removesuffix("00")
    return f"${text}"


def _summed(known: Mapping[int, float], uses: Iterable[Use]) -> dict[int, float]:
    found = defaultdict(float, known)
    for use in uses:
        for day in use.days:
            found[day] += use.on(day)
    return dict(found)
