"""Find bad machines: those on which every command fails, while those of other machines succeed.

A bad machine gets no more commands, and those that failed on it run once more elsewhere, outside `list.retries`.
"""

from collections.abc import Collection, Iterable
from itertools import groupby

from provisioner.core.commands.blocks import Count
from provisioner.core.commands.records import Worker
from provisioner.core.protocol.batches import Range
from provisioner.core.run.lists.ledger import Ledger

#: Number of different commands that fail in a row on a bad machine.
ENOUGH = 20
#: Maximum number of ranges of failed commands that a worker has; the commands of older ranges do not run again.
RANGES_MOST = 200


def counts(ledger: Ledger, index: int) -> bool:
    """Return whether the failure of a command speaks against its machine: not if the command has failed before."""
    return not any(ledger.blocks.count(index, name) for name in (Count.FAILURES, Count.EXCUSED))


def extended(streak: Iterable[Range], failed: Iterable[tuple[int, int]]) -> tuple[Range, ...]:
    """Return the ranges with further commands, given as (index, generation)."""
    several = sorted((generation, index) for index, generation in failed)
    found = list(streak)
    for _, group in groupby(enumerate(several), key=lambda each: (each[1][0], each[1][1] - each[0])):
        same = [each for _, each in group]
        found.append((same[0][1], len(same), same[0][0]))
    return tuple(found[-RANGES_MOST:])


def length(worker: Worker) -> int:
    """Return how many different commands have failed on the machine since the last that succeeded."""
    return sum(count for _, count, _ in worker.streak)


def is_suspect(worker: Worker, others: Iterable[Worker]) -> bool:
    """Return whether a machine's latest commands all failed, but not, as far as is known, those of all `others`.

    Give such a machine few commands: a bad machine may be the fastest, and would take most of the list.
    """
    return _only_fails(worker) and not all(_only_fails(other) for other in others)


def _only_fails(worker: Worker) -> bool:
    return bool(worker.streak) and (worker.failed == worker.ended or length(worker) >= ENOUGH)


def to_load(workers: Iterable[Worker], reading: Collection[str]) -> list[Range]:
    """Return the failed commands whose blocks `judge` needs; `reading` are the nodes whose records are being read."""
    several = (each for each in workers if each.id in reading or length(each) >= ENOUGH)
    return [each for worker in several for each in worker.streak]


def judge(ledger: Ledger, now: float) -> list[Worker]:
    """Let the commands that failed on bad machines run again, once for each command; return the new bad machines.

    The ledger needs the blocks of `to_load`, and those of the open batches of the nodes whose records were read.
    """
    found = []
    for worker in list(ledger.workers.values()):
        known = worker.doubted_at is not None
        if not known and (length(worker) < ENOUGH or ledger.commands.succeeded <= worker.succeeded_before):
            continue
        for first, count, generation in worker.streak:
            for index in range(first, first + count):
                if ledger.blocks.may_be_excused(index, generation):
                    ledger.excuse(index)
        if not known:
            found.append(worker)
        if worker.streak or not known:
            ledger.put(worker, doubted_at=worker.doubted_at or now, streak=())
    return found
