"""The working copy of one run's list. One transaction saves all changes to it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from provisioner.core.commands.blocks import Blocks, CommandState, States, WrongChange
from provisioner.core.commands.records import Batch, Block, CommandList, RecordChunk, Worker
from provisioner.core.run.records import Live, Record

#: The counter of a list for each state; commands in the state FRESH are those from `next` on.
COUNTERS = {
    CommandState.OUT: "out",
    CommandState.WAITING: "waiting",
    CommandState.SUCCEEDED: "succeeded",
    CommandState.FAILED: "failed",
    CommandState.LOST: "lost",
    CommandState.CANCELLED: "cancelled",
    CommandState.NOT_RUN: "not_run",
}


class Ledger:
    """One run's list, workers, open batches and loaded blocks. Functions of this folder change it."""

    def __init__(
        self, commands: CommandList, workers: Iterable[Worker], batches: Iterable[Batch], blocks: Iterable[Block]
    ) -> None:
        """`workers` are all workers of the run, and `batches` all its open batches."""
        self._commands = commands
        self._counts: dict[str, int] = {
            name: getattr(commands, name) for name in (*COUNTERS.values(), "next", "retried", "repeated", "halted")
        }
        #: By node id.
        self.workers = {each.id: each for each in workers}
        #: By id. A batch that is closed in this transaction stays until it is saved.
        self.batches = {each.id: each for each in batches}
        self.blocks = Blocks(commands, blocks)
        #: Chunks of records that were recorded in this transaction.
        self.chunks: list[RecordChunk] = []
        self._known: dict[str, Record] = {commands.id: commands, **self.workers, **self.batches}
        self._sealed_at = commands.sealed_at
        #: As `CommandList.stops`; a dictionary keeps their order.
        self._stops = dict.fromkeys(commands.stops)

    @classmethod
    def of(cls, live: Live, run: str, blocks: Iterable[Block] = ()) -> "Ledger":
        """Return the ledger of a run from the live records and its loaded blocks; KeyError if it has no list."""
        found = {each.id: each for each in live.lists}[run]
        workers = (each for each in live.workers if each.run == run)
        return cls(found, workers, (each for each in live.batches if each.run == run), blocks)

    @property
    def commands(self) -> CommandList:
        """The list with the current counters."""
        changes: dict[str, Any] = {**self._counts, "sealed_at": self._sealed_at, "stops": tuple(self._stops)}
        return replace(self._commands, **changes)

    def open_batches(self, node: str) -> list[Batch]:
        """Return the open batches of a node, by number."""
        found = (each for each in self.batches.values() if each.node == node and each.closed_at is None)
        return sorted(found, key=lambda batch: batch.number)

    def hand_out(self, first: int, count: int = 1) -> None:
        """Give `count` commands from `first` on to a machine."""
        self._moved(first, self.blocks.hand_out(first, count), CommandState.OUT)

    def take_back(self, first: int, count: int = 1) -> None:
        """Return a lost machine's commands to the waiting ones; cancel those that are to be stopped."""
        for here, several in self._unstopped(first, count):
            self._moved(here, self.blocks.take_back(here, several), CommandState.WAITING)
            self._counts["retried"] += several

    def repeat(self, first: int, count: int = 1) -> None:
        """Let commands that have failed run again."""
        self._moved(first, self.blocks.repeat(first, count), CommandState.WAITING)
        self._counts["repeated"] += count

    def excuse(self, index: int) -> None:
        """Let a command whose final state is FAILED run again."""
        self._moved(index, self.blocks.excuse(index), CommandState.WAITING)
        self._counts["repeated"] += 1

    def give_back(self, first: int, count: int = 1) -> None:
        """Let commands wait that their machine has not begun and never will; cancel those that were stopped."""
        for here, several in self._unstopped(first, count):
            self._moved(here, self.blocks.give_back(here, several), CommandState.WAITING)

    def end(self, first: int, state: CommandState, count: int = 1) -> None:
        """Give `count` commands from `first` on their final state."""
        self._moved(first, self.blocks.end(first, state, count), state)
        for index in self._stopped(first, count):
            del self._stops[index]

    def stop(self, index: int) -> None:
        """Note that a command without a final state is to be stopped alone."""
        self._stops[index] = None

    def is_stopped(self, index: int) -> bool:
        """Return whether a command without a final state is to be stopped alone."""
        return index in self._stops

    def halted(self) -> None:
        """Count a cancelled command that a machine ended together with its whole work."""
        self._counts["halted"] += 1

    def put(self, item: Worker | Batch, **changes: Any) -> None:
        """Change fields of a worker or a batch."""
        kept: dict[str, Any] = self.workers if isinstance(item, Worker) else self.batches
        kept[item.id] = replace(item, **changes)

    def seal(self, now: float) -> None:
        """Note that every command has its final state."""
        if self.commands.open:
            raise WrongChange(f"the list {self._commands.id} has open commands and cannot be sealed")
        self._sealed_at = now

    def changed(self) -> list[Record]:
        """Return the new and changed records, each once."""
        found: list[Record] = [self.commands, *self.workers.values(), *self.batches.values()]
        changed = [each for each in found if self._known.get(each.id) != each]
        return [*changed, *self.blocks.changed(), *self.chunks]

    def _moved(self, first: int, before: States, state: CommandState) -> None:
        """Count commands from `first` on that have this state now; `before` has their earlier states."""
        if (fresh := before.pop(CommandState.FRESH, 0)) and (first != self._counts["next"] or before):
            raise WrongChange(f"command {first} is not the next one: {self._counts['next']}")
        for old, count in before.items():
            self._counts[COUNTERS[old]] -= count
        self._counts["next"] += fresh
        self._counts[COUNTERS[state]] += fresh + before.total()

    def _stopped(self, first: int, count: int) -> list[int]:
        """Return those of these commands that are to be stopped, sorted."""
        if count == 1:
            return [first] if first in self._stops else []
        return sorted(index for index in self._stops if first <= index < first + count)

    def _unstopped(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Cancel those of these commands that are to be stopped, and return the others as ranges."""
        here, after = first, first + count
        for stop in self._stopped(first, count):
            if here < stop:
                yield here, stop - here
            self.end(stop, CommandState.CANCELLED)
            here = stop + 1
        if here < after:
            yield here, after - here
