"""A world with one run of a list, on whose machines the test itself ends the commands."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.batches import decode_batch
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.command_lines import CommandEnd, Extent, write_end
from provisioner.core.protocol.keys import batch_key, chunk_key, orders_key, records_key, report_key, result_key
from provisioner.core.protocol.messages import ListReport, Orders, Report, Result, Running, Span, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State
from provisioner.rehearsal.machines.script import CommandScript
from tests.service.agents import Script
from tests.service.attacked import Counted
from tests.service.memory_store import MemoryStore
from tests.service.trouble import Call, Crash, Fate, Fates, calm
from tests.service.world import World


@dataclass(frozen=True)
class Given:
    """One command as the machine read it."""

    batch: int
    index: int
    generation: int
    text: bytes


class Machine:
    """The list's part of one machine: it reads batches, and writes output and records."""

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.agent = world.agents[node.instance_id]
        self.output = self.records = 0
        self._sequence = 5000

    def orders(self) -> Orders:
        data = self.world.bucket.get(orders_key(self.node.box))
        return decode(Orders, data) if data else Orders()

    def given(self) -> list[Given]:
        """Return all commands that the orders name, in order."""
        commands, found = self.orders().commands, list[Given]()
        for number in range(1, (commands.batches if commands else 0) + 1):
            data = self.world.bucket.get(batch_key(self.node.box, number))
            assert data, f"batch {number} is not in the mailbox"
            head, texts = decode_batch(data)
            several = iter(texts)
            for first, count, generation in head.ranges:
                found += [Given(number, index, generation, next(several)) for index in range(first, first + count)]
        return found

    def end(self, commands: Iterable[Given], code: int = 0, *, output: bytes = b"", why: str = "") -> bytes:
        """Write the output of commands and then their records; return the records."""
        lines = b""
        for each in commands:
            extents: tuple[Extent, ...] = ()
            if output:
                self.world.bucket.put(chunk_key(self.node.box, "output", self.output), output)
                extents = ((self.output, 0, len(output)),)
                self.output += len(output)
            at = self.world.now()
            lines += write_end(CommandEnd(each.batch, each.index, each.generation, at, 1.5, code, why, extents))
        self.write(lines)
        return lines

    def write(self, data: bytes, at: int | None = None) -> None:
        """Put a chunk of records at byte `at`, by default after the last one."""
        self.world.bucket.put(records_key(self.node.box, self.records if at is None else at), data)
        if at is None:
            self.records += len(data)

    def report(self, running: Iterable[Given] = ()) -> None:
        self._sequence += 1
        at = self.world.now()
        several = tuple(Running(slot, each.index, each.generation, at) for slot, each in enumerate(running))
        spans, listed = {"command": Span(self.node.bound_at)}, ListReport(running=several)
        told = Report(self._sequence, at, "p", Step.COMMAND, spans, commands=listed)
        self.world.bucket.put(report_key(self.node.box, self._sequence), encode(told))

    def finish(self, outcome: Outcome = Outcome.SUCCEEDED, code: int | None = 0) -> None:
        """Put the result and a last report."""
        node, now = self.node, self.world.now()
        ends, spans = {"output": StreamEnd(self.output, "")}, {"command": Span(node.bound_at, now)}
        result = Result(node.run, node.attempt, 0, "p", outcome, Step.COMMAND, code, "told", now, spans, ends)
        self.world.bucket.put(result_key(self.node.box), encode(result))
        last = Report(9999, now, "p", Step.LOGS, spans, finished=True)
        self.world.bucket.put(report_key(self.node.box, 9999), encode(last))


class Aim:
    """A fate at the `nth` call of a method whose subject contains `word`, and none at other calls."""

    def __init__(self, fate: Fate = Fate.NONE, port: str = "", method: str = "", word: str = "", nth: int = 1) -> None:
        self._fate, self._at, self._word = fate, (port, method), word
        self.left = nth

    def __call__(self, call: Call) -> Fate:
        if (call.port, call.method) != self._at or self._word not in call.about or not self.left:
            return Fate.NONE
        self.left -= 1
        return Fate.NONE if self.left else self._fate


