"""Advance the run of a list: its state, its outcome, and the orders for its machines.

A list run ends when its commands have ended. A lost machine only costs time: its commands wait for another
machine. If it was the last machine of its attempt, that is a machine of the next attempt.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.messages import ListOrders, Orders, Stop, limit_of
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.recipe.parts import Limits, Retry
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import progress, verdicts
from provisioner.core.run.lists import recalling
from provisioner.core.run.lists.joining import USELESS
from provisioner.core.run.lists.repeating import early_reason, too_many
from provisioner.core.run.progress import Advance
from provisioner.core.run.ranks import has_started, stop_of
from provisioner.core.run.records import Assignment, Run, Verdict
from provisioner.core.run.states import State, transition


def advance(
    run: Run,
    commands: CommandList,
    workers: Mapping[str, Worker],
    held: Sequence[Assignment],
    recipe: Recipe | None,
    now: float,
    reports_unreadable_at: float = 0.0,
) -> Advance:
    """Move a list run as far as the records allow, as `progress.advance` does for others.

    `workers` are by node id. An attempt is over only after the records of its machines were read
    and their other commands taken back: the records may show that the whole list has ended.
    """
    current = [each for each in held if each.node.attempt == run.attempt]
    if run.state not in (State.BOOTING, State.PREPARING, State.RUNNING) or not current:
        return progress.advance(run, held, recipe, now, reports_unreadable_at)
    limits, retries, retry = (
        (recipe.spec.bounds, recipe.spec.retries, recipe.spec.retry) if recipe else (Limits(), 0, Retry())
    )
    options = recipe.spec.list if recipe else ListOptions()
    early = early_reason(commands, options) if too_many(commands, options) else ""
    released = {each.node.id: stop for each in current if (stop := _release_of(workers.get(each.node.id)))}
    ranks = progress.ends_of(run, current, recipe, now, reports_unreadable_at, released)
    run = progress.progressed(ranks)
    over, began = verdict(commands, now), first_begin(held)
    late = not over and began is not None and now >= began + limits.runtime
    # A machine keeps to this limit by itself, and ends its commands, while the control plane is away.
    if not stop_of(run) and (late or commands.halted):
        reason = f"the list took longer than {limit_of('runtime', limits.runtime)}"
        run = replace(run, ranks_stop=Stop(Outcome.TIMED_OUT, reason, now))
    if not stop_of(run) and early and options.on_max == "kill":
        run = replace(run, ranks_stop=Stop(Outcome.CANCELLED, early, now))
    if not stop_of(run) and began is None and (failed := _failed_setup(ranks.ends.values())):
        run = replace(run, ranks_stop=Stop(Outcome.CANCELLED, failed, now))
    # A stop ends commands. These are not failures, so the end of the machine then decides the outcome.
    if over and not (stop_of(run) and commands.halted):
        over = replace(over, reason=f"{early}: {over.reason}") if early else over
        ended = replace(run, verdict=over, ended_at=progress.following(run, now))
        if ranks.open and not stop_of(run):
            ended = replace(ended, ranks_stop=Stop(Outcome.SUCCEEDED, "all commands have ended", now))
        return Advance(replace(ended, state=transition(run.state, State.STOPPING)), ranks.settled, ranks.seek)
    if ranks.open or not all(_settled(run, each, workers) for each in current):
        return Advance(run, ranks.settled, ranks.seek)
    if early and not run.stop and (run.ranks_stop is None or run.ranks_stop.outcome is Outcome.CANCELLED):
        found = Verdict(Outcome.FAILED, f"the list ended early: {early}", now, 1, Step.COMMAND)
        ended = replace(run, verdict=found, ended_at=progress.following(run, now))
        return Advance(replace(ended, state=transition(run.state, State.STOPPING)), ranks.settled)
    found = _of_attempt(run, _last(ranks.ends.values()))
    if began is not None and stop_of(run):
        # The machine that ended last may have been booting, while the list ran on others.
        found = replace(found, step=Step.COMMAND)
    started = any(has_started(each.node) for each in current)
    if any(workers[each.node.id].ended for each in current if each.node.id in workers):
        # Lost machines count against the run only while they end no command.
        run = replace(run, lost_before_start=0, lost_after_start=0)
    run = verdicts.follow(run, found, retries, started, progress.following(run, now), retry)
    return Advance(replace(run, state=transition(run.state, State.STOPPING)), ranks.settled)


def _settled(run: Run, each: Assignment, workers: Mapping[str, Worker]) -> bool:
    """Return whether the node's part of the list is certain. A stop does not wait for a machine that is lost."""
    worker = workers.get(each.node.id)
    return worker is None or worker.closed_at is not None or bool(stop_of(run) and not each.node.result)


