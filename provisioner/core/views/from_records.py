"""Convert the store's records to views. Only this module does so."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from provisioner.core.access import callers
from provisioner.core.cloud import machine_images, offers
from provisioner.core.cloud.caps import budget as budgets
from provisioner.core.commands.records import CommandList, Worker
from provisioner.core.cost import phases
from provisioner.core.cost import receipt as receipts
from provisioner.core.protocol.words import STREAMS, Step
from provisioner.core.recipe import jobs
from provisioner.core.recipe.parts import Limits
from provisioner.core.recipe.recipe import refusals
from provisioner.core.run import records
from provisioner.core.run.machines.silence import is_silent
from provisioner.core.run.states import State
from provisioner.core.run.verdicts import MARGIN, first_report_due
from provisioner.core.run.work_order import recipe_of
from provisioner.core.views.ami import Ami
from provisioner.core.views.codec import moment
from provisioner.core.views.commands import Progress
from provisioner.core.views.job import Job, Last, Schedule
from provisioner.core.views.overview import Budget
from provisioner.core.views.pages import key_of
from provisioner.core.views.receipt import Bill, Phase, Price, Receipt
from provisioner.core.views.run import Attempt, Event, Machine, Run, RunRecipe, Runs, Status, Stop, Tried, Waiting
from provisioner.core.views.token import Audit, Audits, NewToken, Token


def job(item: jobs.Job) -> Job:
    return Job(
        id=item.id,
        owner=item.owner,
        name=item.name,
        revision=item.revision,
        created_at=moment(item.created_at),
        applied_at=moment(item.applied_at),
        schedule=item.schedule.cron if item.schedule else None,
        recipe=jobs.applicable(item.recipe),
        apply_refuses=_refusals(item.recipe, item.schedule, item.schedule_of_recipe),
    )


@functools.lru_cache(maxsize=256)
def _refusals(recipe: str, schedule: jobs.Schedule | None, of_recipe: bool) -> tuple[str, ...]:
    """Return the reasons for which `apply` would refuse this recipe and schedule now.

    The result is cached: reading a recipe takes milliseconds, and each start of a job returns the job's view.
    """
    return refusals(jobs.Job("", "", "", recipe, 1, 0.0, 0.0, schedule=schedule, schedule_of_recipe=of_recipe))


def schedule(item: jobs.Job, upcoming: Sequence[float], run: records.Run | None) -> Schedule:
    """Return the view of a job's schedule. `run` is the run that it started when it was last due, or None."""
    last = None
    if item.schedule and item.tick is not None:
        verdict = run.verdict if run and run.ended_at is not None else None
        outcome, _, reason = item.tick_without.partition(": ")
        last = Last(
            at=moment(item.tick),
            run=item.tick_run or None,
            state=run.state if run else None,
            outcome=verdict.outcome if verdict else (None if item.tick_run else outcome) or None,
            exit_code=verdict.exit_code if verdict else None,
            process_exit_code=verdict.process_exit_code if verdict else None,
            reason=verdict.reason if verdict else reason or None,
        )
    plan = item.schedule
    return Schedule(
        job=f"{item.owner}/{item.name}",
        schedule=plan.cron if plan else None,
        timezone=plan.timezone if plan else None,
        concurrency_policy=plan.concurrency if plan else None,
        schedule_catchup=plan.catchup if plan else None,
        last=last,
        next=tuple(map(moment, upcoming)),
    )


def budget(item: budgets.Budget) -> Budget:
    today = budgets.day_of(item.now)
    return Budget(budgets.date(today), item.spent, item.committed.get(today, 0.0), item.most)


def runs(items: Sequence[records.Run], lists: Mapping[str, Progress], limit: int) -> Runs:
    """Return the page of runs; `lists` are by run, and `limit` is the number of runs that was requested."""
    last = items[-1] if len(items) == limit else None
    views = tuple(run(item, lists.get(item.id)) for item in items)
    return Runs(views, key_of(last.created_at, last.id) if last else None)


def run(item: records.Run, commands: Progress | None = None) -> Run:
    """Return the view of a run; `commands` is the progress of its list, if it has one."""
    verdict = item.verdict if item.ended_at is not None else None
    waiting = None
    if item.waiting and verdict is None:
        tried = tuple(Tried(each.what, each.code, moment(each.at)) for each in item.tried)
        waiting = Waiting(item.waiting, item.waiting_for, moment(item.next_try_at), tried)
    return Run(
        id=item.id,
        job=item.job_name,
        job_id=item.job_id,
        job_revision=item.job_revision,
        owner=item.owner,
        idempotency_key=item.idempotency_key or None,
        state=item.state,
        attempt=item.attempt,
        retries_used=item.retries_used,
        outcome=verdict.outcome if verdict else None,
        exit_code=verdict.exit_code if verdict else None,
        process_exit_code=verdict.process_exit_code if verdict else None,
        reason=verdict.reason if verdict else None,
        stop=Stop(item.stop.outcome, item.stop.reason, moment(item.stop.at)) if item.stop else None,
        waiting=waiting,
        next_try_at=moment(item.next_try_at) if item.state is State.QUEUED else None,
        market=_known_market(item.offer.market) if item.offer else None,
        instance_type=item.offer.instance_type if item.offer else None,
        dollars_at_least=item.dollars_at_least,
        dollars_at_most=item.dollars_at_most,
        scale=item.scale,
        last_attempt=f"{item.verdict.outcome}: {item.verdict.reason}" if item.verdict and not verdict else None,
        created_at=moment(item.created_at),
        ended_at=moment(item.ended_at),
        certain_at=moment(item.certain_at),
        done_at=moment(item.done_at),
        commands=commands,
    )


