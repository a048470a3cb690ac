"""Compute the receipt of a run: its time and cost, each with a lower and an upper bound from recorded events.

A machine is billed from running to shutting-down, by the second, for at least 60 s (EC2 User Guide, "Instance
lifecycle"; "On-Demand Instances", billing). Upper bound: the time from `LaunchTime`, which is before running, to the
first listing that shows the machine's end, which is after shutting-down began. Lower bound: the time between the first
and the last listing that show it running, or between the agent's first and last recorded times, whichever is longer;
the times of each pair come from one clock. A listing may be LISTING_LAG seconds out of date, so LISTING_LAG is
subtracted from the time of the last listing.

A spot machine that AWS interrupts in its first hour is free, but not its disk (EC2 User Guide, "Billing for interrupted
Spot Instances").
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.machines import Ending
from provisioner.core.cloud.offers import Market, Price
from provisioner.core.cost.phases import LISTING_LAG, Phase, phases
from provisioner.core.protocol.messages import Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Node, Run

MINIMUM_SECONDS = 60
#: Seconds of the shortest and the longest month: a disk's price is for a month.
SHORTEST_MONTH, LONGEST_MONTH = 28 * 86400, 31 * 86400
#: A spot machine that AWS interrupts before it has run for this many seconds is free.
FREE_SECONDS = 3600

#: Phases in which a machine is not billed, or does not exist.
UNBILLED = frozenset({"queued", "launching", "pending", "gone", "closing"})
#: A phase with at least this share of the billed time gets advice: no other phase can save as much.
DOMINANT = 0.5
ADVICE: Mapping[str, str] = {
    "boot": "use an AMI that starts fewer services, or another instance type",
    Step.PULL: "bake the image into the AMI, or shrink it",
    Step.CLONE: "clone a smaller repository, or keep its data in S3",
    Step.SETUP: "build the start script's packages into the image",
    Step.LOGS: "write less log, or let the job write large output to S3",
    "ending": "run `provision daemon`, so that machines are terminated as soon as they are done",
    "silent": "set shorter `limits`, so that a silent machine is terminated sooner",
}


@dataclass(frozen=True)
class MachineBill:
    """The cost of one machine, with bounds: in seconds, and in US dollars if its price is known."""

    instance_id: str
    attempt: int
    rank: int
    instance_type: str
    zone: str
    market: str
    seconds_at_least: int
    seconds_at_most: int
    price: Price | None = None
    dollars_at_least: float | None = None
    dollars_at_most: float | None = None
    #: The disk is billed until the machine is terminated, in proportion to the month (Amazon EBS pricing).
    disk_gib: int | None = None
    disk_gib_seconds_at_least: int | None = None
    disk_gib_seconds_at_most: int | None = None
    #: The price of the whole disk for a month.
    disk_price: Price | None = None
    disk_dollars_at_least: float | None = None
    disk_dollars_at_most: float | None = None
    #: The id of its capacity reservation, or "". The account pays for the reservation whether the machine runs or not.
    reservation: str = ""
    #: Whether the machine is free, because AWS interrupted it in its first hour.
    free: bool = False


@dataclass(frozen=True)
class Receipt:
    """The bill of a run; `provisional` until the run has ended and its machines are terminated."""

    run: str
    job: str
    owner: str
    outcome: Outcome | None
    exit_code: int | None
    provisional: bool
    created_at: float
    ended_at: float | None
    phases: tuple[Phase, ...]
    machines: tuple[MachineBill, ...]
    #: US dollars of the machines without their disks; None if a machine's price is unknown.
    dollars_at_least: float | None
    dollars_at_most: float | None
    #: US dollars of the disks; None if a disk's price is unknown.
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None
    #: How to shorten the phase that takes most of the billed time, unless that is the command.
    advice: str | None = None
    #: The process's exit code for every outcome; `exit_code` is None for an interrupted run.
    process_exit_code: int | None = None
    #: `limits.cost` of the recipe, in US dollars of the machines; None if it has none.
    cost_limit: float | None = None


def receipt(run: Run, held: Sequence[Assignment], launches: Mapping[str, Launch], now: float) -> Receipt:
    """Return the receipt as known at `now`; `launches` are those of the nodes and of the run, by id."""
    bills = bills_of(held, launches, now)
    spent = phases(run, held, launches, now)
    return Receipt(
        run=run.id,
        job=run.job_name,
        owner=run.owner,
        outcome=run.verdict.outcome if run.verdict and run.ended_at else None,
        exit_code=run.verdict.exit_code if run.verdict and run.ended_at else None,
        provisional=any(each.machine.ended_at is None for each in held) or run.ended_at is None,
        created_at=run.created_at,
        ended_at=run.ended_at,
        phases=spent,
        machines=bills,
        dollars_at_least=_total([bill.dollars_at_least for bill in bills]),
        dollars_at_most=_total([bill.dollars_at_most for bill in bills]),
        disk_dollars_at_least=_total([bill.disk_dollars_at_least for bill in bills]),
        disk_dollars_at_most=_total([bill.disk_dollars_at_most for bill in bills]),
        advice=advice(spent) if run.done_at is not None else None,
        process_exit_code=run.verdict.process_exit_code if run.verdict and run.ended_at else None,
    )


def bills_of(held: Iterable[Assignment], launches: Mapping[str, Launch], now: float) -> tuple[MachineBill, ...]:
    """Return the bill of each machine, in the order of their first attempts."""
    return tuple(_bill(several, launches.get(several[0].node.launch), now) for several in uses_of(held).values())


def uses_of(held: Iterable[Assignment]) -> Mapping[str, Sequence[Assignment]]:
    """Return the nodes of each machine, one for each attempt that it worked for, in order."""
    uses: dict[str, list[Assignment]] = {}
    for each in sorted(held, key=lambda each: each.node.attempt):
        uses.setdefault(each.machine.id, []).append(each)
    return uses


def advice(spent: Sequence[Phase]) -> str | None:
    """Return a line of advice on the phase that dominates the billed time, or None.

    Returns None if the command dominates, if no phase does, or if only the minimum is billed, which cannot be reduced.
    """
    billed: dict[str, float] = {}
    for phase in spent:
        if not phase.beside and phase.ended and phase.name not in UNBILLED:
            billed[phase.name] = billed.get(phase.name, 0.0) + phase.ended.at - phase.began.at
    total = sum(billed.values())
    name = max(billed, key=billed.__getitem__, default="")
    if total <= MINIMUM_SECONDS or name not in ADVICE or billed[name] < DOMINANT * total:
        return None
    return f"the {name} phase is {100 * billed[name] / total:.0f} % of the machine's billed time: {ADVICE[name]}"


def _total(dollars: Sequence[float | None]) -> float | None:
    known = [each for each in dollars if each is not None]
    return math.ceil(sum(known) * 1e6) / 1e6 if len(known) == len(dollars) else None


def _spans(node: Node) -> dict[str, Span]:
    source = node.result or node.report
    return dict(source.spans) if source else {}


def _last_sign(node: Node) -> float | None:
    signs = [node.result.at] if node.result else []
    return max([*signs, node.report.at] if node.report else signs, default=None)


def _bill(uses: Sequence[Assignment], launch: Launch | None, now: float) -> MachineBill:
    """Return the bill of one machine; `uses` are its nodes, one for each attempt that it worked for, in order."""
    node, machine = uses[0].node, uses[0].machine
    gib = launch.request.template.disk_gib if launch else None
    most = _seconds(machine, launch, machine.ending_at or machine.ended_at or now)
    least = _least(uses, most)
    kept = _seconds(machine, launch, machine.ended_at or now)
    price, disk = machine.price, machine.disk_price
    hourly = None if price is None else price.dollars
    interrupted = machine.offer.market is Market.SPOT and machine.ending is Ending.INTERRUPTED
    return MachineBill(
        machine.id,
        node.attempt,
        node.rank,
        machine.offer.instance_type,
        machine.offer.zone,
        machine.offer.market,
        least,
        most,
        price,
        # Between these two limits it is not certain that the machine ran for an hour.
        dollars_at_least=_dollars(0 if interrupted and least < FREE_SECONDS else least, hourly),
        dollars_at_most=_dollars(0 if interrupted and most < FREE_SECONDS else most, hourly),
        disk_gib=gib,
        disk_gib_seconds_at_least=None if gib is None else gib * least,
        disk_gib_seconds_at_most=None if gib is None else gib * kept,
        disk_price=disk,
        disk_dollars_at_least=least * disk.dollars / LONGEST_MONTH if disk else None,
        disk_dollars_at_most=kept * disk.dollars / SHORTEST_MONTH if disk else None,
        reservation=machine.reservation,
        free=interrupted and most < FREE_SECONDS,
    )


def _dollars(seconds: int, hourly: float | None) -> float | None:
    return None if hourly is None else seconds * hourly / 3600


def _seconds(machine: KnownMachine, launch: Launch | None, end: float) -> int:
    """Return the most seconds for which the machine may have existed until `end`, at least MINIMUM_SECONDS."""
    # If no listing showed the machine, it may be as old as its launch: after a lost answer it may be found hours later.
    born = machine.launch_time or (min(launch.created_at, machine.bound_at) if launch else machine.bound_at)
    return max(MINIMUM_SECONDS, math.ceil(end - born) + 1)


def _least(uses: Sequence[Assignment], most: int) -> int:
    lasted = max((each for each in (_listed(uses[0].machine), _spoke(uses)) if each is not None), default=None)
    # Without such evidence the machine may never have run, and then nothing is billed.
    return 0 if lasted is None else min(most, max(MINIMUM_SECONDS, math.floor(lasted)))


def _listed(machine: KnownMachine) -> float | None:
    """Return the seconds for which listings show the machine running until its end was wanted, or None."""
    if machine.running_at is None:
        return None
    ends = ((machine.alive_at or machine.running_at) - LISTING_LAG, machine.end_wanted_at)
    return max(0.0, min(each for each in ends if each is not None) - machine.running_at)


def _spoke(uses: Sequence[Assignment]) -> float | None:
    """Return the seconds between the agents' first and last recorded times, by their clock; None if they have none."""
    spans = [(first, last) for each in uses if (first := _first_sign(each.node)) and (last := _last_sign(each.node))]
    if not spans:
        return None
    node, machine = uses[-1].node, uses[-1].machine
    first, last = spans[0][0], spans[-1][1]
    lasted = last - first
    # `shutting-down` is not billed, but the agent may still report then: count only until that state may have begun.
    ends = [machine.end_wanted_at, _notice_at(node)]
    if end := min((each for each in ends if each is not None), default=None):
        return min(lasted, end - first - node.clock_ahead) if node.report else 0.0
    return lasted


def _first_sign(node: Node) -> float | None:
    # The boot's span begins at LaunchTime, but `pending` is not billed. So take the end of that span instead.
    signs = [span.ended if name == Step.BOOT else span.began for name, span in _spans(node).items()]
    return min((sign for sign in signs if sign is not None), default=None)


def _notice_at(node: Node) -> float | None:
    notice = (node.result and node.result.notice) or (node.report and node.report.notice)
    return notice.at if notice else None
