"""Add up the usage of runs that are done and, until now, of those that are not."""

import datetime as dt
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from provisioner.core.access.callers import Caller
from provisioner.core.cloud.caps.budget import date, day_of
from provisioner.core.cost.receipt import bills_of
from provisioner.core.cost.usage import usage_of
from provisioner.core.errors import Invalid
from provisioner.core.run.records import Assignment, Live, Run
from provisioner.core.run.work_order import recipes_of
from provisioner.core.usage.amounts import (
    MILLI,
    NANO,
    NOTHING,
    SUMMED,
    Amounts,
    MachineUsage,
    PriceRange,
    keys_of,
    merged,
    prices_of,
    total,
)
from provisioner.core.views.codec import moment
from provisioner.core.views.costs import usage as views
from provisioner.ports.clock import Clock
from provisioner.ports.control.usage import DAYS, DIMENSIONS, MOST, TAG, UsageQuery
from provisioner.ports.store import Store, UsageFilter

#: What AWS bills besides, in words for users.
NOT_INCLUDED = (
    "data transfer, NAT gateways and public IPv4 addresses",
    "S3: storage, requests and transfer",
    "snapshots of AMIs",
    "hours of capacity reservations that no machine used",
    "changes of a spot price after the launch",
    "machines of other installations, discounts, credits and taxes",
)
#: Maximum number of machines that the store is asked for at once, and that are counted as uncounted.
BATCH, UNCOUNTED_MOST = 500, 100_000

#: Maximum number of groups: the values of the stored dimensions of a query. A reader takes seconds for more.
GROUPS = 20_000

#: Amounts by group.
Sums = Mapping[tuple[str, ...], Amounts]


class Usage:
    """The implementation of provisioner.ports.control.usage.Usage."""

    def __init__(self, store: Store, clock: Clock, caller: Caller) -> None:
        self._store = store
        self._clock = clock
        self._caller = caller

    def read(self, query: UsageQuery) -> views.Usage:
        now = self._clock.now()
        _check(query.by)
        first, last = _period(query, now)
        which = UsageFilter(first, last, self._owners(query.owners))
        stored = tuple(dict.fromkeys(column for each in query.by for column in _columns(each)))
        sums = self._store.usage(which, stored, GROUPS)
        if len(sums) > GROUPS:
            raise Invalid(f"the usage has more than {GROUPS:,} groups: give fewer dimensions, or a shorter period")
        final = _grouped(query.by, stored, sums)
        live = self._store.live()
        present = list(self._live_usage(live, which, now)) if last >= day_of(now) - 1 else []
        estimated = _grouped(query.by, stored, _sums(present, which, stored))
        prices = merged([*self._store.prices_used(which), *(price for each in present for price in prices_of(each))])
        return views.Usage(
            at=moment(now),
            first=date(first),
            last=date(last),
            by=query.by,
            rows=tuple(_rows(query.by, final, estimated)),
            final=_view(total(final.values())),
            estimated=_view(total(estimated.values())),
            prices=tuple(map(_price, prices)),
            uncounted=self._uncounted(live),
            not_included=NOT_INCLUDED,
        )

    def _owners(self, wanted: Collection[str]) -> tuple[str, ...] | None:
        if not wanted:
            return self._caller.sees
        return tuple(owner for owner in wanted if self._caller.may(owner))

    def _uncounted(self, live: Live) -> int:
        """Return the number of ended machines without usage, for an admin: others may not know of them."""
        if not self._caller.admin:
            return 0
        return len(self._store.unaccounted(UNCOUNTED_MOST, {node.instance_id for node in live.nodes}))

    def _live_usage(self, live: Live, which: UsageFilter, now: float) -> Iterator[MachineUsage]:
        """Yield the usage of the machines of unfinished runs until now."""
        runs = {run.id: run for run in live.runs if which.owners is None or run.owner in which.owners}
        nodes = [node for node in live.nodes if node.run in runs]
        machines = {machine.id: machine for machine in live.machines}
        missing = sorted({node.instance_id for node in nodes} - machines.keys())
        for at in range(0, len(missing), BATCH):
            machines |= {machine.id: machine for machine in self._store.machines(missing[at : at + BATCH])}
        held = defaultdict[str, list[Assignment]](list)
        for node in nodes:
            if machine := machines.get(node.instance_id):
                held[node.run].append(Assignment(node, machine))
        tags = _tags([runs[id] for id in held])
        for id, several in held.items():
            yield from usage_of(runs[id], several, bills_of(several, {}, now), tags[id], now)


def _tags(runs: Iterable[Run]) -> Mapping[str, Mapping[str, str]]:
    several = list(runs)
    recipes = recipes_of(several)
    found = dict[str, Mapping[str, str]]()
    for run in several:
        recipe = recipes[run.variant]
        found[run.id] = (recipe.spec.tags if recipe else None) or {}
    return found


