"""Record the ends of commands from the stream `records` of a machine.

A machine is not trusted: a line counts only if it is about a command that this machine has now. So a line that comes
twice, or after its command was taken back, changes nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from provisioner.core.commands.blocks import CommandState
from provisioner.core.commands.records import Batch, CommandList, RecordChunk, Worker
from provisioner.core.protocol.batches import Range
from provisioner.core.protocol.command_lines import LINE_MOST, CommandEnd, read_ends
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists import doubting
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.lists.repeating import repeats

#: Maximum number of bytes of a chunk of the stream: the agent closes a segment that exceeds 1 MiB, and the lines of one
#: end have at most 0.5 MiB.
RECORDS_MOST = 2 << 20
#: After this many lines of a chunk that do not count, its other lines are not read: only a hostile machine writes them.
WASTE_MOST = 1000
#: Why a command was ended, if it counts as cancelled.
CANCELS = frozenset({"stop", "cancel", "skip"})
#: The options of a list without `retries`.
NO_RETRIES = ListOptions()
#: Seconds of a machine's work over which its rate is averaged.
AVERAGED = 60.0
#: Minimum seconds that a command counts as occupying its slot, while few have ended: the gap between two commands
#: is longer than a short command.
SHORTEST = 0.02


@dataclass(frozen=True)
class Taken:
    """What `take_records` found in a chunk."""

    #: Number of ends that were recorded, and of ends that no longer or never belonged to the machine.
    recorded: int = 0
    dropped: int = 0
    #: Number of lines that could not be read, and the reason of the first one.
    unreadable: int = 0
    why: str = ""


def blocks_of(commands: CommandList, ranges: Iterable[Range]) -> set[int]:
    """Return the numbers of the blocks with commands of these ranges."""
    size = commands.block_size
    return {number for first, count, _ in ranges for number in range(first // size, (first + count - 1) // size + 1)}


def take_records(
    ledger: Ledger, node: str, offset: int, data: bytes, now: float, options: ListOptions = NO_RETRIES
) -> Taken:
    """Record the ends in the chunk of a node's stream that begins at byte `offset`; `node` is the node's id.

    Commands that failed wait to run again as `options` say, so pass NO_RETRIES once no command begins any more.

    The ledger needs the blocks of the node's open batches (see `blocks_of`). A chunk that is not the next one of the
    stream changes nothing: if `offset` is less than the worker's `records_read`, it was recorded before.
    """
    worker = ledger.workers[node]
    if offset != worker.records_read or worker.closed_at is not None or not data:
        return Taken()
    whole, newline, rest = (worker.rest.encode("latin-1") + data).rpartition(b"\n")
    taken, ends, took, failed, why = Counter[str](), dict[int, CommandState](), 0.0, 0, ""
    skipped, began, ended = 0, math.inf, -math.inf
    streak, before, fresh = worker.streak, worker.succeeded_before, list[tuple[int, int]]()
    batches = {batch.number: batch for batch in ledger.open_batches(node)}
    if len(rest) >= LINE_MOST:
        taken["unreadable"], why, rest = 1, f"a line of more than {LINE_MOST} bytes", b""
    left: Counter[int] = Counter()
    for end in read_ends(whole + newline):
        if taken["unreadable"] + taken["dropped"] > WASTE_MOST:
            break
        if isinstance(end, str):
            taken["unreadable"] += 1
            why = why or end
        elif end.index in ends or not _belongs(ledger, batches.get(end.batch), end):
            taken["dropped"] += 1
        else:
            state = ends[end.index] = _state(end)
            if state is CommandState.FAILED and repeats(ledger, end, options):
                ends[end.index] = CommandState.WAITING
            if end.why == "stop":
                ledger.halted()
            skipped += end.why == "skip"
            left[end.batch] += 1
            took += end.took
            if end.why != "skip":
                began, ended = min(began, end.began), max(ended, end.began + end.took)
            failed += state is CommandState.FAILED
            if state is CommandState.SUCCEEDED:
                streak, fresh = (), []
            elif state is CommandState.FAILED and doubting.counts(ledger, end.index):
                fresh.append((end.index, end.generation))
    taken["recorded"] = len(ends)
    for first, count, state in _ranges(ends):
        if state is CommandState.WAITING:
            ledger.repeat(first, count)
        else:
            ledger.end(first, state, count)
    if fresh:
        before = before if streak else ledger.commands.succeeded
        streak = doubting.extended(streak, fresh)
    for number, count in left.items():
        batch = batches[number]
        over = now if batch.left == count else None
        ledger.put(batch, left=batch.left - count, closed_at=over)
    rate, rated = _rate(worker, len(ends) - skipped, took, ended - began)
    ledger.put(
        worker,
        records_read=offset + len(data),
        rest=rest.decode("latin-1"),
        ended=worker.ended + len(ends),
        failed=worker.failed + failed,
        rate=rate,
        rated=rated,
        streak=streak,
        succeeded_before=before,
    )
    chunk = RecordChunk(
        f"{node}.{offset:015d}",
        worker.run,
        worker.attempt,
        worker.rank,
        offset,
        len(data),
        min(ends, default=0),
        max(ends, default=-1),
        worker.rest,
    )
    ledger.chunks.append(chunk)
    return Taken(**taken, why=why)


def _ranges(ends: Mapping[int, CommandState]) -> Iterator[tuple[int, int, CommandState]]:
    """Return the first index and the number of commands that follow each other and have the same state."""
    indices, begin = sorted(ends), 0
    for at, index in enumerate(indices, 1):
        if ends.get(index + 1) is not ends[index]:
            yield indices[begin], at - begin, ends[index]
            begin = at


def _belongs(ledger: Ledger, batch: Batch | None, end: CommandEnd) -> bool:
    """Return whether the machine has this command now, in this generation."""
    if batch is None:
        return False
    if not any(first <= end.index < first + count for first, count, _ in batch.ranges):
        return False
    return ledger.blocks.is_out(end.index, end.generation)


def _state(end: CommandEnd) -> CommandState:
    if end.why in CANCELS:
        return CommandState.CANCELLED
    return CommandState.SUCCEEDED if end.code == 0 and not end.why else CommandState.FAILED


def _rate(worker: Worker, count: int, took: float, span: float) -> tuple[float, float]:
    """Return the commands a second that a machine runs, and the seconds that this is measured over.

    `count` more commands have ended. `took` is the sum of their durations in seconds; `span` is the seconds from the
    begin of the first to the end of the last.
    """
    if not count:
        return worker.rate, worker.rated
    # Whatever the machine's clock says, all of this is longer than nothing. Few commands may have left slots unused.
    busy = max(took / worker.slots, span) if count > 4 * worker.slots else max(took, count * SHORTEST) / worker.slots
    busy = max(busy, count / 1000 / worker.slots)
    rate = (worker.rate * worker.rated + count) / (worker.rated + busy)
    return rate, min(AVERAGED, worker.rated + busy)
