"""The truth about lists of commands in a world: which were handed out, began, ended, and were acknowledged."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.core.protocol.batches import decode_batch
from provisioner.core.protocol.command_lines import CommandEnd, read_ends
from provisioner.core.recipe.lists import ListOptions
from tests.service.violation import Violation

#: The keys of a batch and of a chunk of records.
BATCH = re.compile(r"machines/([^/]+)/chunks/([0-9]+)")
RECORDS = re.compile(r"inbox/([^/]+)/records/([0-9]+)")


@dataclass(frozen=True)
class Assigned:
    """One generation of a command, as a batch hands it out."""

    box: str
    batch: int


class ListTruth:
    """The truth about the commands of all lists; the methods are called when something happens."""

    def __init__(
        self,
        over: Callable[[str], bool],
        texts: Callable[[str], Sequence[str]],
        options: Callable[[str], ListOptions],
    ) -> None:
        """`over` returns whether the mailbox's machine is terminated or its result is put.

        `texts` returns the commands of a run, and `options` those of its list.
        """
        self._over, self._texts, self.options = over, texts, options
        #: The commands that were handed out, by run and index, and then by generation.
        self.given: dict[tuple[str, int], dict[int, Assigned]] = defaultdict(dict)
        #: Commands that run now, by run and index: the machine.
        self.running: dict[tuple[str, int], str] = {}
        self.begun: set[tuple[str, int, int]] = set()
        #: Failures for which the machine was blamed, by run, index and generation.
        self.excused: set[tuple[str, int, int]] = set()
        #: What machines have given back, by run, index and generation.
        self.given_back: set[tuple[str, int, int, Assigned]] = set()
        #: The ends on machines, with the output, by run, index and generation; no record of it may have left the
        #: machine.
        self.ended: dict[tuple[str, int, int], tuple[CommandEnd, bytes]] = {}
        #: The bytes of records that the bucket accepted, by mailbox and offset.
        self.chunks: dict[str, dict[int, bytes]] = defaultdict(dict)
        #: The lines in these bytes, by mailbox.
        self.acknowledged: dict[str, list[CommandEnd]] = {}

    def handed_out(self, box: str, data: bytes) -> None:
        """A batch is in the mailbox. L2: no generation of a command is handed out twice, unless it was given back."""
        head, texts = decode_batch(data)
        several = [index for first, count, _ in head.ranges for index in range(first, first + count)]
        if texts != [self._texts(head.run)[index].encode() for index in several]:
            raise Violation("L6 a batch has other commands than it names", f"{head}: {texts}")
        for first, count, generation in head.ranges:
            for index in range(first, first + count):
                where, mine = (head.run, index), Assigned(box, head.number)
                known = self.given[where].setdefault(generation, mine)
                if known != mine and (*where, generation, known) in self.given_back:
                    known = self.given[where][generation] = mine
                if known != mine:
                    raise Violation("L2 a command is handed out twice", f"{where}, {generation}: {known} and {mine}")
                for other in self.given[where]:
                    self._judge_repetition(where, max(other, generation), min(other, generation))

    def begin(self, run: str, index: int, generation: int, machine: str, box: str, batch: int) -> None:
        """A command begins. L1: it runs on no other machine; L2: this generation never began before.

        L4: the machine has not given it back from the same batch.
        """
        where = (run, index)
        if (*where, generation, Assigned(box, batch)) in self.given_back:
            raise Violation("L4 a machine begins what it gave back", f"{where}, {generation} on {machine}")
        if where in self.running:
            raise Violation("L1 a command runs twice at a time", f"{where} on {machine} and {self.running[where]}")
        if (*where, generation) in self.begun:
            raise Violation("L2 a command begins again", f"{where}, {generation} on {machine}")
        for lower in self.given[where]:
            self._judge_repetition(where, generation, lower)
        self.running[where] = machine
        self.begun.add((*where, generation))

    def gave_back(self, run: str, index: int, generation: int, box: str, batch: int) -> None:
        """The machine has decided that it will never begin this generation from this batch."""
        self.given_back.add((run, index, generation, Assigned(box, batch)))

    def end(self, run: str, end: CommandEnd, output: bytes) -> None:
        self.running.pop((run, end.index))
        self.ended[run, end.index, end.generation] = end, output

    def gone(self, machine: str) -> None:
        """Nothing runs on the machine any more."""
        self.running = {where: on for where, on in self.running.items() if on != machine}

    def open_on(self, box: str, run: str) -> set[int]:
        """Return the commands that the mailbox's machine has got, whose record was not acknowledged or given back."""
        return {
            index
            for (of, index), several in self.given.items()
            if of == run
            for generation, each in several.items()
            if each.box == box
            and self.line(run, index, generation) is None
            and (run, index, generation, each) not in self.given_back
        }

    def accepted(self, box: str, offset: int, data: bytes) -> None:
        """The bucket has a chunk of records, whether or not the machine got the answer."""
        if self.chunks[box].setdefault(offset, data) != data:
            raise Violation("L7 a machine replaces a chunk of its records", f"{box} at {offset}")
        self.acknowledged[box] = list(_lines(self.chunks[box]))

    def line(self, run: str, index: int, generation: int) -> CommandEnd | None:
        """Return the acknowledged line of this generation from the machine that it was handed out to."""
        given = self.given[run, index].get(generation)
        if given is None:
            return None
        lines = [
            each
            for each in self.acknowledged.get(given.box, ())
            if (each.index, each.generation, each.batch) == (index, generation, given.batch)
        ]
        if len(set(lines)) > 1:
            raise Violation("L6 a machine writes two records", f"{lines}")
        return lines[0] if lines else None

    def _judge_repetition(self, where: tuple[str, int], generation: int, lower: int) -> None:
        """L3: a command is repeated only after its machine is over without a record of it, or after it has failed."""
        if lower >= generation:
            return
        given, line = self.given[where][lower], self.line(*where, lower)
        if line and self.may_repeat(*where, lower):
            return
        if not self._over(given.box):
            raise Violation("L3 a command is repeated while its machine lives", f"{where}, {lower} in {given}")
        if line:
            raise Violation("L3 a command with a record is repeated", f"{where}, {line}")

    def may_repeat(self, run: str, index: int, generation: int) -> bool:
        """Return whether `list.retries` lets the command run again after it has failed in this generation."""
        options, line = self.options(run), self.line(run, index, generation)
        failures = sum(
            bool(earlier and earlier.code)
            for earlier in (self.line(run, index, lower) for lower in range(1, generation))
        )
        if line is None or line.code == 0 or line.why == "stop":
            return False
        if (run, index, generation) in self.excused:
            return True
        if failures - self._excuses(run, index, generation) >= options.retries:
            return False
        named = {line.why} if line.why == "limit" else {line.why, line.code}
        return not options.retry_on or bool(named & set(options.retry_on))

    def _excuses(self, run: str, index: int, generation: int) -> int:
        return sum((run, index, lower) in self.excused for lower in range(1, generation))


def _lines(chunks: dict[int, bytes]) -> list[CommandEnd]:
    """Return the whole lines in the contiguous chunks from offset 0 on."""
    data = b""
    for offset, piece in sorted(chunks.items()):
        if offset != len(data):
            break
        data += piece
    whole = data[: data.rfind(b"\n") + 1]
    ends = list(read_ends(whole))
    if bad := [each for each in ends if isinstance(each, str)]:
        raise Violation("L6 a line of records cannot be read", str(bad))
    return [each for each in ends if not isinstance(each, str)]
