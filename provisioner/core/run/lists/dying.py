"""Find the commands that a machine may have been running when it died, because one of them may have killed it.

A command is lost if it may have been running on DEATHS_MOST machines that died without notice. After ALONE_AFTER such
deaths it runs alone on its machine: otherwise the next death could lose the commands in other slots, too.
"""

from provisioner.core.cloud.machines import Ending
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import Assignment, Node, Run
from provisioner.core.run.verdicts import may_have_begun

#: Number of deaths of machines after which a command is lost, and after which it runs alone.
DEATHS_MOST = 3
ALONE_AFTER = DEATHS_MOST - 1
#: Maximum number of seconds, with a margin, from a command's end until its record is in the bucket: on a machine that
#: ends many commands a second, and on others.
RECORDED_SELDOM, RECORDED_OFTEN, BRISK = 60.0, 4.0, 10.0


def died(held: Assignment, run: Run) -> bool:
    """Return whether a machine that is over has died while it ran commands, without notice and without an order.

    An agent that gives up, for example because a command has filled the disk, counts as well.
    """
    node, result = held.node, held.node.result
    if stop_of(run) or held.machine.ending is Ending.INTERRUPTED or (node.report and node.report.notice):
        return False
    if result is not None:
        return result.outcome is Outcome.LOST and result.step is Step.COMMAND and result.notice is None
    return may_have_begun(node)


def suspects(ledger: Ledger, node: Node) -> frozenset[int]:
    """Return the commands without a record that a machine may have been running at its end.

    These are those of its last report, and the first ones in its order: it may have begun some since that report.
    """
    first = _given(ledger, node.id)[: ledger.workers[node.id].slots]
    return running(ledger, node).union(index for index, _ in first)


def running(ledger: Ledger, node: Node) -> frozenset[int]:
    """Return the commands without a record that ran at the machine's last report."""
    found = node.report.commands if node.report else None
    if found is None:
        return frozenset()
    told = {(each.index, each.generation) for each in found.running}
    return frozenset(index for index, generation in _given(ledger, node.id) if (index, generation) in told)


def begun(ledger: Ledger, node: Node) -> frozenset[int]:
    """Return the commands without a record that a machine that is over had begun, or had probably begun.

    A machine begins its commands in their order, and its report has the number of commands that have not begun. A
    machine without a result has probably begun more: the commands that ended in its last seconds, before their records
    were in the bucket, and after them one command for each slot.
    """
    if not may_have_begun(node):
        return frozenset()
    worker, given, count = ledger.workers[node.id], _given(ledger, node.id), 0
    if node.report and (found := node.report.commands):
        unread = sum(batch.left for batch in ledger.open_batches(node.id) if batch.number > found.batches)
        count = max(0, len(given) - unread - found.waiting)
    if node.result is None:
        unrecorded = worker.rate * (RECORDED_SELDOM if worker.rate >= BRISK else RECORDED_OFTEN)
        count = max(count, worker.slots + int(unrecorded))
    return frozenset(index for index, _ in given[:count])


def _given(ledger: Ledger, node: str) -> list[tuple[int, int]]:
    """Return index and generation of the commands of a node that have no record, in the order in which it has them."""
    return [
        (index, generation)
        for batch in ledger.open_batches(node)
        for first, count, generation in batch.ranges
        for here, several, _ in ledger.blocks.out(first, count, generation)
        for index in range(here, here + several)
    ]
