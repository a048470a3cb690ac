"""Decide how many commands each machine gets, and hand them out.

A machine has commands for the next minutes, so that it goes on working while the control plane is away.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from provisioner.core.commands.blocks import CommandState, Count
from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.batches import Range
from provisioner.core.run.lists.doubting import is_suspect
from provisioner.core.run.lists.dying import ALONE_AFTER
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.lists.recalling import at_work, goes_on, takes
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State

#: Seconds of work that a machine has ahead, at most: the control plane may be away for five minutes.
AHEAD = 330.0
#: Seconds of work that a machine gets at least, if there is enough.
LEAST = 10.0
#: Maximum number of commands of a batch, and of ranges in its head.
BATCH_MOST, RANGES_MOST = 10_000, 500


def wanted(
    run: Run, commands: CommandList, workers: Iterable[Worker], batches: Iterable[Batch], nodes: Mapping[str, Node]
) -> dict[str, int]:
    """Return how many commands each node gets now, by the node's id; `nodes` are those of the run, by id.

    A node has at most AHEAD seconds of work or twice as many commands as it runs at once, whichever is more. The nodes
    share all commands without a record in proportion to their speed, so that they end at about the same time. A node
    gets more commands only when half of its commands have ended or a slot is free, because each batch costs several
    requests. A node that joins gets commands once it can begin them; until then its share is kept.
    """
    if stop_of(run) or run.state not in (State.BOOTING, State.PREPARING, State.RUNNING):
        return {}
    largest = min(BATCH_MOST, commands.batch_most or BATCH_MOST)
    left, found, has_now, alone = commands.remaining, dict[str, int](), Counter[str](), set[str]()
    for batch in batches:
        has_now[batch.node] += batch.left
        alone |= {batch.node} if batch.alone else set()
    going = [worker for worker in workers if goes_on(nodes.get(worker.id), worker)]
    speeds = _speeds(going)
    each = (left + sum(has_now[worker.id] for worker in going)) / (sum(speeds.values()) or 1.0)
    ready = [worker for worker in going if _ready(nodes.get(worker.id), worker) and worker.id not in alone]
    # The machine with the fewest commands comes first.
    for worker in sorted(ready, key=lambda worker: (has_now[worker.id] / worker.slots, worker.id)):
        has, share = has_now[worker.id], math.ceil(each * speeds[worker.id])
        most = max(2 * worker.slots, int(worker.rate * AHEAD))
        if is_suspect(worker, (other for other in ready if other is not worker)):
            most = 2 * worker.slots
        goal = min(most, max(share, worker.slots, int(worker.rate * LEAST)))
        count = min(goal - has, left, largest)
        if count > 0 and (has * 2 <= goal or has < worker.slots):
            found[worker.id] = count
            left -= count
    return found


def _speeds(workers: Sequence[Worker]) -> dict[str, float]:
    """Return how fast each worker is in comparison with the others, by node id; one with no rate yet is average."""
    known = [worker.rate for worker in workers if worker.rate]
    usual = sum(known) / len(known) if known else 1.0
    return {worker.id: worker.rate or usual for worker in workers}


def _ready(node: Node | None, worker: Worker) -> bool:
    return takes(node, worker) and node is not None and (node.rank == 0 or at_work(node))


def fresh_blocks(commands: CommandList, count: int) -> range:
    """Return the numbers of the blocks with the next `count` commands that were never handed out."""
    after = min(commands.total, commands.next + count)
    return range(commands.next // commands.block_size, -(-after // commands.block_size))


def hand_out(ledger: Ledger, want: Mapping[str, int]) -> list[Batch]:
    """Make a batch for each node, at most of the wanted size; return the batches.

    The ledger needs the blocks of `fresh_blocks`, and some or all blocks with commands that wait. These commands are
    handed out first. A command that must run alone is given only to a machine that has no commands and can get no
    others.
    """
    made = []
    for id, count in want.items():
        ranges = _take(ledger, min(count, BATCH_MOST))
        alone = not ranges and not ledger.open_batches(id)
        if alone:
            ranges = _take_alone(ledger)
        if not ranges:
            continue
        worker = ledger.workers[id]
        number = worker.batches + 1
        size = sum(count for _, count, _ in ranges)
        batch = Batch(f"{id}.{number}", worker.run, id, worker.box, number, ranges, size, alone)
        ledger.batches[batch.id] = batch
        ledger.put(worker, batches=number)
        made.append(batch)
    return made


def _take(ledger: Ledger, count: int) -> tuple[Range, ...]:
    """Hand out at most `count` commands that need not run alone, and return them."""
    found: list[Range] = []
    for first, several, generation, alone in _waiting(ledger):
        if not count or len(found) >= RANGES_MOST - 1:
            break
        if not alone:
            here = min(several, count)
            ledger.hand_out(first, here)
            found.append((first, here, generation))
            count -= here
    fresh = ledger.commands
    here, after = fresh.next, min(fresh.total, fresh.next + count)
    # A command that is to be stopped is cancelled without being handed out.
    for stop in [*sorted(each for each in fresh.stops if here <= each < after), after]:
        if len(found) >= RANGES_MOST:
            break
        if here < stop:
            ledger.hand_out(here, stop - here)
            found.append((here, stop - here, 1))
        if stop < after:
            ledger.end(stop, CommandState.CANCELLED)
        here = stop + 1
    return tuple(found)


def _take_alone(ledger: Ledger) -> tuple[Range, ...]:
    """Hand out one command that must run alone, and return it; empty if none waits."""
    for first, _, generation, alone in _waiting(ledger):
        if alone:
            ledger.hand_out(first)
            return ((first, 1, generation),)
    return ()


def _waiting(ledger: Ledger) -> Iterator[tuple[int, int, int, bool]]:
    """Return the commands that wait: the first index, their number, their generation, and whether they run alone."""
    blocks = ledger.blocks
    for number in blocks.numbers:
        for first, count, generation in list(blocks.runs_of(number, CommandState.WAITING)):
            for here, several, alone in blocks.by_count(first, count, Count.DEATHS, least=ALONE_AFTER):
                yield here, several, generation, alone
