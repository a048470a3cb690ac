"""Records in the shapes that `--json` prints and the HTTP API answers."""

import base64
import datetime as dt
from collections.abc import Sequence

from provisioner.core.access import callers
from provisioner.core.cloud import machine_images, machines, offers
from provisioner.core.cost import phases
from provisioner.core.cost import receipt as receipts
from provisioner.core.dates import datable
from provisioner.core.recipe import jobs
from provisioner.core.run import records
from provisioner.core.run.silence import is_silent
from provisioner.faces.views import shapes
from provisioner.ports.control import logs, operator, runs, schedules


def moment(at: float) -> str:
    """Return the time in UTC as ISO 8601, to the millisecond; raises for no number."""
    return dt.datetime.fromtimestamp(datable(at), dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_moment(at: float | None) -> str | None:
    return None if at is None else moment(at)


def job(item: jobs.Job) -> shapes.Job:
    from provisioner.core.recipe.recipe import applicable, refusals

    return {
        "id": item.id,
        "owner": item.owner,
        "name": item.name,
        "revision": item.revision,
        "created_at": moment(item.created_at),
        "applied_at": moment(item.applied_at),
        "recipe": applicable(item.recipe),
        "apply_refuses": list(refusals(item)),
    }


def scheduled(item: schedules.Scheduled) -> shapes.Schedule:
    job = item.job
    last: shapes.Last | None = None
    if job.schedule and job.tick is not None:
        verdict = item.run.verdict if item.run and item.run.ended_at is not None else None
        outcome, _, reason = job.tick_without.partition(": ")
        last = {
            "at": moment(job.tick),
            "run": job.tick_run or None,
            "outcome": verdict.outcome if verdict else outcome or None,
            "exit_code": verdict.exit_code if verdict else None,
            "process_exit_code": verdict.process_exit_code if verdict else None,
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


def run(item: records.Run) -> shapes.Run:
    verdict = item.verdict if item.ended_at is not None else None
    waiting: shapes.Waiting | None = None
    if item.waiting and verdict is None:
        waiting = {
            "cause": item.waiting,
            "text": item.waiting_for,
            "next_try_at": moment(item.next_try_at),
            "tried": [{"what": each.what, "code": each.code, "at": moment(each.at)} for each in item.tried],
        }
    stop: shapes.Stop | None = None
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
        "process_exit_code": verdict.process_exit_code if verdict else None,
        "reason": verdict.reason if verdict else None,
        "stop": stop,
        "waiting": waiting,
        "created_at": moment(item.created_at),
        "ended_at": maybe_moment(item.ended_at),
        "done_at": maybe_moment(item.done_at),
    }


def status(item: runs.Status) -> shapes.Status:
    return {
        "run": run(item.run),
        "attempts": [_attempt(each) for each in item.nodes],
        "machines": [_machine(each) for each in item.machines],
        "events": [{"at": moment(each.at), "text": each.text} for each in item.events],
    }


def _attempt(item: records.Node) -> shapes.Attempt:
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
        "process_exit_code": item.verdict.process_exit_code if item.verdict else None,
        "reason": item.verdict.reason if item.verdict else None,
        "archived_at": maybe_moment(item.archived_at),
    }


def _machine(item: records.KnownMachine) -> shapes.Machine:
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


def _price(item: offers.Price | None) -> shapes.Price | None:
    return {"dollars": item.dollars, "source": item.source, "at": moment(item.at)} if item else None


def alive(item: runs.Overview, foreign: Sequence[machines.Machine]) -> shapes.Top:
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
        "hindrance": item.hindrance,
        "more": item.more,
        "runs": [_live(each, item.at) for each in item.runs],
    }


def server(item: operator.ServerStatus) -> shapes.Server:
    return {
        "at": moment(item.at),
        "served": item.served,
        "unfinished": item.unfinished,
        "foreign": [machine.id for machine in item.foreign],
        "hindrance": item.hindrance,
    }


def _live(item: runs.LiveRun, now: float) -> shapes.Live:
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


def receipt(item: receipts.Receipt) -> shapes.Receipt:
    return {
        "run": item.run,
        "job": item.job,
        "owner": item.owner,
        "outcome": item.outcome,
        "exit_code": item.exit_code,
        "process_exit_code": item.process_exit_code,
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


def _bill(item: receipts.MachineBill) -> shapes.Bill:
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


def _phase(item: phases.Phase, since: float) -> shapes.Phase:
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


def ami(item: machine_images.Shown) -> shapes.Ami:
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


def token(item: callers.Token, now: float) -> shapes.Token:
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


def audit(item: callers.Audit) -> shapes.Audit:
    return {
        "id": item.id,
        "at": moment(item.at),
        "who": item.who,
        "source": item.source,
        "what": item.what,
        "owner": item.owner or None,
        "target": item.target,
    }


def log(item: logs.LogPiece | logs.LogGap) -> shapes.Log:
    where: shapes.Log = {"attempt": item.attempt, "stream": item.stream, "offset": item.offset}
    if isinstance(item, logs.LogGap):
        return {**where, "missing_at_least": item.at_least}
    return {**where, **data(item.data)}


def data(item: bytes) -> shapes.Data:
    """The bytes as text where they are UTF-8, and so that none is lost where they are not."""
    try:
        return {"text": item.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(item).decode()}
