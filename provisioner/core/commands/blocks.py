"""The states and generations of a list's commands, in blocks that one transaction loads and saves."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from provisioner.core.commands.records import Block, CommandList
from provisioner.core.errors import ProvisionError
from provisioner.core.protocol.batches import Range


class CommandState(IntEnum):
    """The state of one command of a list; the value is its byte in a block."""

    #: It was never handed out.
    FRESH = 0
    #: A machine has it, and its end is not recorded.
    OUT = 1
    #: It is handed out again, because its machine was lost, or gave it back.
    WAITING = 2
    SUCCEEDED = 3
    FAILED = 4
    #: It ran when its machine was lost, and the run ended before it could run again.
    LOST = 5
    #: It was ended by the order to stop the run, or to stop this command.
    CANCELLED = 6
    #: The run ended before it began.
    NOT_RUN = 7


FRESH, OUT, WAITING, NOT_RUN = CommandState.FRESH, CommandState.OUT, CommandState.WAITING, CommandState.NOT_RUN
CANCELLED = CommandState.CANCELLED
#: All transitions. A final state never changes.
EDGES = frozenset(
    [(FRESH, OUT), (WAITING, OUT), (OUT, WAITING)]
    + [(unbegun, end) for unbegun in (FRESH, WAITING) for end in (NOT_RUN, CANCELLED)]
    + [(OUT, end) for end in (CommandState.SUCCEEDED, CommandState.FAILED, CommandState.LOST, CANCELLED)]
)
FINAL = frozenset(CommandState) - {FRESH, OUT, WAITING}
#: A generation is one byte.
GENERATION_MOST = 255


class WrongChange(ProvisionError):
    """A bug: a command would get a state that it cannot get from its present one."""


@dataclass
class _Opened:
    """A block while it is changed."""

    states: bytearray
    generations: bytearray


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
        """Return the generation of a command: 0 before it is first handed out, then 1; one more after each loss."""
        opened, place = self._at(index)
        return opened.generations[place]

    def is_out(self, index: int, generation: int) -> bool:
        """Return whether a machine has the command in this generation, and its end is not recorded."""
        opened, place = self._at(index)
        return opened.states[place] == OUT and opened.generations[place] == generation

    def hand_out(self, index: int) -> int:
        """Give a command to a machine; return its generation."""
        opened, place = self._set(index, OUT)
        # A command that is taken back has its next generation already.
        opened.generations[place] = opened.generations[place] or 1
        return opened.generations[place]

    def take_back(self, index: int) -> None:
        """Take a command back from a lost machine, which may have begun it: it gets its next generation."""
        if self.generation(index) >= GENERATION_MOST:
            raise WrongChange(f"command {index} was taken back {GENERATION_MOST} times")
        opened, place = self._set(index, WAITING)
        opened.generations[place] += 1

    def give_back(self, index: int) -> None:
        """Take a command back from a machine that has not begun it and never will: it keeps its generation."""
        self._set(index, WAITING)

    def end(self, index: int, state: CommandState) -> None:
        """Give a command its final state."""
        if state not in FINAL:
            raise WrongChange(f"{state.name} is not a final state")
        self._set(index, state)

    def runs_of(self, number: int, state: CommandState) -> Iterator[Range]:
        """Return the commands of a block in this state, as ranges of one generation each."""
        opened, first = self._open(number), number * self._commands.block_size
        here, wanted = 0, bytes([state])
        while (begin := opened.states.find(wanted, here)) >= 0:
            generation, here = opened.generations[begin], begin
            while here < len(opened.states) and (opened.states[here], opened.generations[here]) == (state, generation):
                here += 1
            yield first + begin, here - begin, generation

    def changed(self) -> list[Block]:
        """Return the changed blocks, to be saved."""
        run, found = self._commands.id, list[Block]()
        for number in sorted(self._changed):
            opened = self._opened[number]
            block = self._stored.get(number) or Block(f"{run}.{number:06d}", run, number, b"", b"")
            states, generations = zlib.compress(opened.states), zlib.compress(opened.generations)
            waiting = opened.states.count(WAITING)
            found.append(replace(block, states=states, generations=generations, waiting=waiting))
        return found

    def _set(self, index: int, state: CommandState) -> tuple[_Opened, int]:
        opened, place = self._at(index)
        old = CommandState(opened.states[place])
        if (old, state) not in EDGES:
            raise WrongChange(f"command {index} cannot go from {old.name} to {state.name}")
        opened.states[place] = state
        self._changed.add(self.number(index))
        return opened, place

    def _at(self, index: int) -> tuple[_Opened, int]:
        if not 0 <= index < self._commands.total:
            raise KeyError(f"the list has no command {index}")
        number, place = divmod(index, self._commands.block_size)
        return self._open(number), place

    def _open(self, number: int) -> _Opened:
        if number not in self._opened:
            first = number * self._commands.block_size
            if block := self._stored.get(number):
                states, generations = zlib.decompress(block.states), zlib.decompress(block.generations)
            elif self._commands.next <= first < self._commands.total:
                states = generations = bytes(min(self._commands.block_size, self._commands.total - first))
            else:
                raise KeyError(f"block {number} of list {self._commands.id} was not loaded")
            self._opened[number] = _Opened(bytearray(states), bytearray(generations))
        return self._opened[number]
