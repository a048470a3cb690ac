"""Launch further machines for a list run while it runs: they join its present attempt, each with a rank of its own.

The first machine of an attempt begins alone. Others join as capacity comes, up to the run's `scale`, and again after
one of them is lost. An attempt ends when its last machine ends; the next one begins with one machine again.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from provisioner.core.cloud.launches import Refusal
from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.words import Step
from provisioner.core.run import story
from provisioner.core.run.launch_answers import closed, new_node, unfilled
from provisioner.core.run.launching import TEMPLATE_EVERY
from provisioner.core.run.lists.recalling import WORTH, goes_on
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import Assignment, Drought, Joining, KnownMachine, Launch, Record, Run
from provisioner.core.run.states import State, Waiting
from provisioner.core.run.work_order import recipe_of

#: Seconds from a machine's launch to its first command, as long as no machine of the run has begun one.
COLD_START = 120.0
#: After this many machines in a row that ended without a command, no other is launched for PAUSE seconds.
USELESS, PAUSE = 3, 600.0
#: The reason recorded for ending a machine that arrives too late.
NEEDLESS = "its run needs it no longer"
#: Maximum number of machines of one attempt: each stays in the live records until the run is done.
MACHINES_MOST = 1000


def missing(
    run: Run,
    commands: CommandList,
    workers: Mapping[str, Worker],
    batches: Iterable[Batch],
    held: Sequence[Assignment],
    now: float,
) -> tuple[int, ...]:
    """Return the ranks of the machines to launch now.

    `held` are all nodes of the run, and `batches` all its open batches; `workers` are by node id. A machine is launched
    only for commands that can be handed out or recalled and for which the other machines have no slot, and only if it
    would be ready before these commands end.
    """
    joining, current = of(run), [each for each in held if each.node.attempt == run.attempt]
    at_work = run.state in (State.BOOTING, State.PREPARING, State.RUNNING)
    if run.scale == 1 or not at_work or stop_of(run) or joining.launch or now < joining.next_try_at:
        return ()
    known = [workers[each.node.id] for each in current if each.node.id in workers]
    here = [each for each in current if (worker := workers.get(each.node.id)) and goes_on(each.node, worker)]
    if not known or len(known) < len(current) or _useless(current, workers, now):
        return ()
    slots = known[0].slots
    rate = sum(workers[each.node.id].rate for each in here)
    start = max(_cold_start(held), WORTH)
    if rate and commands.open / rate < start:
        return ()
    released = any(worker.released_at is not None and worker.doubted_at is None for worker in known)
    movable = [
        _movable(workers[each.node.id], [batch for batch in batches if batch.node == each.node.id], start)
        for each in here
    ]
    # After a release, nothing can be recalled.
    idle = commands.remaining + sum(count for count in movable if count < 0 or not released)
    count = min(run.scale - len(here), math.ceil(max(0, idle) / slots), MACHINES_MOST - joining.next_rank)
    return tuple(range(joining.next_rank, joining.next_rank + count))


def _movable(worker: Worker, batches: Sequence[Batch], start: float) -> int:
    """Return how many commands other machines could take from this one; negative if it has free slots.

    Commands that it begins itself within `start` seconds are left to it.
    """
    stays = sum(batch.left for batch in batches if batch.recall_at is not None)
    count = sum(batch.left for batch in batches if batch.recall_at is None) - max(0, worker.slots - stays)
    soon = worker.rate and count / worker.rate <= start
    return 0 if count > 0 and soon else count


def of(run: Run) -> Joining:
    """Return the launches of further machines for the run's present attempt."""
    known = run.joining
    return known if known and known.attempt == run.attempt else Joining(run.attempt)


def as_queued(run: Run) -> Run:
    """Return the run as if it were queued, for functions that plan launches for queued runs."""
    joining = of(run)
    return replace(
        run,
        state=State.QUEUED,
        launch="",
        next_try_at=joining.next_try_at,
        tier=joining.tier,
        dry_launches=joining.dry_launches,
        waiting=joining.waiting,
        waiting_for=joining.waiting_for,
        tried=joining.tried,
        kept_until=None,
    )


