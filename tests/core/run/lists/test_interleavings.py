"""Whatever happens in whatever order, each command gets exactly one final state, and the counters equal the blocks."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core.commands.blocks import FINAL, CommandState
from provisioner.core.protocol.command_lines import CommandEnd, read_ends
from provisioner.core.protocol.messages import ListReport, Running
from provisioner.core.protocol.words import Step
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists.closing import close, note_listing, seal
from provisioner.core.run.lists.dying import DEATHS_MOST
from provisioner.core.run.lists.handing import hand_out
from provisioner.core.run.lists.receiving import NO_RETRIES, take_records
from provisioner.core.run.records import Assignment, Run
from provisioner.core.run.states import State
from tests.support import samples
from tests.support.lists import Kept, a_list, line, worker

NOW = samples.NOW
#: A command: its index, and its generation.
Try = tuple[int, int]


@dataclass
class Machine:
    """A machine: the truth about it, which the control plane learns only from its objects in the bucket."""

    id: str
    alive: bool = True
    #: (number of the batch, command) in the order in which it begins them.
    queue: list[tuple[int, Try]] = field(default_factory=list)
    running: list[tuple[int, Try]] = field(default_factory=list)
    #: The commands that it has ever got, by index.
    got: set[int] = field(default_factory=set)
    #: What it has written into its stream, and how much of it is in the bucket.
    stream: bytes = b""
    shipped: int = 0
    #: The objects in its inbox, by offset; and all that were ever put.
    inbox: dict[int, bytes] = field(default_factory=dict)
    put: dict[int, bytes] = field(default_factory=dict)
    #: Whether it was over when the control plane last read its records from the store.
    known_over: bool = False

    def held(self, over: bool) -> Assignment:
        """Return the node as the store has it."""
        attempt, rank = map(int, self.id.split(".")[1:])
        running = tuple(Running(slot, *one, NOW) for slot, (_, one) in enumerate(self.running))
        report = samples.report(Step.COMMAND, commands=ListReport(running=running))
        made = samples.node(id=self.id, attempt=attempt, rank=rank, report=report)
        return Assignment(made, samples.machine(ended_at=NOW if over else None))

    def acknowledged(self) -> list[CommandEnd]:
        """Return the ends in the chunks that were put."""
        return [end for end in read_ends(self.stream[: self.shipped]) if isinstance(end, CommandEnd)]


def begins(each: Machine) -> bool:
    return each.alive and bool(each.queue)


def ends(each: Machine) -> bool:
    return each.alive and bool(each.running)


def ships(each: Machine) -> bool:
    return each.alive and each.shipped < len(each.stream)


def repeats(each: Machine) -> bool:
    return each.alive and bool(each.put)


def has_mail(each: Machine) -> bool:
    return bool(each.inbox)


class Lists:
    """Machines come, run commands, ship records and die; the control plane reads and writes in any order."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.kept = Kept(a_list(23))
        self.machines: dict[str, Machine] = {}
        self.begun: defaultdict[Try, list[Machine]] = defaultdict(list)
        self.over = False
        self.options = ListOptions(retries=random.choice((0, 0, 2)))

    def step(self) -> None:
        """Do one of the things that are possible, the likelier ones more often."""
        possible = [(action, weight) for action, weight, may in self.actions() if may]
        actions, weights = zip(*possible, strict=True)
        self.random.choices(actions, weights)[0]()
        self.recorded_ends_are_true()

    def actions(self) -> list[tuple[Callable[[], None], int, object]]:
        """Return everything that can happen, with its weight and whether it is possible now."""
        alive = self.those(lambda each: each.alive)
        return [
            (self.machine_comes, 4, len(self.machines) < 8 and len(alive) < 2),
            (self.commands_begin, 6, self.those(begins)),
            (self.commands_end, 6, self.those(ends)),
            (self.records_are_put, 6, self.those(ships)),
            (self.an_old_chunk_is_put_again, 1, self.those(repeats)),
            (self.machine_dies, 1, self.those(ends)),
            (self.commands_are_handed_out, 3, self.those(self.may_get)),
            (self.a_chunk_is_read, 6, self.those(has_mail)),
            (self.the_store_shows_what_is_over, 3, self.machines),
            (self.the_inbox_is_listed, 4, self.machines),
            (self.nodes_are_closed, 4, self.machines),
            (self.everything_is_sealed, 1, True),
        ]

    # The machines

    def machine_comes(self) -> None:
        machine = Machine(f"r1.{len(self.machines) + 1}.0")
        self.machines[machine.id] = machine
        self.kept.add(worker(machine.id))

    def those(self, fit: Callable[[Machine], object]) -> list[Machine]:
        return [each for each in self.machines.values() if fit(each)]

    def commands_begin(self) -> None:
        machine = self.random.choice(self.those(begins))
        several = self.random.randint(1, 4)
        for number, (index, generation) in machine.queue[:several]:
            self.judge(machine, index, generation)
            machine.running.append((number, (index, generation)))
        del machine.queue[:several]

    def judge(self, machine: Machine, index: int, generation: int) -> None:
        """Check that this command may begin on this machine now."""
        mine = (index, generation)
        assert not self.begun[mine], "a try begins once"
        for other in self.machines.values():
            if other.alive and other is not machine:
                assert all(one[0] != index for _, one in other.running), "no command runs on two machines"
            for end in other.acknowledged():
                again = end.index == index and not (end.code and self.options.retries)
                assert not again, "a command whose end was acknowledged does not begin again, unless it failed"
        self.begun[mine].append(machine)

    def commands_end(self) -> None:
        machine = self.random.choice(self.those(ends))
        codes = self.random.choices([0, 0, 1, 137], k=self.random.randint(1, 4))
        for code, (number, (index, generation)) in zip(codes, list(machine.running), strict=False):
            machine.stream += line(index, code, generation=generation, number=number)
            del machine.running[0]

    def records_are_put(self) -> None:
        """A chunk may end within a line."""
        machine = self.random.choice(self.those(ships))
        length = len(machine.stream) - machine.shipped
        end = machine.shipped + self.random.choice([length, max(1, length // 2), max(1, length - 3)])
        machine.put[machine.shipped] = machine.inbox[machine.shipped] = machine.stream[machine.shipped : end]
        machine.shipped = end

    def an_old_chunk_is_put_again(self) -> None:
        """The answer to a PUT was lost, so the machine repeats it, maybe after it was recorded and deleted."""
        machine = self.random.choice(self.those(repeats))
        offset = self.random.choice(sorted(machine.put))
        machine.inbox[offset] = machine.put[offset]

    def machine_dies(self) -> None:
        self.random.choice(self.those(ends)).alive = False

    # The control plane

    def commands_are_handed_out(self) -> None:
        """A machine may have died without a sign."""
        machine = self.random.choice(self.those(self.may_get))
        ledger = self.kept.ledger()
        for batch in hand_out(ledger, {machine.id: self.random.randint(1, 9)}):
            for first, several, generation in batch.ranges:
                machine.got |= set(range(first, first + several))
                machine.queue += [(batch.number, (first + each, generation)) for each in range(several)]
        self.kept.save(ledger)

    def may_get(self, machine: Machine) -> bool:
        return self.kept.workers[machine.id].closed_at is None and bool(self.kept.commands.remaining)

    def a_chunk_is_read(self) -> None:
        machine = self.random.choice(self.those(has_mail))
        self.read(machine, self.random.choice(sorted(machine.inbox)))

    def read(self, machine: Machine, offset: int) -> None:
        ledger = self.kept.ledger()
        options = NO_RETRIES if self.over else self.options
        take_records(ledger, machine.id, offset, machine.inbox[offset], NOW, options)
        self.kept.save(ledger)
        if offset < self.kept.workers[machine.id].records_read:
            del machine.inbox[offset]

    def the_store_shows_what_is_over(self) -> None:
        """A pass reads its records before it lists the inbox; the machine may go on in between."""
        for machine in self.machines.values():
            machine.known_over = not machine.alive

    def the_inbox_is_listed(self) -> None:
        machine = self.random.choice(self.those(bool))
        ledger = self.kept.ledger()
        whole = self.random.random() < 0.7
        sizes = {offset: len(data) for offset, data in machine.inbox.items()} if whole else {}
        note_listing(ledger, machine.held(machine.known_over), sizes, whole, NOW)
        self.kept.save(ledger)

    def nodes_are_closed(self) -> None:
        for machine in self.machines.values():
            self.close(machine)

    def close(self, machine: Machine) -> None:
        ledger = self.kept.ledger()
        close(ledger, machine.held(machine.known_over), self.run(), NOW, self.options)
        self.kept.save(ledger)

    def run(self) -> Run:
        ended_at = NOW if self.over else None
        return samples.at_work(State.STOPPING if self.over else State.RUNNING, commands=23, ended_at=ended_at)

    def everything_is_sealed(self) -> None:
        ledger = self.kept.ledger()
        seal(ledger, self.run(), NOW)
        self.kept.save(ledger)
        assert self.over or self.kept.commands.sealed_at is None

    def recorded_ends_are_true(self) -> None:
        """A recorded success or failure is that of an acknowledged line of the present generation.

        If a command could not run again after it had failed, that line is of an earlier generation.
        """
        states, loaded = self.kept.states(), self.kept.loaded()
        true = {
            (end.index, end.generation): CommandState.FAILED if end.code else CommandState.SUCCEEDED
            for machine in self.machines.values()
            for end in machine.acknowledged()
        }
        for index, state in enumerate(states):
            if state in (CommandState.SUCCEEDED, CommandState.FAILED):
                several = range(1, loaded.generation(index) + 1)
                known = [true[index, each] for each in several if (index, each) in true]
                assert known[-1] is state
                assert state is CommandState.FAILED or (index, several[-1]) in true

    def end(self) -> None:
        """The run ends: then every command gets a final state, and no acknowledged end is lost."""
        self.over = True
        for machine in self.machines.values():
            machine.alive, machine.known_over = False, True
            self.everything_is_sealed()
            for offset in sorted(machine.inbox):
                self.read(machine, offset)
            ledger = self.kept.ledger()
            note_listing(ledger, machine.held(True), dict.fromkeys(machine.inbox, 9), True, NOW)
            self.kept.save(ledger)
            self.close(machine)
        for _ in range(9):
            self.everything_is_sealed()
        assert self.kept.commands.sealed_at == NOW
        states = self.kept.states()
        assert set(states) <= FINAL
        for machine in self.machines.values():
            for end in machine.acknowledged():
                ended = {CommandState.SUCCEEDED, CommandState.FAILED}
                assert states[end.index] in (
                    ended | {CommandState.LOST} if end.code and self.options.retries else ended
                )
        lost = [index for index, state in enumerate(states) if state is CommandState.LOST]
        for index in lost:
            several = [machine for machine in self.machines.values() if index in machine.got]
            running = any(one[0] == index for machine in several for _, one in machine.running)
            assert running or len(several) >= DEATHS_MOST


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150)
def test_each_command_gets_one_final_state_that_is_true(seed: int) -> None:
    """Each step checks that no command runs twice at once, and none again after its end was acknowledged."""
    lists = Lists(Random(seed))
    for _ in range(120):
        lists.step()
    lists.end()
