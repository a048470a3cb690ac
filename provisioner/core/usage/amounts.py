"""Amounts of usage: the seconds and dollars of machines and disks, as whole numbers, so that sums are exact.

Each amount has an expected value between two bounds. Seconds are counted in milliseconds, and dollars in billionths
(nanodollars).
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cache

from provisioner.core.protocol.words import Outcome

#: Number of nanodollars in a dollar, and of milliseconds in a second.
NANO, MILLI = 10**9, 1000


class Use(StrEnum):
    """What a machine's time was used for: an attempt that ended with this outcome, or one of the others below."""

    SUCCEEDED = Outcome.SUCCEEDED.value
    FAILED = Outcome.FAILED.value
    CANCELLED = Outcome.CANCELLED.value
    TIMED_OUT = Outcome.TIMED_OUT.value
    INTERRUPTED = Outcome.INTERRUPTED.value
    LOST = Outcome.LOST.value
    REFUSED = Outcome.REFUSED.value
    #: The attempt has not ended.
    UNFINISHED = "unfinished"
    #: The machine waited until the other machines of its run were ready.
    WAITING = "waiting for peers"
    #: The machine waited for the run's next attempt.
    KEPT = "kept"
    #: The machine worked for no run: it was a spare one, or it made an AMI.
    UNATTRIBUTED = "unattributed"


@dataclass(frozen=True)
class Amounts:
    """Sums of usage. The dollars of machines and of their disks are apart."""

    seconds_at_least: int = 0
    seconds: int = 0
    seconds_at_most: int = 0
    dollars_at_least: int = 0
    dollars: int = 0
    dollars_at_most: int = 0
    disk_dollars_at_least: int = 0
    disk_dollars: int = 0
    disk_dollars_at_most: int = 0
    #: The list price of machines in capacity reservations, which the account has paid for; it is in no other field.
    reserved_dollars: int = 0
    #: Machine-seconds, and seconds of whole disks, whose price is unknown: no field of dollars contains their cost.
    unpriced_seconds: int = 0
    unpriced_disk_seconds: int = 0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in names()))


NOTHING = Amounts()


@cache
def names() -> tuple[str, ...]:
    """Return the names of the amounts, in order."""
    return tuple(field.name for field in fields(Amounts))


def total(several: Iterable[Amounts]) -> Amounts:
    return sum(several, NOTHING)


@dataclass(frozen=True)
class Part:
    """The part of a machine's usage on one UTC day for one use."""

    #: Number of days since 1970.
    day: int
    use: Use
    amounts: Amounts


@dataclass(frozen=True)
class PriceUsed:
    """A known price that amounts were computed with: of an hour of a machine, or of a month of its whole disk."""

    disk: bool
    dollars: float
    source: str
    #: The Unix time at which the price was valid.
    at: float


@dataclass(frozen=True)
class MachineUsage:
    """The usage of one machine that has ended, or until now; `id` is the machine's."""

    id: str
    #: Empty for a machine that worked for no run.
    run: str
    job_id: str
    job: str
    owner: str
    #: Who started the run: `local:` and a Unix user, the id of a token, or `schedule`; empty if it is not known.
    user: str
    tags: tuple[tuple[str, str], ...]
    instance_type: str
    market: str
    parts: tuple[Part, ...]
    prices: tuple[PriceUsed, ...] = ()
    version: int = 0


@dataclass(frozen=True)
class PriceRange:
    """The prices of one kind in a period, and when they were valid."""

    disk: bool
    instance_type: str
    market: str
    source: str
    least: float
    most: float
    oldest: float
    newest: float

    def __or__(self, other: "PriceRange") -> "PriceRange":
        return replace(
            self,
            least=min(self.least, other.least),
            most=max(self.most, other.most),
            oldest=min(self.oldest, other.oldest),
            newest=max(self.newest, other.newest),
        )


#: The dimensions whose values are stored. `day` is a number of days since 1970 as text, `tags` a JSON object.
STORED = ("day", "owner", "job_id", "job", "user", "instance_type", "market", "use", "tags")
#: The dimensions that sums can have: also `month`, as YYYY-MM.
SUMMED = (*STORED, "month")


def keys_of(item: MachineUsage) -> Iterator[tuple[tuple[str, ...], Amounts]]:
    """Yield the machine's amounts, each with its values in the dimensions of SUMMED."""
    tags = json.dumps(dict(item.tags), sort_keys=True)
    for part in item.parts:
        key = (
            str(part.day),
            item.owner,
            item.job_id,
            item.job,
            item.user,
            item.instance_type,
            item.market,
            str(part.use),
            tags,
            time.strftime("%Y-%m", time.gmtime(part.day * 86400)),
        )
        yield key, part.amounts


def prices_of(item: MachineUsage) -> Iterator[PriceRange]:
    """Yield the prices of a machine as ranges."""
    for each in item.prices:
        yield PriceRange(
            each.disk, item.instance_type, item.market, each.source, each.dollars, each.dollars, each.at, each.at
        )


def merged(several: Iterable[PriceRange]) -> tuple[PriceRange, ...]:
    """Return one range for each kind of price, in order."""
    found: dict[tuple[bool, str, str, str], PriceRange] = {}
    for each in several:
        key = each.disk, each.instance_type, each.market, each.source
        found[key] = found[key] | each if key in found else each
    return tuple(found[key] for key in sorted(found))
