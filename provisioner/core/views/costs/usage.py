"""Views of usage: machine-hours and dollars of a period, by group."""

from dataclasses import dataclass
from typing import Annotated

from provisioner.core.views.codec import Moment


@dataclass(frozen=True)
class Amounts:
    """Sums of usage. Each has an expected value between two bounds; the disks of machines are apart."""

    hours_at_least: float
    hours: Annotated[float, "Hours of machines."]
    hours_at_most: float
    dollars_at_least: float
    dollars: Annotated[float, "Cost of machines without their disks."]
    dollars_at_most: float
    disk_dollars_at_least: float
    disk_dollars: Annotated[float, "Cost of the machines' disks."]
    disk_dollars_at_most: float
    reserved_dollars: Annotated[
        float,
        "List price of machines in capacity reservations, which the account pays for in any case; in no other field.",
    ]
    unpriced_hours: Annotated[float, "Hours of machines whose price is unknown; no field has their cost."]
    unpriced_disk_hours: Annotated[float, "Hours of disks whose price is unknown; no field has their cost."]

    @property
    def total(self) -> float:
        """The expected cost of machines and disks."""
        return self.dollars + self.disk_dollars


@dataclass(frozen=True)
class UsageRow:
    """The usage of one group."""

    group: Annotated[
        tuple[str, ...],
        "The group's values in the dimensions of `by`; empty: unattributed or unknown. A job is `owner/name`.",
    ]
    final: Annotated[Amounts, "Of runs that are done: these amounts do not change any more."]
    estimated: Annotated[Amounts, "Of runs that are not done, until now."]

    @property
    def total(self) -> float:
        return self.final.total + self.estimated.total

    @property
    def hours(self) -> float:
        return self.final.hours + self.estimated.hours


@dataclass(frozen=True)
class PriceUsed:
    """The prices that amounts were computed with, for one type, market and source."""

    of: Annotated[str, "`machine` (dollars an hour) or `disk` (dollars a month of a machine's whole disk)."]
    instance_type: str
    market: str
    source: str
    dollars_least: float
    dollars_most: float
    oldest: Annotated[Moment, "When the prices were valid: the oldest, and the newest."]
    newest: Moment


@dataclass(frozen=True)
class Usage:
    """Machine-hours and dollars of a period, by group."""

    at: Moment
    first: Annotated[str, "The first UTC day, as YYYY-MM-DD."]
    last: Annotated[str, "The last UTC day."]
    by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    final: Annotated[Amounts, "The sum of all groups of runs that are done."]
    estimated: Annotated[Amounts, "The sum of all groups of runs that are not done."]
    prices: tuple[PriceUsed, ...]
    uncounted: Annotated[int, "Machines that have ended and are not counted yet; after an upgrade it takes some time."]
    not_included: Annotated[tuple[str, ...], "What AWS also bills, and is in no amount."]

    @property
    def total(self) -> float:
        return self.final.total + self.estimated.total
