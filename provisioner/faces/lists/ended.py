"""Find the commands of a list that have ended, while it runs."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from provisioner.core.views.commands import OPEN, Command, CommandState
from provisioner.core.views.run import Run
from provisioner.ports.control.control import Control
from provisioner.ports.control.lists import PAGE, CommandFilter, every

FINAL = tuple(state for state in CommandState if state not in OPEN)
#: Ranges of ended commands with fewer indices between them are read together.
APART = 16


def ended(
    control: Control, run: Run, told: Callable[[Sequence[str]], None], *, in_order: bool = False
) -> Iterator[Command]:
    """Yield each command of a run's list when it has its final state: as they end, or in their order.

    Makes passes if no daemon does; `told` is called with their errors.
    """
    found = _Ended(control, run, told)
    return found.in_order() if in_order else found.as_they_end()


class _Ended:
    def __init__(self, control: Control, run: Run, told: Callable[[Sequence[str]], None]) -> None:
        self._control = control
        self._run = run.id
        self._told = told
        self._total = run.commands.total if run.commands else 0
        #: Number of ended commands, when they were last counted.
        self._ended = 0

    def in_order(self) -> Iterator[Command]:
        after = -1
        while after + 1 < self._total:
            limit = 1
            while limit:
                which = CommandFilter(after=after, limit=limit)
                page = list(islice(every(self._control.commands, self._run, which), limit))
                ready = [each for each in page if each.state not in OPEN]
                ready = [each for at, each in enumerate(ready) if each.index == after + 1 + at]
                for each in ready:
                    after = each.index
                    yield each
                # One command shows whether there is something to read.
                limit = PAGE if page and len(ready) == len(page) else 0
            if after + 1 < self._total:
                self._wait(self._ended + 1)

    def as_they_end(self) -> Iterator[Command]:
        seen, count = bytearray(self._total), 0
        while count < self._total:
            self._wait(count + 1)
            for first, end, expected in self._unseen(seen, self._ended - count):
                which = CommandFilter(FINAL, first - 1, min(PAGE, expected))
                for each in islice(every(self._control.commands, self._run, which), expected):
                    if each.index < end and not seen[each.index]:
                        seen[each.index] = 1
                        count += 1
                        yield each

    def _unseen(self, seen: bytearray, wanted: int) -> list[tuple[int, int, int]]:
        """Return ranges with at least `wanted` ended commands that are not in `seen`.

        Each range has the first index, the index after the last, and the number of ended commands. This method lists
        only the commands that have not ended. Listing an ended command also reads its record from the bucket, which
        takes longer, so each ended command should be listed only once.
        """
        found, at, between = list[tuple[int, int, int]](), max(0, seen.find(0)), 0
        left = every(self._control.commands, self._run, CommandFilter(tuple(OPEN), at - 1, PAGE))
        for index in chain((each.index for each in left), [self._total]):
            # All commands from `at` to here have ended.
            while (first := seen.find(0, at, index)) >= 0:
                at = seen.find(1, first, index)
                at = index if at < 0 else at
                wanted -= at - first
                if found and first - found[-1][1] <= APART:
                    begin, end, expected = found.pop()
                    found.append((begin, at, expected + at - end - between))
                else:
                    found.append((first, at, at - first))
                between = 0
            if wanted <= 0:
                break
            at, between = index + 1, between + 1
        return found

    def _wait(self, count: int) -> None:
        """Wait until so many commands, or all, have ended."""

        def over() -> bool:
            commands = self._control.runs.get(self._run).commands
            self._ended = commands.total - commands.open if commands else self._total
            return self._ended >= min(count, self._total)

        self._control.operator.drive(over, self._told)