class Listed:
    """A world with one run of a list, and a control plane that makes passes when the test says so."""

    def __init__(
        self, commands: int = 10, slots: int = 2, fates: Fates = calm, *, uploaded: bool = False, **spec: Any
    ) -> None:
        endless = CommandScript(seconds=1e6)
        self.world = World(scripts=lambda _: Script(commands=endless), fates=fates)
        self.world.rules.lists.judges = False
        self.bucket = self.world.bucket = Counted(self.world.clock.now, objects=self.world.bucket.objects)
        self.texts = [f"echo {index}" for index in range(commands)]
        command, upload = self.texts, ""
        if uploaded:
            lines = (f"{text}\n".encode() for text in self.texts)
            command, upload = ["the job's own"], self.world.users.uploads.add(lines, "tester").id
        self._run = self.world.start(upload=upload, command=command, nprocs=slots, **spec)
        self.restart()

    def restart(self) -> None:
        """Start another process of the control plane, without anything that the last one had in memory."""
        self.life, self.service = self.world.incarnate()

    def turn(self) -> None:
        """Make a pass, and let 10 s pass. If the process is killed, start the next one."""
        try:
            self.world.told.extend(self.service.operator.step())
        except Crash:
            self.life.dead = True
            cast(MemoryStore, self.world.store).dead.add(f"life {self.life.number}")
            self.restart()
        self.world.advance(10.0)

    def until(self, holds: Callable[[], bool], passes: int = 100) -> None:
        for _ in range(passes):
            if holds():
                return
            self.turn()
        raise AssertionError(f"not within {passes} passes: {self.run.state}, {self.world.told[-3:]}")

    def machine(self, attempt: int = 1) -> Machine:
        """Return the machine of an attempt, once it runs commands."""
        self.until(lambda: self.run.attempt == attempt and self.run.state is State.RUNNING)
        found = Machine(self.world, self.world.store.nodes(self.run.id)[-1])
        self.until(lambda: bool(found.given()))
        return found

    def end(self) -> None:
        """Make passes until the run is done."""
        self.until(lambda: self.run.state is State.DONE)

    @property
    def run(self) -> Run:
        found = self.world.store.run(self._run.id)
        assert found
        return found

    @property
    def commands(self) -> CommandList:
        found = self.world.store.command_list(self.run.id)
        assert found
        return found

    @property
    def worker(self) -> Worker:
        return self.world.store.workers(self.run.id)[-1]

    @property
    def batches(self) -> tuple[Batch, ...]:
        return self.world.store.live().batches

    def lose(self, machine: Machine) -> None:
        """Cut the power of a machine."""
        machine.agent.silent = True
        self.world.model.powered_off(machine.node.instance_id, self.world.now())

    def play(self, *, lost_after: int = 4) -> Counter[tuple[int, int]]:
        """Work through the list, two commands in each pass, until the run is done.

        The first machine is lost after it recorded `lost_after` commands, while two others run. Returns how often each
        index began in each generation.
        """
        begun, machines, done = Counter[tuple[int, int]](), dict[str, Machine](), dict[str, int]()
        for _ in range(150):
            if self.run.state is State.DONE:
                return begun
            for node in self.world.store.nodes(self.run.id):
                machine = machines.setdefault(node.id, Machine(self.world, node))
                if machine.agent.silent:
                    continue
                given, count = machine.given(), done.get(node.id, 0)
                begun.update((each.index, each.generation) for each in given[count : count + 2])
                if node.attempt == 1 and count >= lost_after:
                    self.lose(machine)
                    continue
                if given[count : count + 2]:
                    machine.end(given[count : count + 2])
                    done[node.id] = count + len(given[count : count + 2])
                elif (orders := machine.orders().commands) and orders.last and node.result is None:
                    machine.finish()
            self.turn()
        raise AssertionError(f"the run does not end: {self.run.state}, {self.commands}, {self.world.told[-3:]}")

    def left(self, box: str) -> list[str]:
        """Return the objects with records in a machine's inbox."""
        return [key for key in self.bucket.objects if key.startswith(f"inbox/{box}/records/")]
