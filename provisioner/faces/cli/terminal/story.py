"""Story of a run for `provision status`, in lines that fit the terminal.

It shows what the run is doing and why, then each attempt, then the events with their times.
"""

import datetime as dt
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

from provisioner.core.dates import datable
from provisioner.core.plain import plain
from provisioner.core.protocol.words import Step
from provisioner.core.run.states import State
from provisioner.core.units import ago, duration, size
from provisioner.core.views.receipt import Phase, Receipt
from provisioner.core.views.run import Attempt, Event, Machine, Run, Status, Waiting
from provisioner.faces.cli.terminal import lists, ranks
from provisioner.faces.cli.terminal.screen import clock, date, dollars

#: Columns of the label before a fact; and of the times before an event's text (local, and since the trigger).
LABEL, TIMES = 11, 25
#: Maximum number of ranks that are shown for each attempt.
RANKS = 16


def story(item: Status, bill: Receipt, now: float, width: int | None = None) -> Iterator[str]:
    """Yield the story's lines, wrapped at `width` columns; None does not wrap them. Each reason is shown once."""
    for label, text in _facts(item, bill, now):
        yield from _wrapped(label.ljust(LABEL), text, width)
    machines = {machine.id: machine for machine in item.machines}
    shown = {item.run.reason, *(event.text.partition(", ")[2] for event in item.events)}
    for attempt in item.attempts:
        if attempt.rank == RANKS:
            more = sum((each.attempt, each.rank >= RANKS) == (attempt.attempt, True) for each in item.attempts)
            yield from _wrapped("".ljust(LABEL), f"… and {more} more ranks; --json has all", width)
        if attempt.rank >= RANKS:
            continue
        yield from ("",) if not attempt.rank else ()
        lines = _attempt(attempt, machines[attempt.instance_id], bill, now, shown)
        for number, text in enumerate(lines):
            label = "" if number or attempt.rank else f"attempt {attempt.attempt}"
            rank = f"rank {attempt.rank}: " if item.run.scale > 1 and not number else ""
            yield from _wrapped(label.ljust(LABEL), f"{rank}{text}", width)
    yield ""
    yield from _timeline(item.events, item.run.created_at, width, item.run.reason or "")


def _gang(run: Run) -> bool:
    return run.scale > 1 and run.commands is None


def _wrapped(label: str, text: str, width: int | None) -> Iterator[str]:
    if width is None:
        yield f"{label}{plain(text)}"
        return
    # Keep a number and its unit in one line.
    text = re.sub(r"(\d) (?=(s|min|h|d|B|kB|MB|GB|TB|\$)\b)", "\\1\xa0", plain(text))
    for line in textwrap.wrap(text, max(20, width - len(label)), break_on_hyphens=False) or [""]:
        yield f"{label}{line}".replace("\xa0", " ")
        label = " " * len(label)


def _facts(item: Status, bill: Receipt, now: float) -> Iterator[tuple[str, str]]:
    run = item.run
    yield "run", run.id
    yield "job", f"{run.owner}/{run.job}, revision {run.job_revision}"
    yield "triggered", f"{date(run.created_at)}, {ago(run.created_at, now)}"
    if run.ended_at is not None:
        yield "outcome", _outcome(run)
        yield "ended", f"{date(run.ended_at)}, {duration(run.ended_at - run.created_at)} after the trigger"
    if run.done_at is None:
        ready = ranks.preparing(item.attempts, run.attempt) if _gang(run) and run.state is State.PREPARING else ""
        yield "now", _now(run, bill.phases, now) + ready
    yield from _commands(run, now)
    if run.ended_at is None:
        yield from _waiting(item, now)
        if run.stop:
            yield "stop", _stop(run, item.attempts, now)
    yield "cost", _cost(bill)


def _outcome(ended: Run | Attempt) -> str:
    # The reason has the exit code in most cases.
    known = ended.exit_code is None or re.search(rf"\b{ended.exit_code}\b", ended.reason or "")
    return f"{ended.outcome}: {ended.reason}{'' if known else f' (exit code {ended.exit_code})'}"


def _now(run: Run, phases: Sequence[Phase], now: float) -> str:
    open = [phase for phase in phases if phase.ended is None and not phase.beside]
    text = f"{run.state}, attempt {run.attempt}" if run.attempt > 1 or run.state is not State.QUEUED else str(run.state)
    if run.state is State.QUEUED and run.attempt:
        text = "queued again"
    if not open:
        return text
    if run.commands and run.state is State.RUNNING:
        # Another machine may be booting: the list runs on the others.
        open = [phase for phase in open if phase.name == Step.COMMAND] or open
    lasts = duration(now - open[-1].began)
    name = open[-1].name
    return f"{text} for {lasts}" if name == run.state else f"{text}: {name} for {lasts}"


def _commands(run: Run, now: float) -> Iterator[tuple[str, str]]:
    """Yield how far a list is. The reason of a list that was worked through has its numbers already."""
    found = run.commands
    if found is None:
        return
    if run.ended_at is None:
        yield "commands", lists.progress(found, now)
    elif found.succeeded + found.failed + found.lost < found.total:
        yield "commands", lists.final(found)


def _waiting(item: Status, now: float) -> Iterator[tuple[str, str]]:
    run = item.run
    if run.state is not State.QUEUED or run.next_try_at is None:
        return
    if run.waiting:
        yield "waits", f"{run.waiting.cause}: {run.waiting.text}"
        for number, text in enumerate(_tried(run.waiting, now)):
            yield "" if number else "tried", text
    elif run.last_attempt:
        yield "because", f"attempt {run.attempt} {run.last_attempt}"
    left = run.next_try_at - now
    yield "next try", f"in {duration(left)}, at {clock(run.next_try_at)}" if left > 0 else "now"


