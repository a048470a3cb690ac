"""The states and generations of a list's commands, in blocks that one transaction loads and saves."""

import re
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from itertools import groupby
from typing import Any

from provisioner.core.commands.records import Block, CommandList
from provisioner.core.errors import ProvisionError
from provisioner.core.protocol.batches import Range


class CommandState(IntEnum):
    """The state of one command of a list; the value is its byte in a block."""

    #: It was never handed out.
    FRESH = 0
    #: A machine has it, and its end is not recorded.
    OUT = 1
    #: It is handed out again: its machine was lost or gave it back, or it failed and is to run again.
    WAITING = 2
    SUCCEEDED = 3
    FAILED = 4
    #: It ran when its machine was lost, and does not run again.
    LOST = 5
    #: It was ended by the order to stop the run, or to stop this command.
    CANCELLED = 6
    #: The run ended before it began, or before it began again after its machine was lost.
    NOT_RUN = 7


FRESH, OUT, WAITING, NOT_RUN = CommandState.FRESH, CommandState.OUT, CommandState.WAITING, CommandState.NOT_RUN
CANCELLED = CommandState.CANCELLED
#: All transitions. A final state never changes, but for `Blocks.excuse`.
EDGES = frozenset(
    [(FRESH, OUT), (WAITING, OUT), (OUT, WAITING), (WAITING, CommandState.FAILED)]
    + [(unbegun, end) for unbegun in (FRESH, WAITING) for end in (NOT_RUN, CANCELLED)]
    + [(OUT, end) for end in (CommandState.SUCCEEDED, CommandState.FAILED, CommandState.LOST, CANCELLED)]
)
FINAL = frozenset(CommandState) - {FRESH, OUT, WAITING}
#: A generation is one byte, as is a count.
GENERATION_MOST = 255
#: Tables for `bytes.translate`: the generation of a command that is handed out, and that of one that is to run again.
FIRST_GENERATION = bytes([1, *range(1, 256)])
NEXT_GENERATION = bytes([*range(1, 256), GENERATION_MOST])

#: Numbers of commands, by state.
States = Counter[CommandState]


class Count(StrEnum):
    """A number that a block has for each of its commands; the value is the block's field."""

    #: How often the command failed and was to run again because of `list.retries`.
    FAILURES = "failures"
    #: How many machines died without notice while they may have been running the command.
    DEATHS = "deaths"
    #: 1 if the command was to run again because the machine on which it failed was bad.
    EXCUSED = "excused"


class WrongChange(ProvisionError):
    """A bug: a command would get a state that it cannot get from its present one."""


@dataclass
class _Opened:
    """A block while it is changed."""

    states: bytearray
    generations: bytearray
    #: Only those that are not 0 for all commands.
    counts: dict[Count, bytearray]


