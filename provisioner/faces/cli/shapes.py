"""What `--json` prints. Times are ISO 8601 in UTC, durations seconds, money US dollars; null is unknown, or not yet.

A field keeps its name and meaning; new ones may come.

job      id, owner, name, revision, created_at, applied_at, recipe (every default filled in)
         `apply`, `show`, `delete`; a list of them: `jobs`
schedule job, schedule, timezone, concurrency_policy, schedule_catchup, last {at, run, outcome, exit_code, reason}
         (outcome is null while the run is not over; of a time without a run, `skipped`, `missed` or `refused`),
         next [time]: five of them
         `schedule` (all but job null or empty after `--disable`); a list of them, each with one time: `schedules`
run      id, job, job_id, job_revision, owner, idempotency_key, state, attempt, retries_used,
         outcome, exit_code, reason (null until it has ended), stop {outcome, reason, at},
         waiting {cause, text, next_try_at, tried [{what, code, at}]}, created_at, ended_at, done_at
         `start`, `wait` of one run, `apply --start`; a list of them: `runs`, `stop`, `wait` of several
status   run, attempts [{attempt, rank, instance_id, step, bytes_produced and bytes_shipped {STREAM},
         heard_at, notice_at, outcome, exit_code, reason, archived_at}],
         machines [{id, type, zone, market, state, launch_time, ending_at, ended_at, end_wanted_for, price}],
         events [{at, text}]
top      at, states {STATE: runs}, machines, dollars_an_hour (of those whose price is known), unpriced (machines),
         waiting [{cause, runs, next_try_at}], foreign [instance id], more (runs that are not shown),
         runs [{run: as above, machine: as in status, step, heard_at, silent_since, notice_at, bytes_produced {STREAM},
         dollars_at_least, dollars_at_most}]
receipt  run, job, owner, outcome, exit_code, provisional, created_at, ended_at,
         phases [{name, attempt, rank, beside, billed, began, ended, seconds, source, began_source, began_error,
         ended_source, ended_error}]: those that are not `beside` follow one another from created_at to the run's
         done_at; names: queued, launching, pending, boot, pull, clone, setup, command, logs, ending (it has a
         result), silent (it has none), gone, closing; sources: store, LaunchTime, listing, agent, transition
         reason; an error is the most seconds that the truth may be away,
         machines [{instance_id, attempt, rank, instance_type, zone, market, seconds_at_least, seconds_at_most, price,
         dollars_at_least, dollars_at_most, disk_gib, disk_gib_seconds_at_least, disk_gib_seconds_at_most,
         disk_price, disk_dollars_at_least, disk_dollars_at_most}],
         dollars_at_least, dollars_at_most (of the machines, without their disks),
         disk_dollars_at_least, disk_dollars_at_most, advice
price    dollars (an hour; of a disk, a month), source, at
log      attempt, stream, offset, and either `text` (UTF-8) or `base64`; what is missing: attempt, stream, offset,
         missing_at_least. A line each: `logs`
reap     [{id, over_by, error}]
ami      id, name, state (pending, available, failed), reason, created_at, architecture, disk_gib, base, agent (the
         sha256 of its archive), agent_current, preloaded [name@digest], in_use
         `ami bake`, `ami use` (null for `default`); a list of them: `ami list`
         `ami delete`: id
takeover mailboxes: what became of each, as text
daemon   at, level (info, error), text or, where level is error, error; and, where they are known, run, job, owner,
         attempt, instance, launch, code (the cloud's own), traceback (of a fault of ours). A line each; the same
         lines are on standard error of `daemon` and `reap` where that is no terminal
token    id, owners, role (user, admin), note, state (valid, expired, revoked), created_at, created_by, expires_at,
         revoked_at
         `token revoke`; with `token`, the secret itself: `token create`; a list of them: `token list`
audit    id, at, who (a token's id, `local:` and the Unix user, or `schedule`), source (an address, or `local`),
         what (apply, delete, schedule, unschedule, start, stop, takeover, create token, revoke token, bake AMI, use
         AMI, delete AMI), owner (whose thing; null: the installation's), target (the job's name, or the id of the run,
         token or AMI)
         a list of them: `audit`
rehearse run, receipt, objects {URL: {text} or {base64}} that were written, alive: machine ids
         with --serve: environment {NAME: VALUE}
"""

