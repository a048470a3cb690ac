"""The records of one list run, kept between transactions as the store keeps them."""

from collections import Counter
from dataclasses import replace
from typing import Any

from provisioner.core.commands.blocks import FINAL, Blocks, CommandState, Count
from provisioner.core.commands.records import Batch, Block, CommandList, RecordChunk, Worker
from provisioner.core.protocol.batches import Range
from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.run.lists.handing import hand_out
from provisioner.core.run.lists.ledger import COUNTERS, Ledger

#: Small blocks, so that a short list has several.
BLOCK_SIZE = 5
NODE = "r1.1.0"


def a_list(total: int = 12, **fields: Any) -> CommandList:
    return CommandList("r1", total, block_size=BLOCK_SIZE, **fields)


def worker(id: str = NODE, slots: int = 2, **fields: Any) -> Worker:
    run, attempt, rank = id.split(".")
    return replace(Worker(id, run, f"A:{id}", int(attempt), int(rank), slots), **fields)


def batch(*ranges: Range, node: str = NODE, number: int = 1, **fields: Any) -> Batch:
    count = sum(several for _, several, _ in ranges)
    return replace(Batch(f"{node}.{number}", "r1", node, f"A:{node}", number, ranges, count), **fields)


def line(index: int, code: int = 0, *, generation: int = 1, number: int = 1, took: float = 1.0, why: str = "") -> bytes:
    """Return the line about the end of a command."""
    return write_end(CommandEnd(number, index, generation, 5.0, took, code, why))


class Kept:
    """All records of one list run. Raises AssertionError if a transaction saves records that contradict each other."""

    def __init__(self, commands: CommandList) -> None:
        self.commands = commands
        self.workers: dict[str, Worker] = {}
        self.batches: dict[str, Batch] = {}
        self.blocks: dict[str, Block] = {}
        self.chunks: dict[str, RecordChunk] = {}

    def ledger(self) -> Ledger:
        """Return the working copy of all records."""
        out = [each for each in self.batches.values() if each.closed_at is None]
        return Ledger(self.commands, self.workers.values(), out, self.blocks.values())

    def add(self, *workers: Worker) -> None:
        self.workers |= {each.id: each for each in workers}

    def save(self, ledger: Ledger) -> None:
        """Save what a transaction changed, and check the counters and the final states."""
        before, excused = self.states(), self.excused()
        for each in ledger.changed():
            match each:
                case CommandList():
                    self.commands = each
                case Worker():
                    self.workers[each.id] = each
                case Batch():
                    self.batches[each.id] = each
                case Block():
                    self.blocks[each.id] = each
                case RecordChunk():
                    assert each.id not in self.chunks, "a chunk is recorded once"
                    self.chunks[each.id] = each
                case _:
                    raise AssertionError(f"{each} is no record of a list")
        after = self.states()
        changed = {index for index, old in enumerate(before) if old is not after[index] and old in FINAL}
        assert changed <= self.excused() - excused, "a final state changes only if its machine was bad, and once"
        self.check()

    def states(self) -> list[CommandState]:
        blocks = self.loaded()
        return [blocks.state(index) for index in range(self.commands.total)]

    def excused(self) -> set[int]:
        blocks = self.loaded()
        return {index for index in range(self.commands.total) if blocks.count(index, Count.EXCUSED)}

    def generation(self, index: int) -> int:
        return self.loaded().generation(index)

    def loaded(self) -> Blocks:
        return Blocks(self.commands, self.blocks.values())

    def check(self) -> None:
        """Check that the counters are those of the blocks and of the open batches."""
        commands, counted = self.commands, Counter(self.states())
        assert {name: getattr(commands, name) for name in COUNTERS.values()} == {
            name: counted[state] for state, name in COUNTERS.items()
        }
        assert all(state is not CommandState.FRESH for state in self.states()[: commands.next])
        assert commands.total - commands.next + commands.waiting + commands.out == commands.open
        out = [each for each in self.batches.values() if each.closed_at is None]
        assert sum(each.left for each in out) == commands.out
        assert all(each.left for each in out), "a batch without commands is closed"
        assert all(each.left == 0 for each in self.batches.values() if each.closed_at is not None)
        assert commands.sealed_at is None or commands.open == 0


def handed_out(total: int, *sizes: int, slots: int = 2) -> Kept:
    """Return a list whose first node has got batches of these sizes."""
    kept = Kept(a_list(total))
    kept.add(worker(slots=slots))
    for size in sizes:
        ledger = kept.ledger()
        hand_out(ledger, {NODE: size})
        kept.save(ledger)
    return kept