def _last(ends: Collection[Verdict]) -> Verdict:
    """Return the verdict on the machine that ended last.

    The success of a machine counts only if all machines succeeded. If setup failed on USELESS machines in a row,
    machines that ended by order do not count.
    """
    counted = [each for each in ends if each.outcome is not Outcome.CANCELLED] if _failed_setup(ends) else ends
    return max(counted, key=lambda verdict: (verdict.outcome is not Outcome.SUCCEEDED, verdict.at))


def _failed_setup(ends: Iterable[Verdict]) -> str:
    """Return why the attempt is over if setup failed on USELESS machines in a row, or ""."""
    own = sorted((each for each in ends if each.outcome is not Outcome.CANCELLED), key=lambda each: each.at)
    last = own[-USELESS:]
    bad = [each for each in last if each.step is Step.SETUP and each.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)]
    return f"setup failed on {USELESS} machines in a row" if len(bad) == USELESS else ""


def _release_of(worker: Worker | None) -> Stop | None:
    """Return the order to end for a machine that was released."""
    if worker is None or worker.released_at is None:
        return None
    reason = "no command is left for this machine"
    if worker.doubted_at is not None:
        reason = "its commands failed, and those of other machines succeeded"
    return Stop(Outcome.SUCCEEDED, reason, worker.released_at, ends_run=False)


def _of_attempt(run: Run, found: Verdict) -> Verdict:
    """Return the verdict on an attempt whose machines have ended, while the list has open commands."""
    ended = (Outcome.SUCCEEDED, Outcome.CANCELLED, Outcome.LOST, Outcome.INTERRUPTED)
    if (stop := stop_of(run)) and found.outcome in ended:
        return replace(found, outcome=stop.outcome, reason=stop.reason, exit_code=None)
    if found.outcome in (Outcome.SUCCEEDED, Outcome.CANCELLED):
        reason = f"the machine ended before the list ({found.reason})"
        return replace(found, outcome=Outcome.LOST, reason=reason, exit_code=None)
    return found


def first_begin(held: Iterable[Assignment]) -> float | None:
    """Return when the first command of the run began, by our clock; None if none is known to have begun."""
    spans = [
        (span, each.node)
        for each in held
        for message in (each.node.report, each.node.result)
        if message and (span := message.spans.get(Step.COMMAND))
    ]
    return min((max(node.bound_at, span.began + node.clock_ahead) for span, node in spans), default=None)


def verdict(commands: CommandList, now: float) -> Verdict | None:
    """Return the verdict on a list without open commands; None if it has some."""
    if commands.open:
        return None
    if commands.succeeded == commands.total:
        several = "commands" if commands.total > 1 else "command"
        return Verdict(Outcome.SUCCEEDED, f"{commands.total:,} {several} succeeded", now, 0, Step.COMMAND)
    counts = (
        (commands.failed, "failed"),
        (commands.lost, "lost"),
        (commands.cancelled, "cancelled"),
        (commands.not_run, "not run"),
    )
    others = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    reason = f"{commands.succeeded:,} of {commands.total:,} commands succeeded; {others}"
    return Verdict(Outcome.FAILED, reason, now, 1, Step.COMMAND)


def orders(
    run: Run, commands: CommandList, worker: Worker | None, batches: Iterable[Batch], options: ListOptions
) -> Orders:
    """Return the orders for a machine of a list run; `batches` are all open batches of the run.

    If this machine has all commands that have not ended, its orders say that no batch follows, and it ends by itself
    after them. With `list.retries`, these commands may fail and run again, so the machine waits for the list's end.
    """
    found = Orders(stop_of(run) or _release_of(worker), run.followed_until)
    if worker is None:
        return found
    out = list(batches)
    missing = [batch.number for batch in out if batch.node == worker.id and batch.put_at is None]
    number = min(missing) - 1 if missing else worker.batches
    recalls = recalling.orders(batch for batch in out if batch.node == worker.id)
    mine = all(batch.node == worker.id for batch in out)
    last = mine and not missing and not recalls and not commands.remaining and not options.retries
    stops = _stops(commands.stops, (batch for batch in out if batch.node == worker.id))
    told = ListOrders(number, last, recalls, stops, too_many(commands, options))
    return replace(found, commands=told) if number or last or told.finish else found


def _stops(stops: Iterable[int], batches: Iterable[Batch]) -> tuple[int, ...]:
    """Return those of the commands to stop that are in one of these batches, sorted."""
    wanted = sorted(stops)
    if not wanted:
        return ()
    found: set[int] = set()
    for batch in batches:
        for first, count, _ in batch.ranges:
            found.update(wanted[bisect_left(wanted, first) : bisect_left(wanted, first + count)])
    return tuple(sorted(found))