import base64
import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from provisioner.core.access import Audit, Token
from provisioner.core.ami import Shown
from provisioner.core.launch import Machine, Price
from provisioner.core.phases import Phase
from provisioner.core.receipt import UNBILLED, Receipt
from provisioner.core.record import Job, KnownMachine, Node, Run
from provisioner.core.silence import is_silent
from provisioner.ports.control import Alive, LiveRun, LogGap, LogPiece, Scheduled, Status


def moment(at: float | None) -> str | None:
    if at is None:
        return None
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job(item: Job) -> dict[str, Any]:
    return {
        "id": item.id,
        "owner": item.owner,
        "name": item.name,
        "revision": item.revision,
        "created_at": moment(item.created_at),
        "applied_at": moment(item.applied_at),
        "recipe": json.loads(item.recipe),
    }


def scheduled(item: Scheduled) -> dict[str, Any]:
    job, last = item.job, None
    if job.schedule and job.tick is not None:
        verdict = item.run.verdict if item.run and item.run.ended_at is not None else None
        outcome, _, reason = job.tick_without.partition(": ")
        last = {
            "at": moment(job.tick),
            "run": job.tick_run or None,
            "outcome": verdict.outcome if verdict else outcome or None,
            "exit_code": verdict and verdict.exit_code,
            "reason": verdict.reason if verdict else reason or None,
        }
    plan = job.schedule
    return {
        "job": f"{job.owner}/{job.name}",
        "schedule": plan and plan.cron,
        "timezone": plan and plan.timezone,
        "concurrency_policy": plan and plan.concurrency,
        "schedule_catchup": plan and plan.catchup,
        "last": last,
        "next": [moment(at) for at in item.upcoming],
    }


def run(item: Run) -> dict[str, Any]:
    verdict = item.verdict if item.ended_at is not None else None
    waiting = None
    if item.waiting and verdict is None:
        waiting = {
            "cause": item.waiting,
            "text": item.waiting_for,
            "next_try_at": moment(item.next_try_at),
            "tried": [{"what": each.what, "code": each.code, "at": moment(each.at)} for each in item.tried],
        }
    stop = {"outcome": item.stop.outcome, "reason": item.stop.reason, "at": moment(item.stop.at)} if item.stop else None
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
        "outcome": verdict and verdict.outcome,
        "exit_code": verdict and verdict.exit_code,
        "reason": verdict and verdict.reason,
        "stop": stop,
        "waiting": waiting,
        "created_at": moment(item.created_at),
        "ended_at": moment(item.ended_at),
        "done_at": moment(item.done_at),
    }


def status(item: Status) -> dict[str, Any]:
    return {
        "run": run(item.run),
        "attempts": [_attempt(each) for each in item.nodes],
        "machines": [_machine(each) for each in item.machines],
        "events": [{"at": moment(each.at), "text": each.text} for each in item.events],
    }


def _attempt(item: Node) -> dict[str, Any]:
    report = item.report
    return {
        "attempt": item.attempt,
        "rank": item.rank,
        "instance_id": item.instance_id,
        "step": report and report.step,
        "bytes_produced": dict(report.produced) if report else {},
        "bytes_shipped": dict(report.shipped) if report else {},
        "heard_at": moment(item.reported_at),
        "notice_at": moment(report.notice.at) if report and report.notice else None,
        "outcome": item.verdict and item.verdict.outcome,
        "exit_code": item.verdict and item.verdict.exit_code,
        "reason": item.verdict and item.verdict.reason,
        "archived_at": moment(item.archived_at),
    }


