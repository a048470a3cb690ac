"""`provision status`: a run as a story, in lines that fit the terminal.

What it does now and why, then each attempt, then what happened when.
"""

import datetime as dt
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from provisioner.core.cloud.machines import ENDING
from provisioner.core.cost.phases import Phase
from provisioner.core.cost.receipt import Receipt
from provisioner.core.dates import datable
from provisioner.core.plain import plain
from provisioner.core.recipe.recipe import Limits
from provisioner.core.run.records import Event, KnownMachine, Node, Run, Tried, Verdict
from provisioner.core.run.silence import is_silent
from provisioner.core.run.states import State
from provisioner.core.run.verdicts import MARGIN, first_report_due
from provisioner.core.run.work_order import recipe_of
from provisioner.faces.cli.terminal.screen import ago, clock, date, dollars, duration, size
from provisioner.ports.control.runs import Status

#: Columns before a fact, and before an event's text: the time, and the time since the trigger.
LABEL, TIMES = 11, 25


def story(item: Status, bill: Receipt, now: float, width: int | None = None) -> Iterator[str]:
    """The lines, wrapped at `width` columns, or not at all."""
    recipe = recipe_of(item.run)
    limits = recipe.spec.limits if recipe else Limits()
    for label, text in _facts(item, bill, limits, now):
        yield from _wrapped(label.ljust(LABEL), text, width)
    machines = {machine.id: machine for machine in item.machines}
    for node in item.nodes:
        yield ""
        lines = _attempt(node, machines[node.instance_id], bill, limits, now)
        for number, text in enumerate(lines):
            yield from _wrapped(("" if number else f"attempt {node.attempt}").ljust(LABEL), text, width)
    yield ""
    yield from _timeline(item.events, item.run.created_at, width)


def _wrapped(label: str, text: str, width: int | None) -> Iterator[str]:
    if width is None:
        yield f"{label}{plain(text)}"
        return
    # A figure and its unit stay in one line.
    text = re.sub(r"(\d) (?=(s|min|h|d|B|kB|MB|GB|TB|\$)\b)", "\\1\xa0", plain(text))
    for line in textwrap.wrap(text, max(20, width - len(label)), break_on_hyphens=False) or [""]:
        yield f"{label}{line}".replace("\xa0", " ")
        label = " " * len(label)


def _facts(item: Status, bill: Receipt, limits: Limits, now: float) -> Iterator[tuple[str, str]]:
    run = item.run
    yield "run", run.id
    yield "job", f"{run.owner}/{run.job_name}, revision {run.job_revision}"
    yield "triggered", f"{date(run.created_at)}, {ago(run.created_at, now)}"
    if run.ended_at is not None and run.verdict:
        yield "outcome", _verdict(run.verdict)
        yield "ended", f"{date(run.ended_at)}, {duration(run.ended_at - run.created_at)} after the trigger"
    if run.done_at is None:
        yield "now", _now(run, bill.phases, now)
    if run.ended_at is None:
        yield from _waiting(run, now)
        if run.stop:
            yield "stop", _stop(run, item.nodes, limits, now)
    yield "cost", _cost(bill)


def _verdict(verdict: Verdict) -> str:
    # The reason mostly says the code.
    known = verdict.exit_code is None or re.search(rf"\b{verdict.exit_code}\b", verdict.reason)
    return f"{verdict.outcome}: {verdict.reason}{'' if known else f' (exit code {verdict.exit_code})'}"


def _now(run: Run, phases: Sequence[Phase], now: float) -> str:
    open = [phase for phase in phases if phase.ended is None and not phase.beside]
    text = f"{run.state}, attempt {run.attempt}" if run.attempt > 1 or run.state is not State.QUEUED else str(run.state)
    if run.state is State.QUEUED and run.attempt:
        text = "queued again"
    if not open:
        return text
    lasts = duration(now - open[-1].began.at)
    name = open[-1].name
    return f"{text} for {lasts}" if name == run.state else f"{text}: {name} for {lasts}"


def _waiting(run: Run, now: float) -> Iterator[tuple[str, str]]:
    if run.state is not State.QUEUED:
        return
    if run.waiting:
        yield "waits", f"{run.waiting}: {run.waiting_for}"
    elif run.verdict:
        yield "because", f"attempt {run.attempt} {_verdict(run.verdict)}"
    for number, text in enumerate(_tried(run.tried, now)):
        yield "" if number else "tried", text
    left = run.next_try_at - now
    yield "next try", f"in {duration(left)}, at {clock(run.next_try_at)}" if left > 0 else "now"


