"""Check the commands of lists after kills: their final records, their executions and outputs, and what is left."""

import csv
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from provisioner.core.protocol.command_lines import CommandEnd, read_ends
from provisioner.core.protocol.words import RECORDS
from provisioner.core.views.commands import Command, CommandState
from provisioner.ports.control.lists import PAGE, CommandFilter, every
from provisioner.rehearsal.double import Double
from provisioner.service.control import Service
from scripts.benchmarks import executions
from scripts.benchmarks.executions import Journal

#: Maximum number of commands of a run of which the output is read, and of violations of each rule that are printed.
OUTPUTS, SHOWN_MOST = 100, 5
#: A command that ran on so many machines that died may be lost, although it never exited.
DEATHS = 3
#: The key of a chunk of records in the archive.
RECORDS_KEY = re.compile(rf"runs/([^/]+)/([0-9]+)/([0-9]+)/log/{RECORDS}/([0-9]+)")


class Checked:
    """The violations that were found, by rule, and some counts."""

    def __init__(
        self,
        double: Double,
        service: Service,
        journal: Journal,
        ended: Collection[str],
        kept: Mapping[str, Collection[tuple[int, int]]],
    ) -> None:
        """`ended` are the machines that were ended by a kill; `kept` are their durable records before it."""
        self._double, self._service, self._journal, self._ended = double, service, journal, ended
        #: The generations of these records, by run and index.
        self._kept: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        for machine, records in kept.items():
            for index, generation in records:
                self._kept[journal.machines[machine], index].add(generation)
        self.broken: defaultdict[str, list[str]] = defaultdict(list)
        #: Number of begins of commands; of records, and of those that repeat an earlier one.
        self.counts = Counter(executions=0, records=0, repeated=0)
        self._records = _records(double)

    def run(self, run: str, count: int) -> None:
        """Check a run that is done, of a list of `count` commands."""
        commands = list(every(self._service.commands, run, CommandFilter(limit=PAGE)))
        self._holds("every command is listed", [each.index for each in commands] == list(range(count)), run)
        lines = csv.DictReader(
            itertools.chain.from_iterable(
                piece.decode().splitlines(keepends=True) for piece in self._service.commands.csv(run)
            )
        )
        numbers = [int(line["Seq"]) - 1 for line in lines]
        self._holds("every command has one line in the job log", numbers == list(range(count)), run)
        view = self._service.runs.get(run)
        states = Counter(each.state for each in commands)
        progress = view.commands
        assert progress is not None
        counted = Counter(
            {
                CommandState.SUCCEEDED: progress.succeeded,
                CommandState.FAILED: progress.failed,
                CommandState.LOST: progress.lost,
            }
        )
        self._holds("the counters are those of the commands", states == counted, f"{run}: {states}, {counted}")
        failed = int(set(states) != {CommandState.SUCCEEDED})
        self._holds("the run's exit code is that of the list", view.exit_code == failed, f"{run}: {view.exit_code}")
        step = -(-count // OUTPUTS)
        for command in commands:
            self._executed(run, command)
            if command.state is not CommandState.LOST or not self._may_be_lost(run, command):
                self._recorded(run, command)
                if command.index % step == 0 or executions.is_long(command.index):
                    self._written(run, command)

    def _executed(self, run: str, command: Command) -> None:
        lines = self._journal.lines[run, command.index]
        self.counts["executions"] += sum(not line.ends for line in lines)
        for what in executions.violations(lines, self._ended):
            self.broken["no command is executed twice"].append(what)

    def _may_be_lost(self, run: str, command: Command) -> bool:
        """Return whether the command began on DEATHS machines that were killed: it may have been the reason."""
        lines = self._journal.lines[run, command.index]
        return len({line.machine for line in lines} & set(self._ended)) >= DEATHS

    def _recorded(self, run: str, command: Command) -> None:
        name, code = _name(run, command), executions.code(command.index)
        state = CommandState.FAILED if code else CommandState.SUCCEEDED
        ended = (command.state, command.exit_code, command.why) == (state, code, None)
        self._holds("every command ends as it exits", ended, f"{name}: {command.state}, {command.exit_code}")
        recorded = self._records[run, command.index]
        self.counts["records"] += len(recorded)
        self.counts["repeated"] += len(recorded) - len(set(recorded))
        tries = sorted(set(recorded))
        several = executions.RETRIES + 1 if code else 1
        right = len(tries) == several and tries[-1] == command.generation
        self._holds("every try that counts has a record, and no other", right, f"{name}: {recorded}")
        durable = self._kept[run, command.index]
        self._holds("a durable record counts", durable <= set(tries), f"{name}: {durable}, not {tries}")
        lines = self._journal.lines[run, command.index]
        finished = any(line.ends and line.generation == command.generation for line in lines)
        self._holds("every record is of a command that has ended", finished, name)

    def _written(self, run: str, command: Command) -> None:
        found = b"".join(self._service.commands.output(run, command.index))
        wanted = executions.output(command.index, command.generation)
        what = f"{_name(run, command)}: {len(found)} bytes, {found[:100]!r}"
        self._holds("the output is what the command wrote", found == wanted, what)

    def left(self, folder: Path) -> None:
        """Check that no process, machine and mailbox is left; `folder` is that of the whole rehearsal."""
        processes = [f"{pid}: {of(pid, 'cmdline')!r}" for pid in processes_of(folder)]
        self._holds("no process is left", not processes, str(processes))
        alive = [each.id for each in self._double.alive()]
        self._holds("no machine is left", not alive, str(alive))
        self._holds("no mailbox is left", not mailboxes(self._service), str(mailboxes(self._service)))

    def _holds(self, rule: str, holds: bool, what: str) -> None:
        if not holds:
            self.broken[rule].append(what)


def _name(run: str, command: Command) -> str:
    return f"command {command.index} of run {run[:12]}, generation {command.generation}"


def _records(double: Double) -> defaultdict[tuple[str, int], list[int]]:
    """Return the generations of all records in the archive, by run and index."""
    streams: defaultdict[tuple[str, str, str], list[tuple[int, bytes]]] = defaultdict(list)
    for key, data in double.account.objects(double.bucket).items():
        if found := RECORDS_KEY.fullmatch(key):
            run, attempt, rank, offset = found.groups()
            streams[run, attempt, rank].append((int(offset), data))
    records = defaultdict[tuple[str, int], list[int]](list)
    for (run, _, _), chunks in streams.items():
        for end in read_ends(b"".join(data for _, data in sorted(chunks))):
            assert isinstance(end, CommandEnd), f"a record of run {run} cannot be read: {end}"
            records[run, end.index].append(end.generation)
    return records


def durable(service: Service, machine: str) -> set[tuple[int, int]]:
    """Return index and generation of the records that the machine has put, as far as they are in its inbox now."""
    bucket, found = service.installation.bucket, set[tuple[int, int]]()
    for entry in bucket.list("inbox/"):
        if f":{machine}/records/" in entry.key:
            # The first line and the last one may be incomplete.
            ends = read_ends(bucket.get(entry.key) or b"")
            found |= {(end.index, end.generation) for end in ends if isinstance(end, CommandEnd)}
    return found


def mailboxes(service: Service) -> list[str]:
    """Return the keys of all objects in mailboxes."""
    bucket = service.installation.bucket
    return [entry.key for prefix in ("machines/", "inbox/") for entry in bucket.list(prefix)]


def processes() -> Iterator[int]:
    """Yield the ids of all processes of this computer but this one."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())


def of(pid: int, name: str) -> bytes:
    """Return a file of the process in /proc; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def processes_of(folder: Path) -> list[int]:
    """Return the processes with the folder in their command line or environment."""
    text = os.fsencode(folder)
    return [pid for pid in processes() if text in of(pid, "cmdline") or text in of(pid, "environ")]
