"""Rules for lists of commands: each command has one final state, which its record on a machine justifies."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from provisioner.core.commands.blocks import FINAL, Blocks, CommandState, Count
from provisioner.core.commands.records import Batch, Block, CommandList, Worker
from provisioner.core.logs.archive import kept_chunk_key
from provisioner.core.protocol.batches import decode_batch
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import RECORDS as STREAM
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Node, Run
from provisioner.ports.control.lists import Commands
from provisioner.ports.store import RunFilter
from tests.service.list_truth import BATCH, RECORDS
from tests.service.truth import Truth
from tests.service.violation import Violation

#: Number of different commands that must fail in a row on a machine before it is blamed.
ENOUGH = 20
#: Records whose change may change a command's state or a counter.
_OF_LISTS = (CommandList, Block, Batch, Worker)


class ListRules:
    """The rules for the lists of one world."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        #: False if the test itself plays the machines, so that the truth is not known.
        self.judges = True
        #: Reads lists for users; set by the world.
        self.control: Commands | None = None
        #: The last state and generation of every command, by run.
        self._known: dict[str, list[tuple[CommandState, int]]] = {}
        #: The commands whose failure was excused, by run.
        self._blamed: dict[str, set[int]] = {}

    # While it runs

    def after_call(self, port: str, method: str, args: Sequence[Any], answer: Any) -> None:
        if not self.judges:
            return
        if method == "put" and port == "bucket" and (key := BATCH.fullmatch(args[0])) and answer:
            self.truth.lists.handed_out(key[1], args[1])
            self._judge_alone(key[1], args[1])
        elif method == "put" and port == "mailbox" and (key := RECORDS.fullmatch(args[0])) and answer:
            self.truth.lists.accepted(key[1], int(key[2]), args[1])
        elif (port, method) == ("store", "save"):
            for id in sorted({_run_of(each) for each in answer if isinstance(each, _OF_LISTS)}):
                self._judge_list(id)
            for worker in answer:
                if isinstance(worker, Worker) and worker.released_at is not None:
                    self._judge_release(worker)
            for run in answer:
                if isinstance(run, Run) and run.commands and run.ranks_stop:
                    self._judge_stop(run, run.ranks_stop)

    def _judge_alone(self, box: str, data: bytes) -> None:
        """L13: a command with which two machines died is alone on its machine."""
        head, _ = decode_batch(data)
        commands = self.truth.store.command_list(head.run)
        assert commands
        mine = self.truth.lists.open_on(box, head.run)
        numbers = {index // commands.block_size for index in mine}
        blocks = Blocks(commands, self.truth.store.blocks(head.run, numbers))
        if len(mine) > 1 and any(blocks.count(index, Count.DEATHS) > 1 for index in mine):
            raise Violation("L13 a command that may kill its machine has company", f"{mine} of {head.run} on {box}")

    def _judge_list(self, run: str) -> None:
        """L5: counters are the blocks' counts, a final state never changes, and no generation gets smaller."""
        commands, states = self._states(run)
        excused = self._excused(commands)
        for index in sorted(excused - self._blamed.get(run, set())):
            self._judge_excuse(run, index, states[index])
        self._blamed[run] = excused
        before = self._known.get(run, [(CommandState.FRESH, 0)] * commands.total)
        for index, ((old, was), (new, now)) in enumerate(zip(before, states, strict=True)):
            if old in FINAL and (new, now) != (old, was) and (run, index, was) not in self.truth.lists.excused:
                raise Violation("L5 a final state changes", f"command {index} of {run}: {old} to {new}")
            if new is CommandState.LOST and old is not new:
                self._judge_loss(run, index, now)
            if now < was:
                raise Violation("L5 a generation gets smaller", f"command {index} of {run}: {was} to {now}")
        self._known[run] = states
        for index, place in enumerate(states):
            if place != before[index]:
                self._read(run, index, *place)
        counts = Counter(state for state, _ in states)
        counted = {
            CommandState.SUCCEEDED: commands.succeeded,
            CommandState.FAILED: commands.failed,
            CommandState.LOST: commands.lost,
            CommandState.CANCELLED: commands.cancelled,
            CommandState.NOT_RUN: commands.not_run,
            CommandState.WAITING: commands.waiting,
            CommandState.OUT: commands.out,
            # Sealing counts a block only once no later command was handed out.
            CommandState.FRESH: commands.total - commands.next,
        }
        if any(counts[state] != count for state, count in counted.items()):
            raise Violation("L5 a counter is not the blocks' count", f"{commands}, {dict(counts)}")

    def _excused(self, commands: CommandList) -> set[int]:
        numbers = range(-(-commands.total // commands.block_size))
        blocks = Blocks(commands, self.truth.store.blocks(commands.id, numbers))
        return {index for index in range(commands.total) if blocks.count(index, Count.EXCUSED)}

    def _judge_excuse(self, run: str, index: int, place: tuple[CommandState, int]) -> None:
        """L11: a failure does not count, once for each command, if its machine failed everything and others did not."""
        lists, (state, generation) = self.truth.lists, place
        given = lists.given[run, index][generation - 1]
        about = f"command {index} of {run}: {state}, {generation}"
        line = lists.line(run, index, generation - 1)
        if state is not CommandState.WAITING or line is None or line.code == 0:
            raise Violation("L11 a command that has not failed is excused", about)
        if any(where[:2] == (run, index) for where in lists.excused):
            raise Violation("L11 a failure is excused twice", about)
        lines = lists.acknowledged[given.box]
        succeeded = [at for at, line in enumerate(lines) if line.code == 0]
        streak = {line.index for line in lines[succeeded[-1] + 1 if succeeded else 0 :]}
        others = [line for box, several in lists.acknowledged.items() if box != given.box for line in several]
        if len(streak) < ENOUGH or all(line.code for line in others):
            raise Violation("L11 a machine is blamed without need", f"{about}: {streak}")
        lists.excused.add((run, index, generation - 1))

    def _judge_loss(self, run: str, index: int, generation: int) -> None:
        """L12: a command is lost while the run goes on only if three machines were lost with it."""
        found, options = self.truth.store.run(run), self.truth.lists.options(run)
        commands = self.truth.store.command_list(run)
        assert found
        assert commands
        if found.ended_at is not None or not options.restart_lost:
            return
        if options.max_failures is not None and commands.failed + commands.lost > options.max_failures:
            return
        if len(self.truth.lists.given[run, index]) < 3:
            raise Violation("L12 a command is lost too soon", f"command {index} of {run}, generation {generation}")

    def _judge_release(self, worker: Worker) -> None:
        """L8: a machine is released only without commands, so none begins on it afterwards."""
        lists = self.truth.lists
        mine = {
            (run, index, by)
            for (run, index), several in lists.given.items()
            for by, each in several.items()
            # What it gave back may be assigned to another machine already, whose batch is not put yet.
            if each.box == worker.box and (run, index, by, each) not in lists.given_back
        }
        for run, index, generation in mine:
            if lists.line(run, index, generation) is None:
                raise Violation("L8 a machine with commands is released", f"{worker}: command {index}, {generation}")

    def _judge_stop(self, run: Run, stop: Stop) -> None:
        """L9: the control plane orders the machine of a list to finish only after every command has a record."""
        if stop.outcome is Outcome.SUCCEEDED:
            commands, states = self._states(run.id)
            for index, (state, generation) in enumerate(states):
                if state is not CommandState.LOST and self.truth.lists.line(run.id, index, generation) is None:
                    raise Violation("L9 a machine is told to end before its commands have", f"{index} of {commands}")

    def _states(self, run: str) -> tuple[CommandList, list[tuple[CommandState, int]]]:
        commands = self.truth.store.command_list(run)
        if commands is None:
            raise Violation("L5 a run has no list", run)
        numbers = range(-(-commands.total // commands.block_size))
        blocks = Blocks(commands, self.truth.store.blocks(run, numbers))
        return commands, [(blocks.state(index), blocks.generation(index)) for index in range(commands.total)]

    # At the end

    def check(self) -> None:
        """Check the lists at the end of the world."""
        for run in self.truth.store.runs(RunFilter(limit=1000)):
            if run.commands:
                self._check_list(run, self.truth.store.nodes(run.id))

    def _check_list(self, run: Run, nodes: Sequence[Node]) -> None:
        commands, states = self._states(run.id)
        if commands.total != run.commands or commands.sealed_at is None or commands.open:
            raise Violation("L5 a command has no final state", f"{commands}")
        for index, (state, generation) in enumerate(states):
            self._check_state(run, index, state, generation)
            self._read(run.id, index, state, generation)
        self._check_archive(nodes)
        recorded = all(self.truth.lists.line(run.id, index, place[1]) for index, place in enumerate(states))
        self._check_outcome(run, commands, recorded=recorded)

    def _check_state(self, run: Run, index: int, state: CommandState, generation: int) -> None:
        """L6: a final state is that of the acknowledged record of the command's generation, if there is one."""
        line = self.truth.lists.line(run.id, index, generation)
        for lower in range(1, generation):
            earlier = self.truth.lists.line(run.id, index, lower)
            if earlier and not self.truth.lists.may_repeat(run.id, index, lower):
                raise Violation("L6 a record was passed over", f"command {index} of {run.id}: {state}, {earlier}")
            if earlier and line is None and state is CommandState.FAILED:
                # It has failed, and the run ended before it could run again.
                return
        about = f"command {index} of {run.id}, generation {generation}: {state}, {line}"
        if line is None:
            if state in (CommandState.SUCCEEDED, CommandState.FAILED):
                raise Violation("L6 a state without a record", about)
            return
        wanted = CommandState.FAILED if line.code else CommandState.SUCCEEDED
        wanted = CommandState.CANCELLED if line.why == "stop" else wanted
        if state != wanted:
            raise Violation("L6 a record was passed over", about)
        end, _ = self.truth.lists.ended[run.id, index, generation]
        if (end.code, end.why) != (line.code, line.why):
            raise Violation("L6 a record is not what happened", f"{about}, {end}")

    def _check_archive(self, nodes: Sequence[Node]) -> None:
        """L7: the archive has every acknowledged chunk of records."""
        objects = self.truth.bucket.objects
        for node in nodes:
            for offset, data in self.truth.lists.chunks[node.box].items():
                kept = objects.get(kept_chunk_key(node.run, node.attempt, node.rank, STREAM, offset))
                if kept is None or kept[0] != data:
                    raise Violation("L7 records are missing in the archive", f"{node.id} at {offset}")

    def _check_outcome(self, run: Run, commands: CommandList, *, recorded: bool) -> None:
        """L10: the outcome and the exit code follow from the commands' states.

        `recorded` is whether no command waited to run again after it had failed: such a command has failed, too.
        """
        assert run.verdict is not None
        outcome, code = run.verdict.outcome, run.verdict.exit_code
        whole = commands.succeeded + commands.failed == commands.total
        about = f"{run.verdict} of {commands}"
        if outcome is Outcome.SUCCEEDED and (commands.succeeded != commands.total or code != 0):
            raise Violation("L10 a run succeeds without all its commands", about)
        options = self.truth.lists.options(run.id)
        lost = commands.succeeded + commands.failed + commands.lost == commands.total
        early = options.max_failures is not None and commands.failed + commands.lost > options.max_failures
        ended = whole or lost or early
        if outcome is Outcome.FAILED and run.verdict.step.value == "command" and (code != 1 or not ended):
            raise Violation("L10 a run fails without an end of all commands", about)
        if whole and recorded and outcome not in (Outcome.SUCCEEDED, Outcome.FAILED) and not run.stop:
            raise Violation("L10 all commands have ended, and the run says otherwise", about)

    def _read(self, run: str, index: int, state: CommandState, generation: int) -> None:
        """L7: once a command's end is recorded, users can read its code, and its output byte by byte."""
        if state not in (CommandState.SUCCEEDED, CommandState.FAILED) or self.control is None:
            return
        lists = self.truth.lists
        recorded = [each for each in range(1, generation + 1) if lists.line(run, index, each)]
        if not recorded:
            raise Violation("L6 a state without a record", f"command {index} of {run}: {state}")
        end, wrote = lists.ended[run, index, recorded[-1]]
        shown, read = self.control.get(run, index), b"".join(self.control.output(run, index))
        if (shown.exit_code, shown.generation, read) != (end.code, generation, wrote):
            raise Violation("L7 a command is not shown as it ended", f"{index} of {run}: {shown}, {read!r}, {end}")


def _run_of(record: CommandList | Block | Batch | Worker) -> str:
    return record.id if isinstance(record, CommandList) else record.run
