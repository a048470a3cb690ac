"""Take commands back from machines that are certainly over, and give every command its final state at the end.

A machine that is over no longer runs a command and writes no more records. The control plane then lists
its inbox once more and records what it finds, before the machine's other commands wait again.
"""

from collections.abc import Mapping

from provisioner.core.commands.blocks import GENERATION_MOST, CommandState, Count
from provisioner.core.commands.records import Worker
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists import dying
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.lists.receiving import RECORDS_MOST
from provisioner.core.run.lists.repeating import too_many
from provisioner.core.run.records import Assignment, Run
from provisioner.core.run.verdicts import may_execute_again

#: Maximum number of blocks that are sealed in one transaction.
SEAL_MOST = 100


def note_listing(ledger: Ledger, held: Assignment, sizes: Mapping[int, int], whole: bool, now: float) -> None:
    """If the node is over, note that a listing of its inbox showed no unread record.

    Read `held` from the store before the listing: otherwise the machine may have written after it. `sizes` has the
    bytes of each chunk of the stream `records` that was found, by its offset. `whole` is False if the listing may lack
    objects of this inbox. A chunk that is too large is not recorded, nor are the chunks after it.
    """
    worker = ledger.workers[held.node.id]
    readable = 0 < sizes.get(worker.records_read, 0) <= RECORDS_MOST
    if worker.listed_at is None and whole and not readable and may_execute_again(held.node, held.machine):
        ledger.put(worker, listed_at=now)


def may_close(held: Assignment, worker: Worker) -> bool:
    """Return whether the node's commands that have no record may be taken back now."""
    over = may_execute_again(held.node, held.machine) and worker.listed_at is not None
    return over and worker.closed_at is None


def close(ledger: Ledger, held: Assignment, run: Run, now: float, options: ListOptions) -> None:
    """Take back the node's commands without a record, if the node is over; they wait for another machine.

    These commands get a final state instead of waiting:

    * commands that were running when the machine was lost, if the run has ended, if the list ends early, or if
      `list.restart_lost` is false;
    * commands that may have killed `dying.DEATHS_MOST` machines;
    * commands with generation GENERATION_MOST, which have no next generation.

    The ledger needs the blocks of the node's open batches.
    """
    worker = ledger.workers[held.node.id]
    if not may_close(held, worker):
        return
    if held.node.result is None and (run.ended_at is not None or too_many(ledger.commands, options)):
        for index in dying.running(ledger, held.node):
            ledger.end(index, CommandState.CANCELLED if _ordered(run) else CommandState.LOST)
    if not options.restart_lost:
        for index in dying.begun(ledger, held.node):
            ledger.end(index, CommandState.LOST)
    if dying.died(held, run):
        for index in dying.suspects(ledger, held.node):
            ledger.blocks.add(index, Count.DEATHS)
            if ledger.blocks.count(index, Count.DEATHS) >= dying.DEATHS_MOST:
                ledger.end(index, CommandState.LOST)
    for batch in ledger.open_batches(worker.id):
        for first, count, generation in batch.ranges:
            for here, several, _ in list(ledger.blocks.out(first, count, generation)):
                if generation == GENERATION_MOST:
                    ledger.end(here, CommandState.LOST, several)
                else:
                    ledger.take_back(here, several)
        ledger.put(batch, left=0, closed_at=now)
    ledger.put(worker, closed_at=now)


def _ordered(run: Run) -> bool:
    """Return whether the machines got an order to end the commands: a user's stop, a limit, or `on_max: kill`."""
    return bool(run.stop or run.ranks_stop) or bool(run.verdict and run.verdict.outcome is Outcome.TIMED_OUT)


def may_seal(run: Run, ledger: Ledger) -> bool:
    """Return whether no command can be recorded any more: the run has ended, and all its workers are closed."""
    closed = all(worker.closed_at is not None for worker in ledger.workers.values())
    return run.ended_at is not None and ledger.commands.sealed_at is None and closed


def seal(ledger: Ledger, run: Run, now: float) -> None:
    """Give commands that wait their final state, if the run is over; at most SEAL_MOST blocks of them.

    A command that waits to run again after a failure becomes FAILED.

    The ledger has at most SEAL_MOST blocks with commands that wait, and the block of the list's `next`. Call this again
    until `sealed_at` of the list is set.
    """
    if not may_seal(run, ledger):
        return
    for number in ledger.blocks.numbers:
        for first, count, _ in list(ledger.blocks.runs_of(number, CommandState.WAITING)):
            for here, several, failed in list(ledger.blocks.by_count(first, count, Count.FAILURES, Count.EXCUSED)):
                ledger.end(here, CommandState.FAILED if failed else CommandState.NOT_RUN, several)
    commands = ledger.commands
    after = min(commands.total, (commands.next // commands.block_size + SEAL_MOST) * commands.block_size)
    here = commands.next
    for stop in [*sorted(each for each in commands.stops if here <= each < after), after]:
        if here < stop:
            ledger.end(here, CommandState.NOT_RUN, stop - here)
        if stop < after:
            ledger.end(stop, CommandState.CANCELLED)
        here = stop + 1
    if not ledger.commands.open:
        ledger.seal(now)