def _check(by: Sequence[str]) -> None:
    """Raise Invalid unless these are dimensions."""
    if len(by) > MOST:
        raise Invalid(f"by: found {len(by)} dimensions; give at most {MOST}")
    for each in by:
        if each not in DIMENSIONS and not (each.startswith(TAG) and len(each) > len(TAG)):
            raise Invalid(f"by: unknown dimension {each[:60]!r}: use {', '.join(DIMENSIONS)} or {TAG}NAME")


def _period(query: UsageQuery, now: float) -> tuple[int, int]:
    today = day_of(now)
    last = _day(query.last, end=True) if query.last else today
    if query.first:
        first = _day(query.first, end=False)
    else:
        began = dt.date.fromisoformat(date(min(last, today))).replace(day=1)
        first = began.toordinal() - _EPOCH
    if last < first:
        raise Invalid(f"the period ends before it begins: {date(first)} to {date(last)}")
    if last - first >= DAYS:
        raise Invalid(f"the period has {last - first + 1} days; give at most {DAYS}")
    return first, last


_EPOCH = dt.date(1970, 1, 1).toordinal()


def _day(text: str, *, end: bool) -> int:
    """Return the UTC day of a text, or of the month's first or last day, as a number of days since 1970."""
    found = re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", text, re.ASCII)
    try:
        if not found:
            raise ValueError
        year, month, day = int(found[1]), int(found[2]), int(found[3] or 1)
        at = dt.date(year, month, day)
        if end and not found[3]:
            at = dt.date(year + month // 12, month % 12 + 1, 1) - dt.timedelta(days=1)
        if year < 1970:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise Invalid(f"not a day {text[:30]!r}: write YYYY-MM-DD or YYYY-MM, from 1970 on") from error
    return at.toordinal() - _EPOCH


def _columns(dimension: str) -> tuple[str, ...]:
    """Return the stored dimensions from which the values of a dimension are made."""
    if dimension.startswith(TAG):
        return ("tags",)
    return {"group": ("owner",), "job": ("owner", "job")}.get(dimension, (dimension,))


def _value(dimension: str, told: Mapping[str, str]) -> str:
    if dimension.startswith(TAG):
        return str(json.loads(told["tags"]).get(dimension.removeprefix(TAG), ""))
    match dimension:
        case "day":
            return date(int(told["day"]))
        case "group":
            # `org/identity`: the organisation pays for its identities.
            return told["owner"].rpartition("/")[0]
        case "job":
            return f"{told['owner']}/{told['job']}" if told["job"] else ""
        case _:
            return told[dimension]


def _grouped(by: Sequence[str], stored: Sequence[str], sums: Sums) -> dict[tuple[str, ...], Amounts]:
    found: dict[tuple[str, ...], Amounts] = {}
    for key, amounts in sums.items():
        told = dict(zip(stored, key, strict=True))
        group = tuple(_value(each, told) for each in by)
        found[group] = found.get(group, NOTHING) + amounts
    return found


def _sums(items: Iterable[MachineUsage], which: UsageFilter, stored: Sequence[str]) -> Sums:
    found: dict[tuple[str, ...], Amounts] = {}
    for item in items:
        for key, amounts in keys_of(item):
            told = dict(zip(SUMMED, key, strict=True))
            if which.first <= int(told["day"]) <= which.last:
                group = tuple(told[name] for name in stored)
                found[group] = found.get(group, NOTHING) + amounts
    return found


def _rows(by: Sequence[str], final: Sums, estimated: Sums) -> Iterator[views.UsageRow]:
    def order(group: tuple[str, ...]) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
        both = final.get(group, NOTHING) + estimated.get(group, NOTHING)
        times = tuple(value for name, value in zip(by, group, strict=True) if name in ("day", "month"))
        return times, -(both.dollars + both.disk_dollars), group

    for group in sorted(final.keys() | estimated.keys(), key=order):
        yield views.UsageRow(group, _view(final.get(group, NOTHING)), _view(estimated.get(group, NOTHING)))


def _view(item: Amounts) -> views.Amounts:
    hour = 3600 * MILLI
    return views.Amounts(
        hours_at_least=item.seconds_at_least / hour,
        hours=item.seconds / hour,
        hours_at_most=item.seconds_at_most / hour,
        dollars_at_least=item.dollars_at_least / NANO,
        dollars=item.dollars / NANO,
        dollars_at_most=item.dollars_at_most / NANO,
        disk_dollars_at_least=item.disk_dollars_at_least / NANO,
        disk_dollars=item.disk_dollars / NANO,
        disk_dollars_at_most=item.disk_dollars_at_most / NANO,
        reserved_dollars=item.reserved_dollars / NANO,
        unpriced_hours=item.unpriced_seconds / hour,
        unpriced_disk_hours=item.unpriced_disk_seconds / hour,
    )


def _price(item: PriceRange) -> views.PriceUsed:
    return views.PriceUsed(
        of="disk" if item.disk else "machine",
        instance_type=item.instance_type,
        market=item.market,
        source=item.source,
        dollars_least=item.least,
        dollars_most=item.most,
        oldest=moment(item.oldest),
        newest=moment(item.newest),
    )