def _machine(item: KnownMachine) -> dict[str, Any]:
    return {
        "id": item.id,
        "type": item.offer.instance_type,
        "zone": item.offer.zone,
        "market": item.offer.market,
        "state": item.state,
        "launch_time": moment(item.launch_time),
        "ending_at": moment(item.ending_at),
        "ended_at": moment(item.ended_at),
        "end_wanted_for": item.end_wanted_for or None,
        "price": _price(item.price),
    }


def _price(item: Price | None) -> dict[str, Any] | None:
    return {"dollars": item.dollars, "source": item.source, "at": moment(item.at)} if item else None


def alive(item: Alive, foreign: Sequence[Machine]) -> dict[str, Any]:
    return {
        "at": moment(item.at),
        "states": dict(item.states),
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


def _live(item: LiveRun, now: float) -> dict[str, Any]:
    node, machine = (item.held.node, item.held.machine) if item.held else (None, None)
    report = node.report if node else None
    return {
        "run": run(item.run),
        "machine": machine and _machine(machine),
        "step": report and report.step,
        "heard_at": moment(node.reported_at) if node else None,
        "silent_since": moment(node.reported_at) if node and is_silent(node, now) else None,
        "notice_at": moment(report.notice.at) if report and report.notice else None,
        "bytes_produced": dict(report.produced) if report else {},
        "dollars_at_least": item.dollars_at_least,
        "dollars_at_most": item.dollars_at_most,
    }


def receipt(item: Receipt) -> dict[str, Any]:
    return {
        **dataclasses.asdict(item),
        "created_at": moment(item.created_at),
        "ended_at": moment(item.ended_at),
        "phases": [_phase(each, item.created_at) for each in item.phases],
        "machines": [
            {**dataclasses.asdict(bill), "price": _price(bill.price), "disk_price": _price(bill.disk_price)}
            for bill in item.machines
        ],
    }


def _phase(item: Phase, since: float) -> dict[str, Any]:
    began, ended = item.began, item.ended
    return {
        "name": item.name,
        "attempt": item.attempt,
        "rank": item.rank,
        "beside": item.beside,
        "billed": item.name not in UNBILLED,
        "began": moment(began.at),
        "ended": moment(ended.at if ended else None),
        # Whole milliseconds since the trigger, so that those of the main line add up exactly.
        "seconds": round(round(ended.at - since, 3) - round(began.at - since, 3), 3) if ended else None,
        "source": f"{began.source}; {ended.source}" if ended else str(began.source),
        "began_source": began.source,
        "began_error": round(began.error, 3),
        "ended_source": ended.source if ended else None,
        "ended_error": round(ended.error, 3) if ended else None,
    }


def ami(item: Shown) -> dict[str, Any]:
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


def log(item: LogPiece | LogGap) -> dict[str, Any]:
    where = {"attempt": item.attempt, "stream": item.stream, "offset": item.offset}
    if isinstance(item, LogGap):
        return {**where, "missing_at_least": item.at_least}
    return where | data(item.data)


def data(item: bytes) -> dict[str, str]:
    """The bytes as text where they are UTF-8, and so that none is lost where they are not."""
    try:
        return {"text": item.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(item).decode()}


# Access


def token(item: Token, now: float) -> dict[str, Any]:
    expired = item.expires_at is not None and now >= item.expires_at
    return {
        "id": item.id,
        "owners": list(item.owners),
        "role": "admin" if item.admin else "user",
        "note": item.note,
        "state": "revoked" if item.revoked_at is not None else "expired" if expired else "valid",
        "created_at": moment(item.created_at),
        "created_by": item.created_by,
        "expires_at": moment(item.expires_at),
        "revoked_at": moment(item.revoked_at),
    }


def audit(item: Audit) -> dict[str, Any]:
    return {
        "id": item.id,
        "at": moment(item.at),
        "who": item.who,
        "source": item.source,
        "what": item.what,
        "owner": item.owner or None,
        "target": item.target,
    }
