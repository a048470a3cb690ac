"""Take commands that have not begun from busy machines to idle ones, and release machines for which none is left.

The machine decides which commands have begun. Its answer is final. Only after the answer is stored do the
other commands wait for another machine. So no command runs on two machines.
"""

import math
from collections.abc import Iterable, Mapping

from provisioner.core.commands.records import Batch, Worker
from provisioner.core.protocol.batches import Range
from provisioner.core.protocol.messages import Recall
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.records import Node

#: Commands are recalled only from a machine that would begin the last of them later than after this many seconds.
WORTH = 20.0
#: A machine keeps the commands that it begins within this many seconds, so that it has work until it gets more.
KEEPS = 15.0


def goes_on(node: Node | None, worker: Worker) -> bool:
    """Return whether the machine begins commands, now or later; one that EC2 will interrupt begins none."""
    if node is None or worker.closed_at is not None or worker.released_at is not None or worker.doubted_at is not None:
        return False
    return not (node.verdict or node.result or (node.report and (node.report.notice or node.report.finished)))


def takes(node: Node | None, worker: Worker) -> bool:
    """Return whether the machine can be given commands."""
    return node is not None and node.work_put_at is not None and goes_on(node, worker)


def at_work(node: Node) -> bool:
    """Return whether the machine can begin commands at once: its image and its start script are ready."""
    return node.report is not None and node.report.commands is not None


def answers(batches: Iterable[Batch], nodes: Mapping[str, Node]) -> dict[str, int]:
    """Return the answers to recalls that are not applied yet: how many commands of a batch its machine keeps, by id."""
    found: dict[str, int] = {}
    for batch in batches:
        node = nodes.get(batch.node)
        if _pending(batch) and node and node.report and node.report.commands:
            kept = {each.batch: each.count for each in node.report.commands.kept}
            if batch.number in kept:
                found[batch.id] = kept[batch.number]
    return found


def orders(batches: Iterable[Batch]) -> tuple[Recall, ...]:
    """Return the recalls for a machine, which has these open batches."""
    pending = (batch for batch in batches if _pending(batch))
    return tuple(Recall(batch.number, batch.spare) for batch in sorted(pending, key=lambda batch: batch.number))


def give_back(ledger: Ledger, batch: Batch, kept: int, now: float) -> None:
    """Let the commands wait that the machine gives back: all but the first `kept` of the batch.

    The ledger needs the blocks of the batch.
    """
    mine, others = _cut(batch.ranges, kept)
    stay, given = sum(count for _, count, _ in mine), 0
    for first, count, generation in others:
        # A machine that is not honest may give back a command whose end it has recorded.
        for here, several, _ in list(ledger.blocks.out(first, count, generation)):
            ledger.give_back(here, several)
            given += several
    left = batch.left - given
    ledger.put(batch, ranges=mine, left=left, kept=stay, closed_at=None if left else now)


def recall(ledger: Ledger, nodes: Mapping[str, Node], now: float) -> None:
    """Recall commands that have not begun from bad machines, and, if other machines can take them, also from others.

    The others are the machines that EC2 will interrupt, and, while machines are idle, those with much work.
    """
    free = _free(ledger, nodes)
    for batch in list(ledger.batches.values()):
        if _may_recall(batch) and ledger.workers[batch.node].doubted_at is not None:
            ledger.put(batch, recall_at=now)
    if not free:
        return
    for batch in list(ledger.batches.values()):
        if _may_recall(batch) and _is_noticed(nodes.get(batch.node)):
            ledger.put(batch, recall_at=now)
    if ledger.commands.remaining:
        return
    load = _load(ledger)
    idle = sum(load[worker.id] < worker.slots and at_work(nodes[worker.id]) for worker in free)
    idle -= sum(map(_pending, ledger.batches.values()))
    for batch, spare in _recallable(ledger, free, load)[: max(0, idle)]:
        ledger.put(batch, recall_at=now, spare=spare)


def release(ledger: Ledger, nodes: Mapping[str, Node], now: float) -> None:
    """Release the machines without commands, if none is left for them and none is recalled.

    One machine stays, to take the commands of another that may be lost. A booting machine stays while commands can be
    recalled for it: otherwise another machine would be launched for them.
    """
    if ledger.commands.remaining or any(map(_pending, ledger.batches.values())):
        return
    free, load = _free(ledger, nodes), _load(ledger)
    awaited = bool(_recallable(ledger, free, load))
    idle = [worker for worker in free if not load[worker.id] and not (awaited and not at_work(nodes[worker.id]))]
    for worker in idle[: len(free) - 1]:
        ledger.put(worker, released_at=now)


def dismiss(ledger: Ledger, now: float, *, all_machines: bool) -> None:
    """Release machines that have no commands: with `all_machines` every such machine, otherwise only the bad ones."""
    for worker in list(ledger.workers.values()):
        over = worker.released_at is not None or worker.closed_at is not None
        if (all_machines or worker.doubted_at is not None) and not over and not ledger.open_batches(worker.id):
            ledger.put(worker, released_at=now)


def _recallable(ledger: Ledger, free: Iterable[Worker], load: Mapping[str, int]) -> list[tuple[Batch, int]]:
    """Return for each machine with many commands the batch to recall, and how many of its commands to spare.

    The machine with the most work comes first.
    """
    found: list[tuple[float, Batch, int]] = []
    for worker in free:
        several = ledger.open_batches(worker.id)
        whole = [batch for batch in several if _may_recall(batch)]
        unbegun = load[worker.id] - worker.slots
        if not whole or unbegun <= 0 or any(map(_pending, several)):
            continue
        seconds = unbegun / worker.rate if worker.rate else math.inf
        if seconds > WORTH:
            last = whole[-1]
            before = max(0, load[worker.id] - last.left - worker.slots)
            found.append((-seconds, last, max(0, int(worker.rate * KEEPS) - before)))
    found.sort(key=lambda each: (each[0], each[1].id))
    return [(batch, spare) for _, batch, spare in found]


def _free(ledger: Ledger, nodes: Mapping[str, Node]) -> list[Worker]:
    """Return the workers that can be given commands."""
    return [worker for worker in ledger.workers.values() if takes(nodes.get(worker.id), worker)]


def _load(ledger: Ledger) -> dict[str, int]:
    """Return how many commands without a record each worker has, by node id."""
    return {id: sum(batch.left for batch in ledger.open_batches(id)) for id in ledger.workers}


def _is_noticed(node: Node | None) -> bool:
    """Return whether EC2 will interrupt the machine, which still reports."""
    return bool(node and node.report and node.report.notice and not node.result and not node.verdict)


def _may_recall(batch: Batch) -> bool:
    """Return whether the batch is in the mailbox and was never recalled."""
    return batch.put_at is not None and batch.recall_at is None and batch.closed_at is None


def _pending(batch: Batch) -> bool:
    """Return whether the batch was recalled and its machine has not answered."""
    return batch.recall_at is not None and batch.kept is None and batch.closed_at is None


def _cut(ranges: Iterable[Range], kept: int) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    """Return the ranges of the first `kept` commands, and those of the others."""
    mine, others = list[Range](), list[Range]()
    for first, count, generation in ranges:
        here = max(0, min(count, kept))
        kept -= here
        if here:
            mine.append((first, here, generation))
        if here < count:
            others.append((first + here, count - here, generation))
    return tuple(mine), tuple(others)
