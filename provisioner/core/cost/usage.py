"""Divide the bill of a machine by UTC day and by use.

The expected value of each amount lies between the bounds of the receipt. A machine is expected to have run from the
first listing that shows it running to the first listing that shows its end: both listings are late by the same delays,
which cancel each other on average. Bounds of a whole machine are divided in proportion to the expected values: they are
bounds of the sum, not of each part.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import gmtime

from provisioner.core.cost.phases import by_our_clock
from provisioner.core.cost.receipt import MINIMUM_SECONDS, MachineBill, bills_of, uses_of
from provisioner.core.protocol.words import Step
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Node, Run
from provisioner.core.usage.amounts import MILLI, NANO, Amounts, MachineUsage, Part, PriceUsed, Use

DAY = 86400
#: If no listing was made for this many seconds before the one that shows a machine's end, the end is dated by the cloud
#: or by the machine's last message instead.
OUTAGE = 60.0


@dataclass(frozen=True)
class Slice:
    """A period of a machine's life on one UTC day, for one use, in Unix seconds."""

    day: int
    use: Use
    begins: float
    ends: float

    def overlap(self, begins: float, ends: float) -> float:
        return max(0.0, min(self.ends, ends) - max(self.begins, begins))


def usage_of(
    run: Run, held: Sequence[Assignment], bills: Iterable[MachineBill], tags: Mapping[str, str], now: float
) -> tuple[MachineUsage, ...]:
    """Return the usage of each machine of a run until `now`. `bills` are those of the run's receipt."""
    uses = uses_of(held)
    return tuple(
        MachineUsage(
            id=bill.instance_id,
            run=run.id,
            job_id=run.job_id,
            job=run.job_name,
            owner=run.owner,
            user=run.started_by,
            tags=tuple(sorted(tags.items())),
            instance_type=bill.instance_type,
            market=bill.market,
            parts=_parts(uses[bill.instance_id], bill, now),
            prices=_prices(bill),
        )
        for bill in bills
    )


def unattributed(machine: KnownMachine, launch: Launch | None, now: float) -> MachineUsage:
    """Return the usage of a machine that worked for no run."""
    nobody = Node("", "", 0, 0, machine.launch, "", machine.id, "", machine.bound_at, 0)
    held = [Assignment(nobody, machine)]
    (bill,) = bills_of(held, {launch.id: launch} if launch else {}, now)
    return MachineUsage(
        id=machine.id,
        run="",
        job_id="",
        job="",
        owner="",
        user="",
        tags=(),
        instance_type=bill.instance_type,
        market=bill.market,
        parts=_parts(held, bill, now),
        prices=_prices(bill),
    )


def _prices(bill: MachineBill) -> tuple[PriceUsed, ...]:
    return tuple(
        PriceUsed(disk, price.dollars, price.source, price.at)
        for disk, price in ((False, bill.price), (True, bill.disk_price))
        if price
    )


def _parts(uses: Sequence[Assignment], bill: MachineBill, now: float) -> tuple[Part, ...]:
    machine = uses[0].machine
    begins, ends = ran(uses, bill, now)
    born = min(begins, machine.launch_time or machine.bound_at)
    gone = max(ends, machine.ended_at or now, born + MINIMUM_SECONDS)
    slices = list(_slices(uses, born, gone))
    ran_for = [each.overlap(begins, ends) for each in slices]
    lasted = [each.overlap(born, gone) for each in slices]
    # Without an expected time, the bounds are those of the whole life.
    weights = ran_for if sum(ran_for) > 0 else lasted
    seconds = ends - begins
    amounts = _machine_amounts(bill, seconds)
    disk = _disk_amounts(bill, slices, gone - born)
    machines = {name: _divided(value, weights) for name, value in amounts.items()}
    disks = {name: _divided(value, lasted) for name, value in disk.items()}
    found: dict[tuple[int, Use], Amounts] = {}
    for number, each in enumerate(slices):
        own = {name: shares[number] for name, shares in (*machines.items(), *disks.items())}
        found[each.day, each.use] = found.get((each.day, each.use), Amounts()) + Amounts(**own)
    return tuple(Part(day, use, found[day, use]) for day, use in sorted(found))


def _machine_amounts(bill: MachineBill, seconds: float) -> Mapping[str, int]:
    told = {
        "seconds_at_least": bill.seconds_at_least * MILLI,
        "seconds": round(seconds * MILLI),
        "seconds_at_most": bill.seconds_at_most * MILLI,
    }
    if bill.price is None:
        return told if bill.reservation else told | {"unpriced_seconds": round(seconds * MILLI)}
    dollars = round(seconds * bill.price.dollars / 3600 * NANO)
    if bill.reservation:
        return told | {"reserved_dollars": dollars}
    least, most = round((bill.dollars_at_least or 0.0) * NANO), round((bill.dollars_at_most or 0.0) * NANO)
    expected = 0 if bill.free else min(max(dollars, least), most)
    return told | {"dollars_at_least": least, "dollars": expected, "dollars_at_most": most}