class Blocks:
    """Some blocks of one list, loaded for one transaction.

    A block that was not loaded may be used only if none of its commands was ever handed out or sealed: then it is made.
    Otherwise every use of it raises KeyError.
    """

    def __init__(self, commands: CommandList, stored: Iterable[Block]) -> None:
        self._commands = commands
        self._stored = {block.number: block for block in stored}
        self._opened: dict[int, _Opened] = {}
        self._changed: set[int] = set()

    def number(self, index: int) -> int:
        """Return the number of the block of a command."""
        return index // self._commands.block_size

    @property
    def numbers(self) -> list[int]:
        """The numbers of the loaded blocks, sorted."""
        return sorted(self._stored)

    def state(self, index: int) -> CommandState:
        opened, place = self._at(index)
        return CommandState(opened.states[place])

    def generation(self, index: int) -> int:
        """Return the generation of a command: 0 before it is first handed out, then 1; one more for each repetition."""
        opened, place = self._at(index)
        return opened.generations[place]

    def count(self, index: int, name: Count) -> int:
        opened, place = self._at(index)
        return opened.counts[name][place] if name in opened.counts else 0

    def add(self, first: int, name: Count, count: int = 1) -> None:
        """Add 1 to a count of `count` commands from `first` on."""
        for opened, begin, end, offset in self._pieces(first, count):
            numbers = opened.counts.setdefault(name, bytearray(len(opened.states)))
            numbers[begin:end] = numbers[begin:end].translate(NEXT_GENERATION)
            self._changed.add(self.number(offset))

    def by_count(self, first: int, count: int, *names: Count, least: int = 1) -> Iterator[tuple[int, int, bool]]:
        """Return commands of one block as ranges, each with whether one of these counts is `least` or more."""
        opened, place = self._at(first)
        known = [opened.counts[name] for name in names if name in opened.counts]
        marks = [any(numbers[at] >= least for numbers in known) for at in range(place, place + count if known else 0)]
        if not known:
            yield first, count, False
        for mark, group in groupby(enumerate(marks), key=lambda each: each[1]):
            several = [at for at, _ in group]
            yield first + several[0], len(several), mark

    def is_out(self, index: int, generation: int) -> bool:
        """Return whether a machine has the command in this generation, and its end is not recorded."""
        opened, place = self._at(index)
        return opened.states[place] == OUT and opened.generations[place] == generation

    def out(self, first: int, count: int, generation: int) -> Iterator[Range]:
        """Return those of `count` commands from `first` on for which `is_out` is true, as ranges."""
        for opened, begin, end, before in self._pieces(first, count):
            for here, after, found in _runs(opened, OUT, begin, end):
                if found == generation:
                    yield before + here, after - here, generation

    def hand_out(self, first: int, count: int = 1) -> States:
        """Give `count` commands from `first` on to a machine; return their states before, counted."""
        # A command that is taken back has its next generation already.
        return self._change(first, count, OUT, FIRST_GENERATION)

    def take_back(self, first: int, count: int = 1) -> States:
        """Take commands back from a lost machine, which may have begun them: each gets its next generation."""
        return self._change(first, count, WAITING, NEXT_GENERATION)

    def repeat(self, first: int, count: int = 1) -> States:
        """Let commands that have failed run again: each gets its next generation."""
        self.add(first, Count.FAILURES, count)
        return self._change(first, count, WAITING, NEXT_GENERATION)

    def may_be_excused(self, index: int, generation: int) -> bool:
        """Return whether the command has failed for good in this generation, and may run again once."""
        opened, place = self._at(index)
        same = opened.states[place] == CommandState.FAILED and opened.generations[place] == generation
        return same and generation < GENERATION_MOST and not self.count(index, Count.EXCUSED)

    def excuse(self, index: int) -> States:
        """Let a command whose final state is FAILED run again, once: the machine on which it failed was bad."""
        if self.count(index, Count.EXCUSED):
            raise WrongChange(f"command {index} was excused before")
        before = self._change(index, 1, WAITING, NEXT_GENERATION, {(CommandState.FAILED, WAITING)})
        self.add(index, Count.EXCUSED)
        return before

    def give_back(self, first: int, count: int = 1) -> States:
        """Take commands back from a machine that has not begun them and never will: they keep their generations."""
        return self._change(first, count, WAITING)

    def end(self, first: int, state: CommandState, count: int = 1) -> States:
        """Give commands their final state."""
        if state not in FINAL:
            raise WrongChange(f"{state.name} is not a final state")
        return self._change(first, count, state)

    def runs_of(self, number: int, state: CommandState) -> Iterator[Range]:
        """Return the commands of a block in this state, as ranges of one generation each."""
        opened, first = self._open(number), number * self._commands.block_size
        for begin, end, generation in _runs(opened, state, 0, len(opened.states)):
            yield first + begin, end - begin, generation

    def changed(self) -> list[Block]:
        """Return the changed blocks, to be saved."""
        run, found = self._commands.id, list[Block]()
        for number in sorted(self._changed):
            opened = self._opened[number]
            block = self._stored.get(number) or Block(f"{run}.{number:06d}", run, number, b"", b"")
            states, generations = zlib.compress(opened.states), zlib.compress(opened.generations)
            waiting = opened.states.count(WAITING)
            counts: dict[str, Any] = {name: zlib.compress(numbers) for name, numbers in opened.counts.items()}
            found.append(replace(block, states=states, generations=generations, waiting=waiting, **counts))
        return found

    def _change(
        self,
        first: int,
        count: int,
        state: CommandState,
        generations: bytes | None = None,
        edges: Container[tuple[CommandState, CommandState]] = EDGES,
    ) -> States:
        """Set the state of commands, and translate their generations with this table."""
        before = States()
        for opened, begin, end, offset in self._pieces(first, count):
            states = opened.states[begin:end]
            for value in set(states):
                old = CommandState(value)
                if (old, state) not in edges:
                    index = offset + begin + states.index(value)
                    raise WrongChange(f"command {index} cannot go from {old.name} to {state.name}")
                before[old] += states.count(value)
            if generations is not None:
                known = opened.generations[begin:end]
                if generations is NEXT_GENERATION and GENERATION_MOST in known:
                    index = offset + begin + known.index(GENERATION_MOST)
                    raise WrongChange(f"command {index} was to run {GENERATION_MOST} times")
                opened.generations[begin:end] = known.translate(generations)
            opened.states[begin:end] = bytes([state]) * (end - begin)
            self._changed.add(self.number(offset))
        return before

    def _pieces(self, first: int, count: int) -> Iterator[tuple[_Opened, int, int, int]]:
        """Return the blocks of these commands: the block, the places in it from and to, and its first index."""
        if not 0 <= first <= first + count <= self._commands.total:
            raise KeyError(f"the list has no commands {first} to {first + count - 1}")
        size, after = self._commands.block_size, first + count
        while first < after:
            offset = first - first % size
            end = min(after, offset + size)
            yield self._open(first // size), first - offset, end - offset, offset
            first = end

    def _at(self, index: int) -> tuple[_Opened, int]:
        if not 0 <= index < self._commands.total:
            raise KeyError(f"the list has no command {index}")
        number, place = divmod(index, self._commands.block_size)
        return self._open(number), place

    def _open(self, number: int) -> _Opened:
        if number not in self._opened:
            first = number * self._commands.block_size
            counts: dict[Count, bytearray] = {}
            if block := self._stored.get(number):
                states, generations = zlib.decompress(block.states), zlib.decompress(block.generations)
                counts = {name: bytearray(zlib.decompress(found)) for name in Count if (found := getattr(block, name))}
            elif self._commands.next <= first < self._commands.total:
                states = generations = bytes(min(self._commands.block_size, self._commands.total - first))
            else:
                raise KeyError(f"block {number} of list {self._commands.id} was not loaded")
            self._opened[number] = _Opened(bytearray(states), bytearray(generations), counts)
        return self._opened[number]


#: Equal bytes that follow each other.
_SAME = re.compile(rb"(.)\1*", re.DOTALL)


def _runs(opened: _Opened, state: CommandState, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Return the places from and to of commands in this state that have one generation, and that generation."""
    for several in re.compile(re.escape(bytes([state])) + b"+").finditer(opened.states, begin, end):
        for same in _SAME.finditer(opened.generations, *several.span()):
            yield *same.span(), same[1][0]