def run_recipe(item: records.Run) -> RunRecipe:
    return RunRecipe(item.id, item.job_id, item.job_revision, jobs.applicable(item.recipe))


def counted(item: CommandList) -> Progress:
    """Return how many commands of a list are in which state."""
    return Progress(
        total=item.total,
        open=item.open,
        succeeded=item.succeeded,
        failed=item.failed,
        lost=item.lost,
        cancelled=item.cancelled,
        not_run=item.not_run,
        repeated=item.repeated,
    )


def progress(item: CommandList, workers: Iterable[Worker], nodes: Iterable[records.Node], now: float) -> Progress:
    """Return the progress of a list with the speed of its machines; `workers` and `nodes` are those of its run."""
    alive = {node.id: node for node in nodes if not node.verdict}
    every = list(workers)
    at_work = [worker for worker in every if worker.id in alive]
    reports = [node.report.commands for node in alive.values() if node.report and node.report.commands]
    rate = sum(worker.rate for worker in at_work)
    return replace(
        counted(item),
        running=sum(len(report.running) for report in reports),
        rate=round(rate, 3) or None,
        eta=moment(now + item.open / rate) if rate and item.open else None,
        slots=sum(worker.slots for worker in at_work),
        machines=len(at_work),
        command_seconds=_command_seconds(every),
    )


def _command_seconds(workers: Iterable[Worker]) -> float | None:
    """Return how long a command took on average, on machines of any speed; None if no command has ended."""
    measured = [worker for worker in workers if worker.rate and worker.ended]
    total = sum(worker.ended * worker.slots / worker.rate for worker in measured)
    return round(total / sum(worker.ended for worker in measured), 3) if measured else None


def status(
    item: records.Run,
    nodes: Sequence[records.Node],
    machines: Sequence[records.KnownMachine],
    events: Sequence[records.Event],
    now: float,
    commands: Progress | None = None,
) -> Status:
    return Status(
        run=run(item, commands),
        attempts=attempts(item, nodes, machines, now),
        machines=tuple(map(machine, machines)),
        events=tuple(Event(moment(each.at), each.text, each.who or None) for each in events),
    )


def attempts(
    item: records.Run, nodes: Sequence[records.Node], machines: Sequence[records.KnownMachine], now: float
) -> tuple[Attempt, ...]:
    """Return the views of a run's nodes; `report_due_at` is None for a node whose machine is not in `machines`."""
    recipe = recipe_of(item) if nodes else None
    limits = recipe.spec.limits if recipe else Limits()
    by_id = {each.id: each for each in machines}
    return tuple(_attempt(each, by_id.get(each.instance_id), limits, now) for each in nodes)


def log_bytes(streams: Mapping[str, int]) -> Mapping[str, int]:
    """Return the numbers of bytes of the log's streams; the stream of a list's records is no part of the log."""
    return {stream: count for stream, count in streams.items() if stream in STREAMS}


def _attempt(item: records.Node, its_machine: records.KnownMachine | None, limits: Limits, now: float) -> Attempt:
    report, verdict, told = item.report, item.verdict, item.stop_put_at
    due = first_report_due(item, its_machine, limits) if its_machine and not verdict else None
    return Attempt(
        attempt=item.attempt,
        rank=item.rank,
        instance_id=item.instance_id,
        bound_at=moment(item.bound_at),
        step=report.step if report else None,
        bytes_produced=log_bytes(report.produced) if report else {},
        bytes_shipped=log_bytes(report.shipped) if report else {},
        heard_at=moment(item.reported_at),
        report_due_at=moment(due),
        silent_since=moment(item.reported_at) if is_silent(item, now) else None,
        notice_at=moment(report.notice.at) if report and report.notice else None,
        rebalance_at=moment(report.rebalance_at) if report else None,
        stop_sent_at=moment(told),
        stop_grace=limits.stop_grace,
        stop_ends_at=moment(told + limits.stop_grace + MARGIN) if told is not None and not verdict else None,
        outcome=verdict.outcome if verdict else None,
        exit_code=verdict.exit_code if verdict else None,
        process_exit_code=verdict.process_exit_code if verdict else None,
        reason=verdict.reason if verdict else None,
        ended_at=moment(verdict.at) if verdict else None,
        ended_in=_known_step(verdict.step) if verdict else None,
        archived_at=moment(item.archived_at),
    )


def _known_step(step: Step | None) -> Step | None:
    """Return the step, but SETUP for BARRIER, which follows it: clients of the previous version know no `barrier`."""
    return Step.SETUP if step is Step.BARRIER else step


