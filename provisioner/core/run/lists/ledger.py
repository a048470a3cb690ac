"""The working copy of one run's list. One transaction saves all changes to it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from provisioner.core.commands.blocks import Blocks, CommandState, WrongChange
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
            name: getattr(commands, name) for name in (*COUNTERS.values(), "next", "retried", "halted")
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

    def hand_out(self, index: int) -> int:
        """Give a command to a machine; return its generation."""
        self._count(index, CommandState.OUT)
        return self.blocks.hand_out(index)

    def take_back(self, index: int) -> None:
        """Return a lost machine's command to the waiting ones; cancel it if it is to be stopped."""
        if index in self._stops:
            self.end(index, CommandState.CANCELLED)
            return
        self._count(index, CommandState.WAITING)
        self._counts["retried"] += 1
        self.blocks.take_back(index)

    def give_back(self, index: int) -> None:
        """Let a command wait that its machine has not begun and never will; cancel it if it was stopped."""
        if index in self._stops:
            self.end(index, CommandState.CANCELLED)
            return
        self._count(index, CommandState.WAITING)
        self.blocks.give_back(index)

    def end(self, index: int, state: CommandState) -> None:
        """Give a command its final state."""
        self._count(index, state)
        self.blocks.end(index, state)
        self._stops.pop(index, None)

    def stop(self, index: int) -> None:
        """Note that a command without a final state is to be stopped alone."""
        self._stops[index] = None

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

    def _count(self, index: int, state: CommandState) -> None:
        old = self.blocks.state(index)
        if old in COUNTERS:
            self._counts[COUNTERS[old]] -= 1
        elif index != self._counts["next"]:
            raise WrongChange(f"command {index} is not the next one: {self._counts['next']}")
        else:
            self._counts["next"] += 1
        self._counts[COUNTERS[state]] += 1
