"""What `--json` prints and the HTTP API answers: each shape is a TypedDict, and the function that makes it.

Times are ISO 8601 in UTC, durations seconds, money US dollars; null is unknown, or not yet. A field keeps its name and
meaning; new ones may come. The text beside a type is its description in OpenAPI.

Job      `apply`, `show`, `delete`; a list of them: `jobs`
Schedule `schedule` (all but job null or empty after `--disable`); a list of them, each with one time: `schedules`
Run      `start`, `wait` of one run, `apply --start`; a list of them: `runs`, `stop`, `wait` of several
Status   `status`
Top      `top`
Receipt  `receipt`
Log      a line each: `logs`
Ami      `ami bake`, `ami use` (null for `default`); a list of them: `ami list`
Token    `token revoke`; with `token`, the secret itself: `token create`; a list of them: `token list`
Audit    a list of them: `audit`

What only the command line prints:

ami delete: id
reap     [{id, over_by, error}]
takeover mailboxes: what became of each, as text
daemon   at, level (info, error), text or, where level is error, error; and, where they are known, run, job, owner,
         attempt, instance, launch, code (the cloud's own), traceback (of a fault of ours). A line each; the same
         lines are on standard error of `daemon` and `reap` where that is no terminal
rehearse run, receipt, objects {URL: {text} or {base64}} that were written, alive: machine ids
         with --serve: environment {NAME: VALUE}
"""

import base64
import datetime as dt
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from provisioner.core import access, launch, phases, record
from provisioner.core import ami as amis
from provisioner.core import receipt as receipts
from provisioner.core.run import State
from provisioner.core.silence import is_silent
from provisioner.core.work import Outcome
from provisioner.ports import control


class Job(TypedDict):
    """A stored recipe."""

    id: str
    owner: str
    name: str
    revision: int
    created_at: str
    applied_at: str
    recipe: Annotated[dict[str, Any], "Every default filled in."]


class Last(TypedDict):
    """The last time of a schedule."""

    at: str
    run: str | None
    outcome: Annotated[
        str | None, "Null while the run is not over; of a time without a run `skipped`, `missed` or `refused`."
    ]
    exit_code: int | None
    reason: str | None


class Schedule(TypedDict):
    """When a job starts by itself."""

    job: Annotated[str, "`owner/name`"]
    schedule: str | None
    timezone: str | None
    concurrency_policy: record.Concurrency | None
    schedule_catchup: record.Catchup | None
    last: Last | None
    next: list[str]


class Tried(TypedDict):
    """One answer that a waiting run got."""

    what: str
    code: str
    at: str


class Waiting(TypedDict):
    """Why a run waits."""

    cause: str
    text: str
    next_try_at: str
    tried: list[Tried]


class Stop(TypedDict):
    """That somebody or a limit wishes its end."""

    outcome: Outcome
    reason: str
    at: str


class Run(TypedDict):
    """One trigger of a job."""

    id: str
    job: str
    job_id: str
    job_revision: int
    owner: str
    idempotency_key: str | None
    state: State
    attempt: Annotated[int, "Of the latest that got a machine; 0 before the first."]
    retries_used: int
    outcome: Annotated[Outcome | None, "Null until it has ended."]
    exit_code: Annotated[int | None, "The process's own; null where none ended."]
    reason: Annotated[str | None, "The outcome in one line."]
    stop: Stop | None
    waiting: Waiting | None
    created_at: str
    ended_at: str | None
    done_at: Annotated[str | None, "Since then no machine of it lives."]


class Attempt(TypedDict):
    """One try of a run on a machine of its own."""

    attempt: int
    rank: int
    instance_id: str
    step: str | None
    bytes_produced: Annotated[dict[str, int], "By stream."]
    bytes_shipped: Annotated[dict[str, int], "By stream."]
    heard_at: str | None
    notice_at: Annotated[str | None, "When the cloud said that it takes the machine away."]
    outcome: Outcome | None
    exit_code: int | None
    reason: str | None
    archived_at: str | None


class Price(TypedDict):
    """Dollars an hour; of a disk, a month."""

    dollars: float
    source: str
    at: str


class Machine(TypedDict):
    """A machine as the cloud describes it."""

    id: str
    type: str
    zone: str
    market: launch.Market
    state: launch.MachineState
    launch_time: str | None
    ending_at: str | None
    ended_at: str | None
    end_wanted_for: str | None
    price: Price | None


class Event(TypedDict):
    """A line of a run's story."""

    at: str
    text: str


class Status(TypedDict):
    """A run and its story."""

    run: Run
    attempts: list[Attempt]
    machines: list[Machine]
    events: list[Event]


class Queue(TypedDict):
    """The runs that wait for the same cause."""

    cause: str
    runs: int
    next_try_at: str