def as_planned(run: Run, found: Run, now: float) -> Run:
    """Return the run with the result of planning `as_queued(run)`: a launch, or the cause of a wait."""
    joining = replace(
        of(run),
        launch=found.launch if found.state is State.LAUNCHING else "",
        next_try_at=found.next_try_at,
        tier=found.tier,
        dry_launches=found.dry_launches,
        waiting=found.waiting,
        waiting_for=found.waiting_for,
        tried=found.tried,
    )
    if found.state is State.STOPPING and found.verdict:
        # No launch can succeed as things are, but the run has a machine.
        waits = Waiting.CONFIGURATION
        joining = replace(joining, waiting=waits, waiting_for=found.verdict.reason, next_try_at=now + TEMPLATE_EVERY)
    return replace(run, joining=joining)


def joined(
    launch: Launch,
    run: Run | None,
    machines: Sequence[KnownMachine],
    refusals: Sequence[Refusal],
    droughts: Mapping[str, Drought],
    epoch: int,
    now: float,
) -> list[Record]:
    """Return the records to save, in one transaction, after the answer to a launch of further machines.

    Each machine gets a rank, unless the attempt has ended meanwhile: then the machines are to be terminated.
    """
    records, ranks = list[Record](), tuple[int, ...]()
    if run is not None and of(run).launch == launch.id:
        ranks = _ranks(run, launch, len(machines))
        nodes = [
            new_node(launch, run, run.attempt, rank, machine, epoch, now)
            for rank, machine in zip(ranks, machines, strict=False)
        ]
        after = _after(launch, run, len(machines), refusals, now)
        records += [*nodes, after, *machines[: len(ranks)]]
        if nodes:
            records.append(story.joined(after, machines[: len(ranks)], now))
    spare = machines[len(ranks) :]
    records += [replace(each, end_wanted_at=now, end_wanted_for=NEEDLESS) for each in spare]
    return [*records, *closed(launch, machines, refusals, droughts, now)]


def _after(launch: Launch, run: Run, machines: int, refusals: Sequence[Refusal], now: float) -> Run:
    """Return the run after the answer, with the time and the market of the next try if machines are missing."""
    asked, recipe = replace(as_queued(run), launch=launch.id, state=State.LAUNCHING), recipe_of(run)
    if machines < launch.request.count:
        found = unfilled(asked, refusals, len(recipe.spec.markets) if recipe else 1, now)
    else:
        found = replace(asked, state=State.QUEUED, tier=0, dry_launches=0, waiting=None, waiting_for="")
    after = as_planned(run, found, now)
    return replace(after, joining=replace(of(after), launch="", next_rank=launch.ranks[-1] + 1))


def _ranks(run: Run, launch: Launch, machines: int) -> tuple[int, ...]:
    """Return the ranks that get a machine; none if the attempt of the launch needs no machine any more."""
    at_work = run.state in (State.BOOTING, State.PREPARING, State.RUNNING)
    return launch.ranks[:machines] if at_work and not stop_of(run) else ()


def _useless(current: Sequence[Assignment], workers: Mapping[str, Worker], now: float) -> bool:
    """Return whether the last USELESS machines, by rank, ended a short time ago and without a command.

    The reason may be a start script that fails, but also a mistake in this module: the money is lost either way.
    """
    last = sorted(current, key=lambda each: each.node.rank)[-USELESS:]
    ends = [each.node.verdict for each in last if each.node.verdict and not workers[each.node.id].ended]
    return len(ends) == USELESS and now < max(verdict.at for verdict in ends) + PAUSE


def _cold_start(held: Sequence[Assignment]) -> float:
    """Return the shortest time from a machine's launch to its first command, in seconds."""
    return min(_starts(held), default=COLD_START)


def _starts(held: Sequence[Assignment]) -> Iterator[float]:
    for each in held:
        report = each.node.report
        if report and (span := report.spans.get(Step.COMMAND)):
            yield max(0.0, span.began + each.node.clock_ahead - each.node.bound_at)
