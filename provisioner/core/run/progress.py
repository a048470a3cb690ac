"""Advance one run: from its records, decide its state and what must be done for it.

The functions are pure and level-triggered: they read only records, not messages, so any call may be lost or repeated.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from provisioner.core.cloud.machines import ENDING
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.messages import Orders, Report, Stop, limit_of
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.parts import Gang, Limits, Retry
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import survivors, verdicts
from provisioner.core.run.ranks import Ranks, has_started, stop_of
from provisioner.core.run.records import Assignment, Node, Run, TemplateHealth, Verdict
from provisioner.core.run.states import State, transition


@dataclass(frozen=True)
class Advance:
    """The run after a step, the same object if nothing changed; and the nodes of its attempt that got a verdict."""

    run: Run
    nodes: tuple[Node, ...] = ()
    #: The nodes whose mailbox is searched for a result before a verdict is presumed.
    seek: tuple[Node, ...] = ()


def advance(
    run: Run, held: Sequence[Assignment], recipe: Recipe | None, now: float, reports_unreadable_at: float = 0.0
) -> Advance:
    """Move the run as far as the records allow; `held` are the nodes of all its attempts, with their machines.

    If the recipe cannot be read (None), the default limits apply and there are no retries. `reports_unreadable_at` is
    when reports last could not be read, as Unix seconds.
    """
    current = sorted((each for each in held if each.node.attempt == run.attempt), key=lambda each: each.node.rank)
    limits, retries, retry = (
        (recipe.spec.limits, recipe.spec.retries, recipe.spec.retry) if recipe else (Limits(), 0, Retry())
    )
    match run.state:
        case State.QUEUED:
            return Advance(_queued(_released(run, held, recipe, now), limits, retry, now))
        case State.BOOTING | State.PREPARING | State.RUNNING if current:
            return _at_work(ends_of(run, current, recipe, now, reports_unreadable_at), retries, retry, now)
        case State.STOPPING:
            late = ends_of(run, current, recipe, now, reports_unreadable_at)
            after = _stopping(run, held, bool(late.open), recipe, now)
            return replace(after, nodes=late.settled, seek=after.seek or late.seek)
        case _:
            return Advance(run)


def _released(run: Run, held: Sequence[Assignment], recipe: Recipe | None, now: float) -> Run:
    """Return the run without kept machines if they have waited too long, or if none is left."""
    if run.kept_until is None or (now < run.kept_until and survivors.kept(run, held, recipe, now)):
        return run
    # A wait for a launch near the kept machines is over: a launch of all machines may succeed elsewhere.
    return replace(run, kept_until=None, next_try_at=now if run.waiting else run.next_try_at)


def _queued(run: Run, limits: Limits, retry: Retry, now: float) -> Run:
    since = run.verdict.at if run.verdict else run.created_at
    if run.verdict and run.verdict.outcome is Outcome.FAILED and not verdicts.asks_again(run.verdict, retry):
        # The pause that the recipe sets between attempts does not count as waiting for a machine.
        since += retry.backoff
    if run.stop:
        return _end(run, Verdict(run.stop.outcome, run.stop.reason, now), now)
    if limits.queue_time is not None and now >= since + limits.queue_time:
        reason = f"waited for a machine longer than {limit_of('queue_time', limits.queue_time)}"
        if run.waiting:
            reason += f" ({run.waiting}: {run.waiting_for})"
        return _end(run, Verdict(Outcome.TIMED_OUT, reason, now), now)
    return run


def _end(run: Run, verdict: Verdict, now: float) -> Run:
    return replace(run, state=transition(run.state, State.STOPPING), verdict=verdict, ended_at=following(run, now))


def following(run: Run, now: float) -> float:
    """Return `now`, or the latest stored time of the run if that is later, because the clock may have been set back."""
    return max(now, run.created_at, run.ended_at or 0.0, run.certain_at or 0.0)


def refuse(run: Run, reason: str, now: float) -> Run:
    """Return the run, ended as refused because it can never be launched."""
    return _end(run, Verdict(Outcome.REFUSED, reason, now), now)


def ends_of(
    run: Run,
    current: Sequence[Assignment],
    recipe: Recipe | None,
    now: float,
    reports_unreadable_at: float,
    stops: Mapping[str, Stop] = MappingProxyType({}),
) -> Ranks:
    """Give each rank the verdict of its result, or a presumed one after its mailbox was searched for a result.

    `stops` are the orders to stop that single machines got, by node id.
    """
    limits, found, seek = recipe.spec.bounds if recipe else Limits(), dict[int, Verdict](), list[Node]()
    for each in current:
        node = each.node
        if node.verdict:
            found[node.rank] = node.verdict
        elif node.result:
            found[node.rank] = verdicts.ended_by_result(node.result, node, now)
        else:
            own = stops.get(node.id) if not stop_of(run) else None
            told = replace(run, ranks_stop=own) if own else run
            presumed = verdicts.presume(told, node, each.machine, limits, reports_unreadable_at)
            if now < presumed.at:
                seek += [node] if node.report is not None and node.report.finished else []
            elif node.result_sought_at is None or node.result_sought_at < presumed.at:
                seek.append(node)
            else:
                found[node.rank] = presumed.verdict
    gang = recipe.spec.gang if recipe else Gang()
    return Ranks(run, gang, current, found, tuple(seek), reports_unreadable_at)


def _at_work(ranks: Ranks, retries: int, retry: Retry, now: float) -> Advance:
    run = progressed(ranks)
    if run.together > 1 and not run.stop and run.ranks_stop is None and (stop := ranks.stop_for_others(now)):
        run = replace(run, ranks_stop=stop)
    if run is not ranks.run:
        ranks = replace(ranks, run=run)
    if not ranks.over(now):
        # A rank that has ended frees its machine at once.
        return Advance(run, ranks.settled, ranks.seek)
    started = any(has_started(each.node) for each in ranks.current)
    run = verdicts.follow(run, ranks.verdict(), retries, started, following(run, now), retry)
    return Advance(replace(run, state=transition(run.state, State.STOPPING)), ranks.settled)


def progressed(ranks: Ranks) -> Run:
    """Return the run in the state that the reports show, with the order to start once all ranks are ready."""
    run, reports = ranks.run, [each.node.report for each in ranks.current if each.node.report]
    if run.start_order != run.attempt and ranks.ready:
        run = replace(run, start_order=run.attempt)
    if not reports or run.state is State.RUNNING:
        return run
    executing = any(Step.COMMAND in report.spans for report in reports)
    state = transition(run.state, State.RUNNING if executing else State.PREPARING)
    return run if state is run.state else replace(run, state=state)


def _stopping(run: Run, held: Sequence[Assignment], unsettled: bool, recipe: Recipe | None, now: float) -> Advance:
    """Return the next step of a run that is stopping.

    `unsettled` means that a rank of the attempt has no verdict yet. It would get none after the next attempt has begun.
    """
    if run.ended_at is None:
        if run.stop:
            verdict = Verdict(run.stop.outcome, run.stop.reason, now)
            return Advance(replace(run, verdict=verdict, ended_at=following(run, now)))
        if not unsettled and all(verdicts.may_execute_again(each.node, each.machine) for each in held):
            return _once_more(run, held, recipe, now)
        return Advance(run)
    if run.certain_at is None and all(_certain(each, now) for each in held):
        return Advance(replace(run, certain_at=following(run, now)))
    return Advance(run)


def _once_more(run: Run, held: Sequence[Assignment], recipe: Recipe | None, now: float) -> Advance:
    """Queue the next attempt of a run whose old machines no longer execute it, or end the run if it must not rerun."""
    verdict, retry = run.verdict, recipe.spec.retry if recipe else Retry()
    last = [each for each in held if each.node.attempt == run.attempt]
    lost = bool(verdict and verdict.outcome in (Outcome.LOST, Outcome.INTERRUPTED))
    if verdict and lost and retry.rerun == "before_start":
        if any(verdicts.may_have_begun(each.node) for each in last):
            reason = f"{verdict.reason}; not tried again: the command had begun, and retry.rerun is before_start"
            return Advance(replace(run, verdict=replace(verdict, reason=reason), ended_at=following(run, now)))
        # Only the mailbox shows whether a machine began the command just before its end.
        if unheard := tuple(each.node for each in last if each.node.result is None and not heard_out(each)):
            return Advance(run, seek=unheard)
    until = survivors.kept_until(last, recipe, now) if lost else None
    return Advance(replace(run, state=transition(run.state, State.QUEUED), kept_until=until))


def heard_out(held: Assignment) -> bool:
    """Return whether the mailbox was searched for a result after the machine had ended."""
    sought, ended = held.node.result_sought_at, held.machine.ended_at
    return sought is not None and ended is not None and sought >= ended


def _certain(held: Assignment, now: float) -> bool:
    machine = held.machine
    return (
        machine.ended_at is not None
        or machine.state in ENDING
        or machine.end_accepted_at is not None
        or verdicts.held_until(held.node, machine) > now
    )


def may_finish(run: Run, held: Sequence[Assignment]) -> bool:
    """Return whether the receipt can be written: the run has ended, its logs are archived, its machines are gone."""
    return run.ended_at is not None and all(
        each.node.archived_at is not None and each.machine.ended_at is not None for each in held
    )


def finish(run: Run, now: float) -> Run:
    """Return the run in state done."""
    at = following(run, now)
    return replace(run, state=transition(run.state, State.DONE), certain_at=run.certain_at or at, done_at=at)


def wanted_end(run: Run, held: Assignment, recipe: Recipe | None, now: float) -> str:
    """Return the reason to end the machine now, or ""; `held` has the newest node of the machine."""
    if held.node.verdict is None or verdicts.held_until(held.node, held.machine) > now:
        return ""
    if survivors.may_wait(run, held, recipe, now):
        return ""
    return f"attempt {held.node.attempt} of run {run.id[:12]} {held.node.verdict.outcome}"


def orders(run: Run) -> Orders:
    """Return the orders for the machines of a run with a single command."""
    found = Orders(stop_of(run), run.followed_until, run.start_order if run.start_order == run.attempt else 0)
    # The mailbox of a machine that is used again still has the orders for its last attempt.
    return replace(found, attempt=run.attempt) if run.together > 1 and found != Orders() else found


def orders_digest(wanted: Orders) -> str:
    """Return a short digest of orders; "" if they are empty."""
    return "" if wanted == Orders() else hashlib.sha256(encode(wanted)).hexdigest()[:16]


def counts_against_template(node: Node) -> bool:
    """Return whether the node is lost because its machine never reported, or could not work at all."""
    if node.verdict is None or node.verdict.outcome is not Outcome.LOST or node.reused:
        return False
    return node.result.unfit if node.result else node.report is None


def proven(known: TemplateHealth | None, before: Report | None, news: Report) -> TemplateHealth | None:
    """Return the health of a template, one of whose machines has just begun its work; None if it stays as it is.

    `before` is the machine's last report. The first report comes before the machine knows whether it can work.
    """
    if known is None or not known.failures or _began_work(before) or not _began_work(news):
        return None
    return replace(known, failures=0, reason="", probe_at=0.0)


def _began_work(report: Report | None) -> bool:
    return report is not None and any(step is not Step.BOOT and step in report.spans for step in Step)


def failed_boot(known: TemplateHealth | None, node: Node, now: float) -> TemplateHealth:
    """Return the health of the node's template after one more of its machines could not work."""
    known = known or TemplateHealth(node.template)
    reason = node.verdict.reason if node.verdict else ""
    return replace(known, failures=known.failures + 1, reason=reason, failed_at=now)