class Live(TypedDict):
    """A run that is not done."""

    run: Run
    machine: Machine | None
    step: str | None
    heard_at: str | None
    silent_since: str | None
    notice_at: str | None
    bytes_produced: Annotated[dict[str, int], "By stream."]
    dollars_at_least: float | None
    dollars_at_most: float | None


class Top(TypedDict):
    """What is not over."""

    at: str
    states: Annotated[dict[str, int], "Runs by state."]
    machines: int
    dollars_an_hour: Annotated[float, "Of machines whose price is known."]
    unpriced: Annotated[int, "Machines whose price is not."]
    waiting: list[Queue]
    foreign: Annotated[list[str], "Machines of launches that this store never made."]
    more: Annotated[int, "Runs that are not shown."]
    runs: list[Live]


class Server(TypedDict):
    """What the control plane says of itself."""

    at: Annotated[str, "Its clock, by which runs are timed."]
    served: Annotated[bool, "A daemon acts: the server itself, or another one on the same store."]
    unfinished: Annotated[bool, "A run of the caller's, or to an admin any machine or launch, is not over yet."]
    foreign: Annotated[list[str], "To an admin: machines of launches that this store never made."]


class Phase(TypedDict):
    """A part of a run's time. Those that are not `beside` follow one another from created_at to the run's done_at."""

    name: Annotated[
        str,
        "queued, launching, pending, boot, pull, clone, setup, command, logs, ending (it has a result), silent (it has"
        " none), gone or closing",
    ]
    attempt: int
    rank: int
    beside: bool
    billed: bool
    began: str
    ended: str | None
    seconds: float | None
    source: str
    began_source: Annotated[str, "store, LaunchTime, listing, agent or transition reason"]
    began_error: Annotated[float, "The most seconds that the truth may be away."]
    ended_source: str | None
    ended_error: float | None


class Bill(TypedDict):
    """What one machine costs."""

    instance_id: str
    attempt: int
    rank: int
    instance_type: str
    zone: str
    market: str
    seconds_at_least: int
    seconds_at_most: int
    price: Price | None
    dollars_at_least: float | None
    dollars_at_most: float | None
    disk_gib: int | None
    disk_gib_seconds_at_least: int | None
    disk_gib_seconds_at_most: int | None
    disk_price: Price | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None


class Receipt(TypedDict):
    """Where a run's time and money went."""

    run: str
    job: str
    owner: str
    outcome: Outcome | None
    exit_code: int | None
    provisional: Annotated[bool, "The run is not done."]
    created_at: str
    ended_at: str | None
    phases: list[Phase]
    machines: list[Bill]
    dollars_at_least: Annotated[float | None, "Of the machines, without their disks."]
    dollars_at_most: float | None
    disk_dollars_at_least: float | None
    disk_dollars_at_most: float | None
    advice: str | None


class Ami(TypedDict):
    """A machine image of the installation."""

    id: str
    name: str
    state: Annotated[amis.AmiState, "pending, available or failed"]
    reason: str | None
    created_at: str
    architecture: str
    disk_gib: int
    base: str
    agent: Annotated[str, "The sha256 of its archive."]
    agent_current: bool
    preloaded: Annotated[list[str], "name@digest"]
    in_use: bool


class Token(TypedDict):
    """An access token, without what lets anybody in."""

    id: str
    owners: list[str]
    role: Literal["admin", "user"]
    note: str
    state: Literal["valid", "expired", "revoked"]
    created_at: str
    created_by: Annotated[str, "A token's id, or `local:` and a Unix user."]
    expires_at: Annotated[str | None, "Null: never."]
    revoked_at: str | None


class Audit(TypedDict):
    """One change, stored with it."""

    id: str
    at: str
    who: Annotated[str, "A token's id, `local:` and a Unix user, or `schedule`."]
    source: Annotated[str, "The address that the call came from, or `local`."]
    what: Annotated[
        str,
        "apply, delete, schedule, unschedule, start, stop, takeover, create token, revoke token, bake AMI, use AMI or"
        " delete AMI",
    ]
    owner: Annotated[str | None, "Whose thing was changed; null: the installation's."]
    target: Annotated[str, "The job's name, or the id of the run, token or AMI."]


class Data(TypedDict):
    """Bytes: as text where they are UTF-8, and so that none is lost where they are not."""

    text: NotRequired[str]
    base64: NotRequired[str]


class Log(Data):
    """A piece of a stream, in `text` or `base64`; or, with `missing_at_least`, that bytes are nowhere."""

    attempt: int
    stream: str
    offset: int
    missing_at_least: NotRequired[Annotated[int | None, "From `offset` on; null where nobody knows how many."]]


