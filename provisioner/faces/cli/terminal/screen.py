"""How things look on a terminal: tables on standard output, everything said on standard error."""

import contextlib
import datetime as dt
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from provisioner.core.access.callers import Audit, Token
from provisioner.core.cloud.machine_images import Shown
from provisioner.core.cloud.offers import Price
from provisioner.core.cost.phases import Bound, Source
from provisioner.core.cost.receipt import UNBILLED, MachineBill, Receipt
from provisioner.core.dates import LAST, datable
from provisioner.core.plain import plain
from provisioner.core.protocol.messages import Step
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State
from provisioner.faces.cli.terminal.escapes import shown
from provisioner.ports.control.schedules import Scheduled

#: To the line's beginning, and erase it (ECMA-48, EL).
ERASE = "\r\x1b[K"


class OutputLost(Exception):
    """Standard output cannot be written; the message is that of the operating system."""


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Context in which a write error of standard output is raised as OutputLost, except BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error


@contextlib.contextmanager
def going_on(text: str) -> Iterator[None]:
    """Context in which OutputLost ends the output but not the command; the error line ends with `text`."""
    try:
        yield
    except OutputLost as error:
        discard_output()
        complain(f"standard output cannot be written: {error}; {text}")


def discard_output() -> None:
    """Discard all further output, also buffered output, which the interpreter would fail to write when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print a line on standard error, apart from the command's output."""
    draw(f"{plain(text)}\n")


def draw(text: str) -> None:
    """Write to standard error. A write error is ignored: it must not change what the command does or returns."""
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """Print a line of a command's output; parts of it may come from jobs, machines, servers and other users."""
    with writing():
        print(plain(text), flush=True)