def _tried(waiting: Waiting, now: float) -> Iterator[str]:
    """Yield a line for each different try, the latest last."""
    for last, count in waiting.tries():
        often = f"{count} times, last " if count > 1 else ""
        yield f"{last.what}: {last.code}, {often}{ago(last.at, now)}"


def _stop(run: Run, attempts: Sequence[Attempt], now: float) -> str:
    assert run.stop, "only a run with a request to stop it has this line"
    text = f"{run.stop.reason}, {ago(run.stop.at, now)}"
    current = next((each for each in attempts if each.attempt == run.attempt and each.outcome is None), None)
    if current is None:
        return text
    if current.stop_ends_at is None:
        return f"{text}; not sent to the machine yet"
    kill = f"SIGKILL follows SIGTERM after {duration(current.stop_grace)}"
    return f"{text}; {kill}; if the machine does not answer, it is terminated at {clock(current.stop_ends_at)}"


def _cost(bill: Receipt) -> str:
    if not bill.machines:
        return "none: no machine yet" if bill.provisional else "none: no machine"
    if bill.dollars_at_most is None:
        unknown = next(each for each in bill.machines if each.price is None)
        if unknown.reservation:
            return f"paid with the reservation {unknown.reservation}, which has no price by the hour"
        return f"unknown (no price for {unknown.market} {unknown.instance_type})"
    limit = "" if bill.cost_limit is None else f" of limits.cost ${bill.cost_limit:.2f}"
    text = f"{dollars(bill.dollars_at_least, bill.dollars_at_most)}{limit}, without disks"
    if paid := sum(each.reservation is not None for each in bill.machines):
        text += f"; already paid for {'all' if paid == len(bill.machines) else paid} machines by reservations"
    return f"{text}; until now" if bill.provisional else text


def _attempt(
    attempt: Attempt, machine: Machine, bill: Receipt, now: float, shown: Collection[str | None]
) -> Iterator[str]:
    price = f"{machine.price.dollars:g} $/h" if machine.price else "price unknown"
    market = str(machine.market)
    if machine.reservation:
        paid = f"paid with the reservation {machine.reservation}"
        market, price = "reserved", f"{price}, {paid}" if machine.price else paid
    yield f"{machine.id}, {market} {machine.type} in {machine.zone}, {price}"
    spent = [phase for phase in bill.phases if (phase.attempt, phase.rank) == (attempt.attempt, attempt.rank)]
    if spent:
        yield ", ".join(_phase(phase, now) for phase in spent)
    if log := _log(attempt.bytes_produced, attempt.bytes_shipped):
        yield log
    if attempt.outcome:
        yield str(attempt.outcome) if attempt.reason in shown else _outcome(attempt)
        if machine.ended_at is None:
            yield f"the machine is {machine.state}{_ending(machine)}"
        return
    yield _heard(attempt, machine, now)
    if attempt.notice_at is not None:
        left = attempt.notice_at - now
        yield f"spot interruption at {clock(attempt.notice_at)}" + (f", in {duration(left)}" if left > 0 else "")
    elif attempt.rebalance_at is not None:
        yield f"EC2 rebalance recommendation since {clock(attempt.rebalance_at)}"


def _phase(phase: Phase, now: float) -> str:
    lasted = (phase.ended if phase.ended is not None else now) - phase.began
    text = f"{phase.name} {lasted:.1f} s" if lasted < 60 else f"{phase.name} {duration(lasted)}"
    text = text if phase.ended is not None else f"{text} until now"
    return f"({text} beside)" if phase.beside else text


def _log(produced: Mapping[str, int], shipped: Mapping[str, int]) -> str:
    written = ", ".join(f"{stream} {size(count)}" for stream, count in produced.items() if count)
    waiting = sum(produced.values()) - sum(shipped.values())
    if not written:
        return ""
    return f"log: {written}; {f'{size(waiting)} of it not in the bucket yet' if waiting > 0 else 'all in the bucket'}"


def _heard(attempt: Attempt, machine: Machine, now: float) -> str:
    if attempt.report_due_at is not None:
        return f"no report yet; without one by {clock(attempt.report_due_at)} the attempt is lost"
    if attempt.heard_at is None:
        return "waiting for the work order"
    if attempt.silent_since is None:
        return f"last report {ago(attempt.heard_at, now)}"
    checks = "EC2's status checks fail" if machine.impaired_at else "EC2 reports no fault, so only a limit can end it"
    return f"silent since {clock(attempt.silent_since)}, for {duration(now - attempt.silent_since)}: {checks}"


def _ending(machine: Machine) -> str:
    if machine.ending or machine.end_wanted_at is None:
        return ""
    return "; termination is requested" if machine.end_asked_at else "; termination is pending"


def _timeline(events: Sequence[Event], since: float, width: int | None, reason: str) -> Iterator[str]:
    """Yield the events with local time and time since the trigger; a new day gets a line of its own.

    In the last event that ends with `reason`, the run's own, the reason is left out.
    """
    day = _day(since)
    last = max((at for at, event in enumerate(events) if reason and event.text.endswith(f", {reason}")), default=-1)
    for at, event in enumerate(events):
        if (today := _day(event.at)) != day:
            day = today
            yield f"{day}"
        times = f"{clock(event.at)} {_since(event.at - since):>12}"
        text = event.text.removesuffix(f", {reason}") if at == last else event.text
        yield from _wrapped(times.ljust(TIMES), text, width)


def _day(at: float) -> dt.date:
    return dt.datetime.fromtimestamp(datable(at)).astimezone().date()


def _since(seconds: float) -> str:
    return f"+{seconds:.1f} s" if seconds < 60 else f"+{duration(seconds)}"