def _known_market(market: offers.Market) -> offers.Market:
    """Return the market, but ON_DEMAND for reserved machines: clients of the previous version know no `reserved`."""
    return offers.Market.ON_DEMAND if market is offers.Market.RESERVED else market


def machine(item: records.KnownMachine) -> Machine:
    return Machine(
        id=item.id,
        type=item.offer.instance_type,
        zone=item.offer.zone,
        market=_known_market(item.offer.market),
        reservation=item.reservation or None,
        state=item.state,
        launch_time=moment(item.launch_time),
        impaired_at=moment(item.impaired_at),
        ending_at=moment(item.ending_at),
        ended_at=moment(item.ended_at),
        end_wanted_for=item.end_wanted_for or None,
        end_wanted_at=moment(item.end_wanted_at),
        end_asked_at=moment(item.end_asked_at),
        price=price(item.price),
    )


def price(item: offers.Price | None) -> Price | None:
    return Price(item.dollars, item.source, moment(item.at)) if item else None


def receipt(item: receipts.Receipt) -> Receipt:
    return Receipt(
        run=item.run,
        job=item.job,
        owner=item.owner,
        outcome=item.outcome,
        exit_code=item.exit_code,
        process_exit_code=item.process_exit_code,
        provisional=item.provisional,
        created_at=moment(item.created_at),
        ended_at=moment(item.ended_at),
        phases=tuple(_phase(each, item.created_at) for each in item.phases),
        machines=tuple(map(_bill, item.machines)),
        dollars_at_least=item.dollars_at_least,
        dollars_at_most=item.dollars_at_most,
        disk_dollars_at_least=item.disk_dollars_at_least,
        disk_dollars_at_most=item.disk_dollars_at_most,
        advice=item.advice,
        cost_limit=item.cost_limit,
    )


def _bill(item: receipts.MachineBill) -> Bill:
    return Bill(
        instance_id=item.instance_id,
        attempt=item.attempt,
        rank=item.rank,
        instance_type=item.instance_type,
        zone=item.zone,
        market=item.market,
        seconds_at_least=item.seconds_at_least,
        seconds_at_most=item.seconds_at_most,
        price=price(item.price),
        dollars_at_least=item.dollars_at_least,
        dollars_at_most=item.dollars_at_most,
        disk_gib=item.disk_gib,
        disk_gib_seconds_at_least=item.disk_gib_seconds_at_least,
        disk_gib_seconds_at_most=item.disk_gib_seconds_at_most,
        disk_price=price(item.disk_price),
        disk_dollars_at_least=item.disk_dollars_at_least,
        disk_dollars_at_most=item.disk_dollars_at_most,
        reservation=item.reservation or None,
        free=item.free,
    )


def _phase(item: phases.Phase, since: float) -> Phase:
    began, ended = item.began, item.ended
    return Phase(
        name=item.name,
        attempt=item.attempt,
        rank=item.rank,
        beside=item.beside,
        billed=item.name not in receipts.UNBILLED,
        began=moment(began.at),
        ended=moment(ended.at if ended else None),
        # Round to milliseconds since the trigger, so that the seconds of successive phases add up exactly.
        seconds=round(round(ended.at - since, 3) - round(began.at - since, 3), 3) if ended else None,
        source=f"{began.source}; {ended.source}" if ended else str(began.source),
        began_source=began.source,
        began_error=round(began.error, 3),
        ended_source=ended.source if ended else None,
        ended_error=round(ended.error, 3) if ended else None,
    )


def ami(item: machine_images.Ami, *, in_use: bool, current: bool) -> Ami:
    return Ami(
        id=item.id,
        name=item.name,
        state=item.state,
        reason=item.reason or None,
        created_at=moment(item.created_at),
        architecture=item.architecture,
        disk_gib=item.disk_gib,
        base=item.base,
        agent=item.agent,
        agent_current=current,
        preloaded=tuple(item.preloaded),
        in_use=in_use,
    )


def token(item: callers.Token, now: float) -> Token:
    expired = item.expires_at is not None and now >= item.expires_at
    return Token(
        id=item.id,
        owners=item.owners,
        role="admin" if item.admin else "user",
        note=item.note,
        state="revoked" if item.revoked_at is not None else "expired" if expired else "valid",
        created_at=moment(item.created_at),
        created_by=item.created_by,
        expires_at=moment(item.expires_at),
        revoked_at=moment(item.revoked_at),
    )


def new_token(item: callers.Token, secret: str, now: float) -> NewToken:
    """Return the view of a new access token; `secret` is the text with which its user logs in."""
    return NewToken(**vars(token(item, now)), token=secret)


def audits(items: Sequence[callers.Audit], last: callers.Audit | None) -> Audits:
    """Return the page of audit records; the next page begins after `last`, or there is none."""
    return Audits(tuple(map(audit, items)), key_of(last.at, last.id) if last else None)


def audit(item: callers.Audit) -> Audit:
    return Audit(item.id, moment(item.at), item.who, item.source, item.what, item.owner or None, item.target)