def put_text(data: bytes | str) -> None:
    """Print untrusted text of several lines; on a terminal without escape sequences except colours."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    with writing():
        print(shown(text.encode(errors="surrogatepass")) if sys.stdout.isatty() else text, flush=True)


def complain(text: str) -> None:
    """An error: a line, or one for each thing that is wrong."""
    for line in text.splitlines():
        say(f"provision: {line}")


def width() -> int | None:
    """Columns of the terminal that standard output is; None where it is none, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def put_json(value: Any, *, indent: int | None = 2) -> None:
    with writing():
        print(json.dumps(value, indent=indent), flush=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their content, as Docker prints them: good for eyes and for awk."""
    lines = [list(heads), *[[plain(cell) for cell in row] for row in rows]]
    widths = [max(len(line[index]) for line in lines) for index in range(len(heads))]
    with writing():
        for line in lines:
            print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        sys.stdout.flush()


def jobs(items: Sequence[Job]) -> None:
    from provisioner.core.recipe.recipe import refusals

    if not items:
        say("no jobs; `provision apply FILE` makes one")
    table(("JOB", "REVISION", "APPLIED", "MACHINE"), [_job(job) for job in items])
    for job in items:
        for refusal in refusals(job):
            say(f"{job.owner}/{job.name}: `apply` would refuse this recipe now, the job keeps running: {refusal}")


def _job(job: Job) -> Sequence[str]:
    spec = json.loads(job.recipe)["spec"]
    market = "spot" if spec["use_spot_instance"] else "on-demand"
    return f"{job.owner}/{job.name}", str(job.revision), date(job.applied_at), f"{market} {spec['instance_type']}"


def ago(at: float, now: float) -> str:
    return f"{duration(now - at)} ago"


def duration(seconds: float) -> str:
    """Short, and exact enough to act on: 12 s, 3 min 5 s, 2 h 10 min, 5 d 3 h."""
    # NaN is shown as 0 s.
    whole = round(min(seconds, LAST)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def phase(run: Run, now: float | None) -> str:
    """What the run is doing, in a line; a queued one says why it waits and, told the time, until when."""
    if run.ended_at is not None and run.verdict:
        return f"{run.state}: {run.verdict.outcome}, {run.verdict.reason}"
    text = f"{run.state}, attempt {run.attempt}" if run.attempt > 1 else str(run.state)
    if run.stop:
        return f"{text}, {run.stop.reason}"
    if run.state is State.QUEUED and run.waiting:
        text += f", {run.waiting}: {run.waiting_for}"
        if now is not None:
            text += f"; next try in {duration(run.next_try_at - now)}" if run.next_try_at > now else "; trying now"
    return text


def preparing(node: Node | None) -> str:
    """Return the step of a preparing run, or "". The report may be newer than the state, and have a later step."""
    step = node.report.step if node and node.report else None
    return f": {step}" if step in (Step.BOOT, Step.PULL, Step.CLONE, Step.SETUP) else ""


def runs(items: Sequence[Run], now: float) -> None:
    if not items:
        say("no runs; `provision start JOB` makes one")
    table(
        ("RUN", "JOB", "CREATED", "STATE"),
        [(run.id[:12], f"{run.owner}/{run.job_name}", ago(run.created_at, now), phase(run, now)) for run in items],
    )


def schedule(item: Scheduled) -> None:
    """What is to come, in the schedule's zone and in UTC."""
    plan = item.job.schedule
    if plan is None:
        return
    put(f"{item.job.owner}/{item.job.name}: {plan.cron} ({plan.timezone}), {plan.concurrency}, catch up {plan.catchup}")
    for at in item.upcoming:
        put(f"  {zoned(at, plan.timezone)}   {zoned(at, 'UTC')}")


def schedules(items: Sequence[Scheduled]) -> None:
    if not items:
        say("no schedules; `provision schedule JOB '0 2 * * *'` makes one")
    table(("JOB", "SCHEDULE", "ZONE", "LAST", "NEXT", "LAST OUTCOME"), [_scheduled(each) for each in items])


def _scheduled(item: Scheduled) -> Sequence[str]:
    job, run, plan = item.job, item.run, item.job.schedule
    cron, zone = (plan.cron, plan.timezone) if plan else ("", "UTC")
    last = zoned(job.tick, zone) if job.tick is not None else "never"
    coming = zoned(item.upcoming[0], zone) if item.upcoming else "never"
    outcome = f"{run.id[:12]} {run.verdict.outcome if run.verdict and run.ended_at else run.state}" if run else ""
    return f"{job.owner}/{job.name}", cron, zone, last, coming, outcome or job.tick_without


def zoned(at: float, zone: str) -> str:
    """Date, time of day and zone, as a clock there shows them."""
    import zoneinfo

    return f"{dt.datetime.fromtimestamp(datable(at), zoneinfo.ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %Z}"


def amis(items: Sequence[Shown], now: float) -> None:
    if not items:
        say("no AMIs of your own; `provision ami bake` makes one")
    table(
        ("AMI", "NAME", "MADE", "STATE", "AGENT", "DISK", "BASE", "PRELOADED"),
        [
            (
                ("* " if each.in_use else "") + each.ami.id,
                each.ami.name,
                ago(each.ami.created_at, now),
                f"{each.ami.state}{f': {each.ami.reason}' if each.ami.reason else ''}",
                "current" if each.current else "stale",
                f"{each.ami.disk_gib} GiB",
                each.ami.base,
                " ".join(name.partition("@")[0] for name in each.ami.preloaded),
            )
            for each in items
        ],
    )
    if any(each.in_use for each in items):
        say("* new launches take it")
    if any(not each.current for each in items):
        say("stale: its agent is not today's, which machines fetch instead; bake anew for the gain")


def tokens(items: Sequence[Token], now: float) -> None:
    if not items:
        say("no tokens; `provision token create --owner NAME` makes one")
    table(
        ("TOKEN", "ROLE", "OWNERS", "MADE", "BY", "LASTS UNTIL", "NOTE"),
        [
            (
                each.id,
                "admin" if each.admin else "user",
                " ".join(each.owners),
                ago(each.created_at, now),
                each.created_by,
                _lasts(each, now),
                each.note,
            )
            for each in items
        ],
    )


def _lasts(token: Token, now: float) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "for ever"
    return "expired" if now >= token.expires_at else date(token.expires_at)


def audit(items: Sequence[Audit]) -> None:
    table(
        ("AT", "WHO", "FROM", "WHAT", "OWNER", "TARGET"),
        [(date(each.at), each.who, each.source, each.what, each.owner, each.target[:32]) for each in items],
    )


def date(at: float) -> str:
    """Local date and time."""
    return f"{dt.datetime.fromtimestamp(datable(at)).astimezone():%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """Local time of day, to the tenth of a second."""
    moment = dt.datetime.fromtimestamp(datable(at)).astimezone()
    return f"{moment:%H:%M:%S}.{moment.microsecond // 100_000}"


def receipt(item: Receipt) -> None:
    title = f"receipt of run {item.run[:12]} ({item.owner}/{item.job})"
    put(f"{title}, provisional" if item.provisional else title)
    # In time, with what went on beside a phase below it.
    ordered = sorted(item.phases, key=lambda phase: (phase.attempt, phase.began.at, phase.beside))
    table(
        ("ATTEMPT", "PHASE", "SECONDS", "BILLED", "BEGINS WITH"),
        [
            (
                "" if phase.attempt == 0 else str(phase.attempt) + (f".{phase.rank}" if phase.rank else ""),
                f"  beside: {phase.name}" if phase.beside else phase.name,
                f"{phase.ended.at - phase.began.at:9.1f}" if phase.ended else "    lasts",
                "" if phase.beside or phase.name in UNBILLED else "yes",
                f"{clock(phase.began.at)}  {phase.began.source}{_error(phase.began)}",
            )
            for phase in ordered
        ],
    )
    line = [phase for phase in item.phases if not phase.beside]
    if line and (last := line[-1].ended):
        put(f"from trigger to gone: {last.at - item.created_at:.1f} s, ended at {clock(last.at)}  {last.source}")
    put()
    table(
        ("MACHINE", "OFFER", "BILLED SECONDS", "PRICE", "DOLLARS", "DISK"),
        [
            (
                bill.instance_id,
                f"{bill.market} {bill.instance_type} {bill.zone}",
                f"{bill.seconds_at_least} to {bill.seconds_at_most}",
                _price(bill.price, item.created_at),
                dollars(bill.dollars_at_least, bill.dollars_at_most),
                _disk(bill),
            )
            for bill in item.machines
        ],
    )
    disks = dollars(item.disk_dollars_at_least, item.disk_dollars_at_most)
    put(f"total: {dollars(item.dollars_at_least, item.dollars_at_most)} for machines, {disks} for their disks")
    if item.advice:
        put(item.advice)


def _error(bound: Bound) -> str:
    """Never smaller than it is; our own clock has none against itself."""
    return f" ± {math.ceil(bound.error * 10) / 10:.1f} s" if bound.error or bound.source is not Source.STORE else ""


def _price(item: Price | None, at: float) -> str:
    if item is None:
        return "unknown"
    old = f", {duration(at - item.at)} old" if at - item.at >= 60 else ""
    return f"{item.dollars:g} $/h ({item.source}{old})"


def size(count: int) -> str:
    """Bytes, in decimal units: 0 B, 999 B, 1.2 kB, 34 MB."""
    scaled, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.1f} {unit}" if unit != "B" and scaled < 10 else f"{scaled:.0f} {unit}"


def _disk(bill: MachineBill) -> str:
    if bill.disk_gib is None:
        return "unknown"
    price = f"{bill.disk_price.dollars:g} $/month" if bill.disk_price else "price unknown"
    return f"{bill.disk_gib} GiB ({price}): {dollars(bill.disk_dollars_at_least, bill.disk_dollars_at_most)}"


def dollars(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "unknown"
    return f"{least:.6f} to {most:.6f} $" if f"{least:.6f}" != f"{most:.6f}" else f"{most:.6f} $"
