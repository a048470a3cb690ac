"""What commands of lists write when they begin and end, in a file outside the bucket, and the rules for it.

Each command appends one line `begins …` and, if nothing kills it, one line `ends …`. The file is opened with O_APPEND,
so its lines are in the order in which they were written, whatever the clocks and the processes do.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: The variables with the text of every command, and with the file.
STEP, JOURNAL = "STEP", "JOURNAL"
#: One command of this many fails, takes PAUSE seconds, leaves a process behind, or has a long output.
FAILS, PAUSES, LEAVES, LONG = 97, 4, 251, 499
PAUSE = 0.2
#: How many more times a command that fails executes.
RETRIES = 2
#: Bytes that a command with a long output writes: more than the agent holds back.
LENGTH = 100_000
#: The text of a command in the recipe; the recipe of 10,000 commands has room for no more.
COMMAND = f'eval "${STEP}"'
#: The value of $STEP. The line is written with one write(2).
TEXT = f"""\
i=$PROVISION_COMMAND_INDEX
note() {{ echo "$1 $PROVISION_RUN_ID $i $PROVISION_COMMAND_GENERATION $PROVISION_INSTANCE_ID" >>"${JOURNAL}"; }}
note begins
echo "output $i $PROVISION_COMMAND_GENERATION"
if [ $((i % {LEAVES})) = 1 ]; then sleep 3600 & fi
if [ $((i % {PAUSES})) = 2 ]; then sleep {PAUSE}; fi
if [ $((i % {LONG})) = 4 ]; then yes | head -c {LENGTH}; fi
note ends
exit $((i % {FAILS} == 3))
"""


def code(index: int) -> int:
    """Return the exit code of a command."""
    return int(index % FAILS == 3)


def output(index: int, generation: int) -> bytes:
    """Return the output of a command."""
    return b"output %d %d\n" % (index, generation) + (b"y\n" * (LENGTH // 2) if is_long(index) else b"")


def is_long(index: int) -> bool:
    return index % LONG == 4


@dataclass(frozen=True)
class Line:
    ends: bool
    run: str
    index: int
    generation: int
    machine: str


class Journal:
    """Reads the file while commands write to it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        #: The lines of each command, by run and index, in their order.
        self.lines: dict[tuple[str, int], list[Line]] = defaultdict(list)
        #: Number of commands of which one try at least wrote its end.
        self.ended = 0
        #: The machines that have begun a command, each with its run.
        self.machines: dict[str, str] = {}

    def close(self) -> None:
        self._file.close()

    def read(self) -> None:
        """Read the lines that were written since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for each in map(_line, lines):
            mine = self.lines[each.run, each.index]
            self.ended += each.ends and not any(before.ends for before in mine)
            mine.append(each)
            self.machines[each.machine] = each.run


def _line(text: bytes) -> Line:
    word, run, index, generation, machine = text.decode().split()
    return Line({"begins": False, "ends": True}[word], run, int(index), int(generation), machine)


def violations(lines: Iterable[Line], killed: Collection[str]) -> Iterator[str]:
    """Yield the rules that the lines of one command break; `killed` are the machines that were ended by a kill."""
    begun = Counter[int]()
    last: Line | None = None
    for each in lines:
        what = f"command {each.index} of run {each.run[:12]}, generation {each.generation}, on {each.machine}"
        if last and each.generation < last.generation:
            yield f"{what}: it {'ended' if each.ends else 'began'} after generation {last.generation} had begun"
        if not each.ends:
            begun[each.generation] += 1
            if begun[each.generation] > 1:
                yield f"{what}: it began {begun[each.generation]} times"
            later = last and each.generation > last.generation
            if last and later and last.machine not in killed and not (last.ends and code(each.index)):
                yield f"{what}: it began again, although its machine {last.machine} was not lost"
        elif not begun[each.generation]:
            yield f"{what}: it ended without a begin"
        last = each
