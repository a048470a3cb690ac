"""Time and money of a run, each figure bound from both sides by something that was recorded.

A machine is billed from running to shutting-down, by the second, for at least 60 s (EC2 User Guide,
"Instance lifecycle"; "On-Demand Instances", billing). `LaunchTime` comes before running and our
first sight of its end comes after shutting-down, so the two bound the truth from above; the agent's
first and last signs of life bound it from below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.launch import Price
from provisioner.core.record import Held, KnownMachine, Node, Run
from provisioner.core.work import Outcome, Span, Step

MINIMUM_SECONDS = 60


@dataclass(frozen=True)
class Phase:
    """A part of an attempt's time; `ended` is None while it lasts, or where nothing recorded its end."""

    name: str
    attempt: int
    began: float
    ended: float | None
    #: Who recorded the two ends.
    source: str


@dataclass(frozen=True)
class MachineBill:
    """What one machine costs: bounds in seconds, and in dollars where its price is known."""

    instance_id: str
    attempt: int
    instance_type: str
    zone: str
    market: str
    seconds_at_least: int
    seconds_at_most: int
    price: Price | None = None
    dollars_at_least: float | None = None
    dollars_at_most: float | None = None


@dataclass(frozen=True)
class Receipt:
    """The bill of a run; `provisional` until the run is done."""

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
    #: None where a machine's price is unknown.
    dollars_at_least: float | None
    dollars_at_most: float | None


def receipt(run: Run, held: Sequence[Held], now: float) -> Receipt:
    """The receipt as far as it is known at `now`."""
    bills = tuple(_bill(each, now) for each in held)
    known = all(bill.price for bill in bills)
    return Receipt(
        run=run.id,
        job=run.job_name,
        owner=run.owner,
        outcome=run.verdict.outcome if run.verdict and run.ended_at else None,
        exit_code=run.verdict.exit_code if run.verdict and run.ended_at else None,
        provisional=any(each.machine.ended_at is None for each in held) or run.ended_at is None,
        created_at=run.created_at,
        ended_at=run.ended_at,
        phases=tuple(_phases(run, held)),
        machines=bills,
        dollars_at_least=_total([bill.dollars_at_least for bill in bills]) if known else None,
        dollars_at_most=_total([bill.dollars_at_most for bill in bills]) if known else None,
    )


def _total(dollars: Sequence[float | None]) -> float:
    return math.ceil(sum(each or 0.0 for each in dollars) * 1e6) / 1e6


def _phases(run: Run, held: Sequence[Held]) -> list[Phase]:
    found: list[Phase] = []
    began = run.created_at
    for each in sorted(held, key=lambda each: each.node.attempt):
        node, machine = each.node, each.machine
        born = machine.launch_time or machine.bound_at
        # LaunchTime has no fractions: it may seem to come before the launch itself.
        found.append(Phase("queued", node.attempt, began, max(began, born), "store; LaunchTime"))
        spans = _spans(node)
        boot_end = min((span.began for name, span in spans.items() if name != Step.BOOT), default=None)
        found.append(Phase(Step.BOOT, node.attempt, born, boot_end or machine.ending_at, "LaunchTime; agent"))
        found.extend(
            Phase(name, node.attempt, span.began, span.ended, "agent")
            for name, span in sorted(spans.items(), key=lambda item: item[1].began)
            if name != Step.BOOT
        )
        last = _last_sign(node)
        if last is not None:
            found.append(Phase("ending", node.attempt, last, machine.ended_at, "agent; listing"))
        began = machine.ended_at or last or born
    if not held:
        found.append(Phase("queued", 0, began, run.ended_at, "store"))
    return found


def _spans(node: Node) -> dict[str, Span]:
    source = node.result or node.report
    return dict(source.spans) if source else {}


def _last_sign(node: Node) -> float | None:
    signs = [node.result.at] if node.result else []
    return max([*signs, node.report.at] if node.report else signs, default=None)


def _bill(held: Held, now: float) -> MachineBill:
    node, machine = held.node, held.machine
    most = _most(machine, now)
    least = _least(held, most)
    price = machine.price
    return MachineBill(
        machine.id,
        node.attempt,
        machine.offer.instance_type,
        machine.offer.zone,
        machine.offer.market,
        least,
        most,
        price,
        dollars_at_least=least * price.dollars / 3600 if price else None,
        dollars_at_most=most * price.dollars / 3600 if price else None,
    )


def _most(machine: KnownMachine, now: float) -> int:
    end = machine.ending_at or machine.ended_at or now
    return max(MINIMUM_SECONDS, math.ceil(end - (machine.launch_time or machine.bound_at)) + 1)


def _least(held: Held, most: int) -> int:
    # The boot's span begins at LaunchTime, and pending is not billed: the agent's own first sign is its end.
    node, machine = held.node, held.machine
    signs = [span.ended if name == Step.BOOT else span.began for name, span in _spans(node).items()]
    first, last = min((sign for sign in signs if sign is not None), default=None), _last_sign(node)
    if first is None or last is None:
        # It may never have run: then nothing is billed.
        return 0
    lasted = last - first
    # Shutting-down is not billed, and a machine may go on speaking in it: what counts ends before it can begin.
    ends = [machine.end_wanted_at, _notice_at(node)]
    if end := min((each for each in ends if each is not None), default=None):
        lasted = min(lasted, end - first - _clock_ahead(node)) if node.report else 0.0
    return min(most, max(MINIMUM_SECONDS, math.floor(lasted)))


def _notice_at(node: Node) -> float | None:
    notice = (node.result and node.result.notice) or (node.report and node.report.notice)
    return notice.at if notice else None


def _clock_ahead(node: Node) -> float:
    """How far our clock is ahead of the machine's, at most: a report is read after it was written."""
    return node.reported_at - node.report.at if node.report and node.reported_at is not None else 0.0
