"""Show views on a terminal, as tables and lines."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from provisioner.core.dates import datable, zoned
from provisioner.core.protocol.words import Step
from provisioner.core.run.states import State
from provisioner.core.units import ago, duration, short, size
from provisioner.core.views.ami import Ami
from provisioner.core.views.codec import to_json
from provisioner.core.views.commands import Command, Estimate
from provisioner.core.views.history.shapes import Revision
from provisioner.core.views.job import Job, Schedule
from provisioner.core.views.receipt import Bill, Phase, Price, Receipt
from provisioner.core.views.run import Run
from provisioner.core.views.token import Audit, Token
from provisioner.faces.cli.terminal import lists, streams

#: Maximum number of characters of a command that are shown.
TEXT_MOST = 1000


def put_view(view: Any) -> None:
    """Print a view, or a list of them, as JSON."""
    streams.put_json([to_json(each) for each in view] if isinstance(view, list | tuple) else to_json(view))


def jobs(items: Sequence[Job]) -> None:
    if not items:
        streams.say("no jobs; create one with `provision apply FILE`")
    streams.table(("JOB", "REVISION", "APPLIED", "MACHINE"), [_job(job) for job in items])
    for job in items:
        for refusal in job.apply_refuses:
            streams.say(
                f"{job.owner}/{job.name}: the stored recipe still runs, but `apply` would refuse it now: {refusal}"
            )


def _job(job: Job) -> Sequence[str]:
    spec = job.recipe["spec"]
    market = "spot" if spec["use_spot_instance"] else "on-demand"
    return f"{job.owner}/{job.name}", str(job.revision), date(job.applied_at), f"{market} {spec['instance_type']}"


def revisions(items: Sequence[Revision]) -> None:
    streams.table(("REVISION", "APPLIED", "BY", "CHANGED"), [_revision(each) for each in items])


def _revision(item: Revision) -> Sequence[str]:
    applied = "not recorded" if item.applied_at is None else date(item.applied_at)
    changed = f"used by run {item.run[:12]}" if item.run else ", ".join(item.changed or ())
    return str(item.number), applied, item.applied_by or "-", changed


def phase(run: Run, now: float | None) -> str:
    """Return a line about the run's state; for a queued run also why it waits.

    With `now`, it has also what changes all the time: the time to the next try, and the progress of a list.
    """
    if run.outcome is not None:
        return f"{run.state}: {run.outcome}, {run.reason}"
    text = f"{run.state}, attempt {run.attempt}" if run.attempt > 1 else str(run.state)
    if run.stop:
        return f"{text}, {run.stop.reason}"
    if run.state is State.RUNNING and run.commands and now is not None:
        return f"{text}, {lists.brief(run.commands)}"
    if run.state is State.QUEUED and run.waiting:
        text += f", {run.waiting.cause}: {run.waiting.text}"
        if now is not None:
            left = run.waiting.next_try_at - now
            text += f"; next try in {duration(left)}" if left > 0 else "; trying now"
    return text


def preparing(step: str | None) -> str:
    """Return `: step` for a step of preparation, else "": a report newer than the state may have a later step."""
    return f": {step}" if step in (Step.BOOT, Step.PULL, Step.CLONE, Step.SETUP, Step.BARRIER) else ""


def runs(items: Sequence[Run], now: float) -> None:
    if not items:
        streams.say("no runs; start one with `provision start JOB`")
    one_owner = len({run.owner for run in items}) == 1
    streams.table(
        ("RUN", "JOB", "STATE", "AGE", "TIME", "TYPE", "COST", "REASON"),
        [
            (
                run.id[:12],
                run.job if one_owner else f"{run.owner}/{run.job}",
                run.outcome or run.state,
                short(now - run.created_at),
                short((now if run.ended_at is None else run.ended_at) - run.created_at),
                run.instance_type or "-",
                f"${run.dollars_at_most:.2f}" if run.dollars_at_most is not None else "-",
                _reason(run, now),
            )
            for run in items
        ],
    )


def _reason(run: Run, now: float) -> str:
    """Return why the run ended, or why it waits, without its state."""
    if run.outcome is not None:
        return run.reason or ""
    return phase(run, now).removeprefix(str(run.state)).lstrip(", ")


def commands(items: Sequence[Command]) -> None:
    """Print the commands of a list."""
    streams.table(
        ("INDEX", "STATE", "TRY", "CODE", "TOOK", "RANK", "COMMAND"),
        [
            (
                str(each.index),
                str(each.state),
                str(each.generation or "-"),
                " ".join(filter(None, ("-" if each.exit_code is None else str(each.exit_code), each.why))),
                "-" if each.seconds is None else _took(each.seconds),
                "-" if each.rank is None else str(each.rank),
                each.text,
            )
            for each in items
        ],
    )


def _took(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 9.95 else short(seconds)


def schedule(item: Schedule) -> None:
    """Print a schedule and its next times, in its zone and in UTC."""
    if item.schedule is None or item.timezone is None:
        return
    policies = f"{item.concurrency_policy}, catch up {item.schedule_catchup}"
    streams.put(f"{item.job}: {item.schedule} ({item.timezone}), {policies}")
    for at in item.next:
        streams.put(f"  {zoned(at, item.timezone)}   {zoned(at, 'UTC')}")


def schedules(items: Sequence[Schedule]) -> None:
    if not items:
        streams.say("no schedules; set one with `provision schedule JOB '0 2 * * *'`")
    streams.table(("JOB", "SCHEDULE", "ZONE", "LAST", "NEXT", "LAST OUTCOME"), [_scheduled(each) for each in items])


def _scheduled(item: Schedule) -> Sequence[str]:
    zone, last = item.timezone or "UTC", item.last
    outcome = ""
    if last and last.run:
        outcome = f"{last.run[:12]} {last.outcome or last.state or ''}"
    elif last:
        outcome = ": ".join(filter(None, (last.outcome, last.reason)))
    return (
        item.job,
        item.schedule or "",
        zone,
        zoned(last.at, zone) if last else "never",
        zoned(item.next[0], zone) if item.next else "never",
        outcome,
    )


def amis(items: Sequence[Ami], now: float) -> None:
    if not items:
        streams.say("no AMIs of your own; make one with `provision ami bake`")
    streams.table(
        ("AMI", "NAME", "MADE", "STATE", "AGENT", "DISK", "BASE", "PRELOADED"),
        [
            (
                ("* " if each.in_use else "") + each.id,
                each.name,
                ago(each.created_at, now),
                f"{each.state}{f': {each.reason}' if each.reason else ''}",
                "current" if each.agent_current else "stale",
                f"{each.disk_gib} GiB",
                each.base,
                " ".join(name.partition("@")[0] for name in each.preloaded),
            )
            for each in items
        ],
    )
    if any(each.in_use for each in items):
        streams.say("* used for new launches")
    if any(not each.agent_current for each in items):
        streams.say(
            "stale: the AMI has an older agent, so machines fetch the present one at boot; a new AMI avoids that"
        )


def tokens(items: Sequence[Token], now: float) -> None:
    if not items:
        streams.say("no tokens; create one with `provision token create --owner NAME`")
    streams.table(
        ("TOKEN", "ROLE", "OWNERS", "MADE", "BY", "VALID UNTIL", "NOTE"),
        [
            (
                each.id,
                each.role,
                " ".join(each.owners),
                ago(each.created_at, now),
                each.created_by,
                _lasts(each),
                each.note,
            )
            for each in items
        ],
    )


def _lasts(token: Token) -> str:
    if token.state != "valid":
        return token.state
    return "no expiry" if token.expires_at is None else date(token.expires_at)


def audit(items: Sequence[Audit]) -> None:
    streams.table(
        ("AT", "WHO", "FROM", "WHAT", "OWNER", "TARGET"),
        [(date(each.at), each.who, each.source, each.what, each.owner or "", each.target[:32]) for each in items],
    )


def date(at: float) -> str:
    """Return the local date and time."""
    return f"{dt.datetime.fromtimestamp(datable(at)).astimezone():%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """Return the local time of day, to the tenth of a second."""
    moment = dt.datetime.fromtimestamp(datable(at)).astimezone()
    return f"{moment:%H:%M:%S}.{moment.microsecond // 100_000}"


def receipt(item: Receipt) -> None:
    title = f"receipt of run {item.run[:12]} ({item.owner}/{item.job})"
    streams.put(f"{title}, provisional" if item.provisional else title)
    # Sort by time; a phase that ran beside another one comes below it.
    ordered = sorted(item.phases, key=lambda phase: (phase.attempt, phase.began, phase.beside))
    streams.table(
        ("ATTEMPT", "PHASE", "SECONDS", "BILLED", "BEGINS WITH"),
        [
            (
                "" if phase.attempt == 0 else str(phase.attempt) + (f".{phase.rank}" if phase.rank else ""),
                f"  beside: {phase.name}" if phase.beside else phase.name,
                f"{phase.ended - phase.began:9.1f}" if phase.ended is not None else "   so far",
                "yes" if phase.billed and not phase.beside else "",
                f"{clock(phase.began)}  {phase.began_source}{_error(phase)}",
            )
            for phase in ordered
        ],
    )
    line = [phase for phase in item.phases if not phase.beside]
    if line and (ended := line[-1].ended) is not None:
        streams.put(
            f"total: {ended - item.created_at:.1f} s from the trigger to the end of the last machine, "
            f"at {clock(ended)}  {line[-1].ended_source}"
        )
    streams.put()
    streams.table(
        ("MACHINE", "OFFER", "BILLED SECONDS", "PRICE", "DOLLARS", "DISK"),
        [
            (
                bill.instance_id,
                f"{bill.market} {bill.instance_type} {bill.zone}",
                f"{bill.seconds_at_least} to {bill.seconds_at_most}",
                _paid(bill, item.created_at),
                dollars(bill.dollars_at_least, bill.dollars_at_most),
                _disk(bill),
            )
            for bill in item.machines
        ],
    )
    disks = dollars(item.disk_dollars_at_least, item.disk_dollars_at_most)
    limit = "" if item.cost_limit is None else f" of limits.cost ${item.cost_limit:.2f}"
    streams.put(
        f"total: {dollars(item.dollars_at_least, item.dollars_at_most)}{limit} for machines, {disks} for their disks"
    )
    if item.advice:
        streams.put(item.advice)


def _error(phase: Phase) -> str:
    """Return the error of the phase's begin, rounded up; "" for the store's clock, which is the reference."""
    error = phase.began_error
    return f" ± {math.ceil(error * 10) / 10:.1f} s" if error or phase.began_source != "store" else ""


def _paid(bill: Bill, at: float) -> str:
    """Return the price of an hour, and whether it is paid already."""
    if not bill.reservation:
        return _price(bill.price, at)
    paid = f"paid with {bill.reservation}"
    return f"{_price(bill.price, at)}, {paid}" if bill.price else paid


def _price(item: Price | None, at: float) -> str:
    if item is None:
        return "unknown"
    old = f", {duration(at - item.at)} old" if at - item.at >= 60 else ""
    return f"{item.dollars:g} $/h ({item.source}{old})"


def estimate(item: Estimate) -> None:
    """Show what a list would need."""
    streams.put(f"{item.commands:,} command{'' if item.commands == 1 else 's'}, {size(item.bytes)}")
    for index, text in {0: item.first, item.commands - 1: item.last}.items():
        streams.put(f"  command {index}: {text if len(text) <= TEXT_MOST else f'{text[:TEXT_MOST]}…'}")
    machines = f"{item.machines:,} machine{'' if item.machines == 1 else 's'}"
    price = _cents(item.hourly_dollars_least, item.hourly_dollars_most)
    streams.put(f"at most {machines}, {item.slots:,} commands at once, {price} an hour")
    if item.seconds is None or item.command_seconds is None or item.measured is None:
        streams.put("unknown duration and cost: no command of a list of this job has succeeded yet")
        return
    cost = _cents(item.dollars_least, item.dollars_most)
    taken = duration(item.command_seconds) if item.command_seconds >= 10 else f"{item.command_seconds:.3g} s"
    streams.put(
        f"about {duration(item.seconds)} and {cost}, without the start of machines: a command took {taken} in run "
        f"{item.measured[:12]}"
    )


def _cents(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "an unknown price"
    return f"{least:.2f} to {most:.2f} $" if f"{least:.2f}" != f"{most:.2f}" else f"{most:.2f} $"


def _disk(bill: Bill) -> str:
    if bill.disk_gib is None:
        return "unknown"
    price = f"{bill.disk_price.dollars:g} $/month" if bill.disk_price else "price unknown"
    return f"{bill.disk_gib} GiB ({price}): {dollars(bill.disk_dollars_at_least, bill.disk_dollars_at_most)}"


def dollars(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "unknown"
    return f"{least:.6f} to {most:.6f} $" if f"{least:.6f}" != f"{most:.6f}" else f"{most:.6f} $"