def _tried(tried: Iterable[Tried], now: float) -> Iterator[str]:
    """What was tried, each once, the latest last."""
    times: dict[tuple[str, str], list[float]] = {}
    for each in tried:
        times[each.what, each.code] = [*times.pop((each.what, each.code), []), each.at]
    for (what, code), when in times.items():
        often = f"{len(when)} times, last " if len(when) > 1 else ""
        yield f"{what}: {code}, {often}{ago(when[-1], now)}"


def _stop(run: Run, nodes: Sequence[Node], limits: Limits, now: float) -> str:
    assert run.stop, "there is a wish to tell of"
    text = f"{run.stop.reason}, {ago(run.stop.at, now)}"
    node = next((node for node in nodes if node.attempt == run.attempt and node.verdict is None), None)
    if node is None:
        return text
    if node.stop_put_at is None:
        return f"{text}; the machine is not told yet"
    at = node.stop_put_at + limits.stop_grace + MARGIN
    kill = f"SIGKILL follows SIGTERM after {duration(limits.stop_grace)}"
    return f"{text}; {kill}, and a machine that does not answer is ended at {clock(at)}"


def _cost(bill: Receipt) -> str:
    if not bill.machines:
        return "nothing: no machine"
    if bill.dollars_at_most is None:
        return "unknown: the price of a machine is"
    text = f"{dollars(bill.dollars_at_least, bill.dollars_at_most)}, without disks"
    return f"{text}; until now" if bill.provisional else text


def _attempt(node: Node, machine: KnownMachine, bill: Receipt, limits: Limits, now: float) -> Iterator[str]:
    price = f"{machine.price.dollars:g} $/h" if machine.price else "price unknown"
    yield f"{machine.id}, {machine.offer}, {price}"
    spent = [phase for phase in bill.phases if (phase.attempt, phase.rank) == (node.attempt, node.rank)]
    if spent:
        yield ", ".join(_phase(phase, now) for phase in spent)
    if node.report and (log := _log(node.report.produced, node.report.shipped)):
        yield log
    if node.verdict:
        yield _verdict(node.verdict)
        if machine.ended_at is None:
            yield f"the machine is {machine.state}{_ending(machine)}"
        return
    yield _heard(node, machine, limits, now)
    if node.report and node.report.notice:
        left = node.report.notice.at - now
        yield f"notice: the cloud takes it at {clock(node.report.notice.at)}" + (
            f", in {duration(left)}" if left > 0 else ""
        )
    elif node.report and node.report.rebalance_at is not None:
        yield f"the cloud recommends to move elsewhere, since {clock(node.report.rebalance_at)}"


def _phase(phase: Phase, now: float) -> str:
    lasted = (phase.ended.at if phase.ended else now) - phase.began.at
    text = f"{phase.name} {lasted:.1f} s" if lasted < 60 else f"{phase.name} {duration(lasted)}"
    text = text if phase.ended else f"{text} until now"
    return f"({text} beside)" if phase.beside else text


def _log(produced: Mapping[str, int], shipped: Mapping[str, int]) -> str:
    written = ", ".join(f"{stream} {size(count)}" for stream, count in produced.items() if count)
    waiting = sum(produced.values()) - sum(shipped.values())
    if not written:
        return ""
    return f"log: {written}; {f'{size(waiting)} of it not in the bucket yet' if waiting > 0 else 'all in the bucket'}"


def _heard(node: Node, machine: KnownMachine, limits: Limits, now: float) -> str:
    if (due := first_report_due(node, machine, limits)) is not None:
        return f"not heard from yet; lost if it says nothing by {clock(due)}"
    if node.reported_at is None:
        return "waits for its work order"
    if not is_silent(node, now):
        return f"heard from {ago(node.reported_at, now)}"
    checks = "its status checks fail" if machine.impaired_at else "EC2 reports no fault, so its limits decide"
    return f"silent since {clock(node.reported_at)}, for {duration(now - node.reported_at)}: {checks}"


def _ending(machine: KnownMachine) -> str:
    if machine.state in ENDING or machine.end_wanted_at is None:
        return ""
    return "; its end is asked for" if machine.end_asked_at else "; its end is wanted"


def _timeline(events: Sequence[Event], since: float, width: int | None) -> Iterator[str]:
    """Local times, and the time since the trigger; another day is said."""
    day = _day(since)
    for event in events:
        if (today := _day(event.at)) != day:
            day = today
            yield f"{day}"
        times = f"{clock(event.at)} {_since(event.at - since):>12}"
        yield from _wrapped(times.ljust(TIMES), event.text, width)


def _day(at: float) -> dt.date:
    return dt.datetime.fromtimestamp(datable(at)).astimezone().date()


def _since(seconds: float) -> str:
    return f"+{seconds:.1f} s" if seconds < 60 else f"+{duration(seconds)}"