def _disk_amounts(bill: MachineBill, slices: Sequence[Slice], seconds: float) -> Mapping[str, int]:
    if bill.disk_price is None:
        return {"unpriced_disk_seconds": round(seconds * MILLI)}
    least, most = round((bill.disk_dollars_at_least or 0.0) * NANO), round((bill.disk_dollars_at_most or 0.0) * NANO)
    # A disk is billed in proportion to its month (Amazon EBS pricing).
    exact = sum((each.ends - each.begins) * bill.disk_price.dollars / month(each.day) for each in slices)
    expected = min(max(round(exact * NANO), least), most)
    return {"disk_dollars_at_least": least, "disk_dollars": expected, "disk_dollars_at_most": most}


def month(day: int) -> int:
    """Return the number of seconds of the month that has this UTC day."""
    at = gmtime(day * DAY)
    return monthrange(at.tm_year, at.tm_mon)[1] * DAY


def ran(uses: Sequence[Assignment], bill: MachineBill, now: float) -> tuple[float, float]:
    """Return when the machine is expected to have entered `running`, and to have left it, in Unix seconds.

    If nothing shows that the machine ever ran, the two are equal.
    """
    machine = uses[0].machine
    born = machine.launch_time or machine.bound_at
    least, most = float(bill.seconds_at_least), float(bill.seconds_at_most)
    begins = machine.running_at
    if begins is None and least > 0:
        begins = born
    if begins is None:
        # A machine that exists now, and was not seen running, is not billed yet.
        return born, born
    ends = _left(uses, begins) if machine.ending_at or machine.ended_at else now
    return begins, begins + min(max(ends - begins, float(MINIMUM_SECONDS), least), max(most, least))


def _left(uses: Sequence[Assignment], begins: float) -> float:
    """Return when a machine that has ended is expected to have left `running`."""
    machine = uses[0].machine
    seen = machine.ending_at or machine.ended_at or begins
    if machine.alive_at is not None and seen - machine.alive_at <= OUTAGE:
        return seen
    signs = [sign for each in uses if (sign := _last_sign(each.node)) is not None]
    known = machine.transition_at or max(signs, default=None)
    if known is None:
        # Nothing was seen between the two listings.
        known = (max(begins, machine.alive_at or begins) + seen) / 2
    return min(seen, max(known, machine.alive_at or begins))


def _last_sign(node: Node) -> float | None:
    source = node.result or node.report
    return by_our_clock(source.at, node).at if source else None


def _slices(uses: Sequence[Assignment], born: float, gone: float) -> Iterator[Slice]:
    """Yield the machine's life in order, divided by use and by day."""
    marks = [(max(born, at), use) for at, use in _marks(uses)]
    for number, (at, use) in enumerate(marks):
        begins = born if number == 0 else min(at, gone)
        ends = gone if number == len(marks) - 1 else min(max(marks[number + 1][0], begins), gone)
        while begins < ends:
            day = int(begins // DAY)
            until = min(ends, float((day + 1) * DAY))
            yield Slice(day, use, begins, until)
            begins = until


def _marks(uses: Sequence[Assignment]) -> list[tuple[float, Use]]:
    """Return the uses of a machine in order, each with the Unix time at which it begins."""
    found = list[tuple[float, Use]]()
    for number, each in enumerate(uses):
        node = each.node
        verdict = node.verdict
        if not node.run:
            own = Use.UNATTRIBUTED
        else:
            own = Use(verdict.outcome.value) if verdict else Use.UNFINISHED
        found.append((node.bound_at, own))
        waited = _waited(node)
        if waited:
            found += [(waited[0], Use.WAITING)]
            found += [(waited[1], own)] if waited[1] is not None else []
        if number + 1 < len(uses):
            over = _last_sign(node) if node.result else verdict.at if verdict else None
            found.append((over or uses[number + 1].node.bound_at, Use.KEPT))
    # Clocks differ, so a mark may be before the one that precedes it.
    ordered, floor = list[tuple[float, Use]](), float("-inf")
    for at, use in found:
        floor = max(floor, at)
        ordered.append((floor, use))
    return ordered


def _waited(node: Node) -> tuple[float, float | None] | None:
    """Return when the node waited for its peers: from, and until if that is known; or None."""
    source = node.result or node.report
    span = source.spans.get(Step.BARRIER) if source else None
    if span is None:
        return None
    began = by_our_clock(span.began, node).at
    return began, None if span.ended is None else by_our_clock(span.ended, node).at


def _divided(value: int, weights: Sequence[float]) -> list[int]:
    """Return whole shares of the value in proportion to the weights; their sum is the value."""
    whole, shares, given, weight = sum(weights), list[int](), 0, 0.0
    for each in weights:
        weight += each
        until = round(value * weight / whole) if whole > 0 else 0
        shares.append(until - given)
        given = until
    if shares:
        shares[-1] += value - given
    return shares