def moment(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_moment(at: float | None) -> str | None:
    return None if at is None else moment(at)


def job(item: record.Job) -> Job:
    return {
        "id": item.id,
        "owner": item.owner,
        "name": item.name,
        "revision": item.revision,
        "created_at": moment(item.created_at),
        "applied_at": moment(item.applied_at),
        "recipe": json.loads(item.recipe),
    }


def scheduled(item: control.Scheduled) -> Schedule:
    job = item.job
    last: Last | None = None
    if job.schedule and job.tick is not None:
        verdict = item.run.verdict if item.run and item.run.ended_at is not None else None
        outcome, _, reason = job.tick_without.partition(": ")
        last = {
            "at": moment(job.tick),
            "run": job.tick_run or None,
            "outcome": verdict.outcome if verdict else outcome or None,
            "exit_code": verdict.exit_code if verdict else None,
            "reason": verdict.reason if verdict else reason or None,
        }
    plan = job.schedule
    return {
        "job": f"{job.owner}/{job.name}",
        "schedule": plan.cron if plan else None,
        "timezone": plan.timezone if plan else None,
        "concurrency_policy": plan.concurrency if plan else None,
        "schedule_catchup": plan.catchup if plan else None,
        "last": last,
        "next": [moment(at) for at in item.upcoming],
    }


def run(item: record.Run) -> Run:
    verdict = item.verdict if item.ended_at is not None else None
    waiting: Waiting | None = None
    if item.waiting and verdict is None:
        waiting = {
            "cause": item.waiting,
            "text": item.waiting_for,
            "next_try_at": moment(item.next_try_at),
            "tried": [{"what": each.what, "code": each.code, "at": moment(each.at)} for each in item.tried],
        }
    stop: Stop | None = None
    if item.stop:
        stop = {"outcome": item.stop.outcome, "reason": item.stop.reason, "at": moment(item.stop.at)}
    return {
        "id": item.id,
        "job": item.job_name,
        "job_id": item.job_id,
        "job_revision": item.job_revision,
        "owner": item.owner,
        "idempotency_key": item.idempotency_key or None,
        "state": item.state,
        "attempt": item.attempt,
        "retries_used": item.retries_used,
        "outcome": verdict.outcome if verdict else None,
        "exit_code": verdict.exit_code if verdict else None,
        "reason": verdict.reason if verdict else None,
        "stop": stop,
        "waiting": waiting,
        "created_at": moment(item.created_at),
        "ended_at": maybe_moment(item.ended_at),
        "done_at": maybe_moment(item.done_at),
    }


def status(item: control.Status) -> Status:
    return {
        "run": run(item.run),
        "attempts": [_attempt(each) for each in item.nodes],
        "machines": [_machine(each) for each in item.machines],
        "events": [{"at": moment(each.at), "text": each.text} for each in item.events],
    }


def _attempt(item: record.Node) -> Attempt:
    report = item.report
    return {
        "attempt": item.attempt,
        "rank": item.rank,
        "instance_id": item.instance_id,
        "step": report.step if report else None,
        "bytes_produced": dict(report.produced) if report else {},
        "bytes_shipped": dict(report.shipped) if report else {},
        "heard_at": maybe_moment(item.reported_at),
        "notice_at": moment(report.notice.at) if report and report.notice else None,
        "outcome": item.verdict.outcome if item.verdict else None,
        "exit_code": item.verdict.exit_code if item.verdict else None,
        "reason": item.verdict.reason if item.verdict else None,
        "archived_at": maybe_moment(item.archived_at),
    }


def _machine(item: record.KnownMachine) -> Machine:
    return {
        "id": item.id,
        "type": item.offer.instance_type,
        "zone": item.offer.zone,
        "market": item.offer.market,
        "state": item.state,
        "launch_time": maybe_moment(item.launch_time),
        "ending_at": maybe_moment(item.ending_at),
        "ended_at": maybe_moment(item.ended_at),
        "end_wanted_for": item.end_wanted_for or None,
        "price": _price(item.price),
    }


def _price(item: launch.Price | None) -> Price | None:
    return {"dollars": item.dollars, "source": item.source, "at": moment(item.at)} if item else None


def alive(item: control.Alive, foreign: Sequence[launch.Machine]) -> Top:
    return {
        "at": moment(item.at),
        "states": {str(state): count for state, count in item.states.items()},
        "machines": item.machines,
        "dollars_an_hour": item.dollars_an_hour,
        "unpriced": item.unpriced,
        "waiting": [
            {"cause": each.cause, "runs": each.runs, "next_try_at": moment(each.next_try_at)} for each in item.queues
        ],
        "foreign": [machine.id for machine in foreign],
        "more": item.more,
        "runs": [_live(each, item.at) for each in item.runs],
    }


def server(item: control.Presence) -> Server:
    return {
        "at": moment(item.at),
        "served": item.served,
        "unfinished": item.unfinished,
        "foreign": [machine.id for machine in item.foreign],
    }


def _live(item: control.LiveRun, now: float) -> Live:
    node, machine = (item.held.node, item.held.machine) if item.held else (None, None)
    report = node.report if node else None
    return {
        "run": run(item.run),
        "machine": _machine(machine) if machine else None,
        "step": report.step if report else None,
        "heard_at": maybe_moment(node.reported_at) if node else None,
        "silent_since": maybe_moment(node.reported_at) if node and is_silent(node, now) else None,
        "notice_at": moment(report.notice.at) if report and report.notice else None,
        "bytes_produced": dict(report.produced) if report else {},
        "dollars_at_least": item.dollars_at_least,
        "dollars_at_most": item.dollars_at_most,
    }


def receipt(item: receipts.Receipt) -> Receipt:
    return {
        "run": item.run,
        "job": item.job,
        "owner": item.owner,
        "outcome": item.outcome,
        "exit_code": item.exit_code,
        "provisional": item.provisional,
        "created_at": moment(item.created_at),
        "ended_at": maybe_moment(item.ended_at),
        "phases": [_phase(each, item.created_at) for each in item.phases],
        "machines": [_bill(each) for each in item.machines],
        "dollars_at_least": item.dollars_at_least,
        "dollars_at_most": item.dollars_at_most,
        "disk_dollars_at_least": item.disk_dollars_at_least,
        "disk_dollars_at_most": item.disk_dollars_at_most,
        "advice": item.advice,
    }


def _bill(item: receipts.MachineBill) -> Bill:
    return {
        "instance_id": item.instance_id,
        "attempt": item.attempt,
        "rank": item.rank,
        "instance_type": item.instance_type,
        "zone": item.zone,
        "market": item.market,
        "seconds_at_least": item.seconds_at_least,
        "seconds_at_most": item.seconds_at_most,
        "price": _price(item.price),
        "dollars_at_least": item.dollars_at_least,
        "dollars_at_most": item.dollars_at_most,
        "disk_gib": item.disk_gib,
        "disk_gib_seconds_at_least": item.disk_gib_seconds_at_least,
        "disk_gib_seconds_at_most": item.disk_gib_seconds_at_most,
        "disk_price": _price(item.disk_price),
        "disk_dollars_at_least": item.disk_dollars_at_least,
        "disk_dollars_at_most": item.disk_dollars_at_most,
    }


def _phase(item: phases.Phase, since: float) -> Phase:
    began, ended = item.began, item.ended
    return {
        "name": item.name,
        "attempt": item.attempt,
        "rank": item.rank,
        "beside": item.beside,
        "billed": item.name not in receipts.UNBILLED,
        "began": moment(began.at),
        "ended": maybe_moment(ended.at if ended else None),
        # Whole milliseconds since the trigger, so that those of the main line add up exactly.
        "seconds": round(round(ended.at - since, 3) - round(began.at - since, 3), 3) if ended else None,
        "source": f"{began.source}; {ended.source}" if ended else str(began.source),
        "began_source": began.source,
        "began_error": round(began.error, 3),
        "ended_source": ended.source if ended else None,
        "ended_error": round(ended.error, 3) if ended else None,
    }


def ami(item: amis.Shown) -> Ami:
    known = item.ami
    return {
        "id": known.id,
        "name": known.name,
        "state": known.state,
        "reason": known.reason or None,
        "created_at": moment(known.created_at),
        "architecture": known.architecture,
        "disk_gib": known.disk_gib,
        "base": known.base,
        "agent": known.agent,
        "agent_current": item.current,
        "preloaded": list(known.preloaded),
        "in_use": item.in_use,
    }


def token(item: access.Token, now: float) -> Token:
    expired = item.expires_at is not None and now >= item.expires_at
    return {
        "id": item.id,
        "owners": list(item.owners),
        "role": "admin" if item.admin else "user",
        "note": item.note,
        "state": "revoked" if item.revoked_at is not None else "expired" if expired else "valid",
        "created_at": moment(item.created_at),
        "created_by": item.created_by,
        "expires_at": maybe_moment(item.expires_at),
        "revoked_at": maybe_moment(item.revoked_at),
    }


def audit(item: access.Audit) -> Audit:
    return {
        "id": item.id,
        "at": moment(item.at),
        "who": item.who,
        "source": item.source,
        "what": item.what,
        "owner": item.owner or None,
        "target": item.target,
    }


def log(item: control.LogPiece | control.LogGap) -> Log:
    where: Log = {"attempt": item.attempt, "stream": item.stream, "offset": item.offset}
    if isinstance(item, control.LogGap):
        return {**where, "missing_at_least": item.at_least}
    return {**where, **data(item.data)}


def data(item: bytes) -> Data:
    """The bytes as text where they are UTF-8, and so that none is lost where they are not."""
    try:
        return {"text": item.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(item).decode()}
