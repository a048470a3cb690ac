"""The list work of a scripted agent: it executes no command, but computes from its script when each one ends."""

import heapq
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from provisioner.agent.logs.shipper import BRISK_OFTEN, OFTEN, SELDOM
from provisioner.agent.slots.pace import Pace
from provisioner.agent.watch import BRISK_HEARTBEAT, BRISK_INTERVAL
from provisioner.core.protocol import keys
from provisioner.core.protocol.batches import decode_batch
from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.protocol.messages import Kept, ListOrders, ListReport, ListWork, Orders, Running, Span, WorkOrder
from provisioner.core.protocol.words import RECORDS, Outcome, SignalCause, Step
from provisioner.rehearsal.machines.script import CommandScript
from provisioner.rehearsal.machines.scripted_agent import Doing, Ended, ScriptedAgent

#: Seconds before a spot machine's interruption at which its commands are killed.
KILL_BEFORE = 30.0


@dataclass(frozen=True, order=True)
class Try:
    """One command in a slot; it ends at `until` by the world's clock."""

    until: float
    slot: int
    batch: int
    index: int
    generation: int
    began: float
    code: int = 0
    why: str = ""


def output(index: int, generation: int, size: int) -> bytes:
    """Return the output of a command on a scripted machine."""
    text = b"%d %d\n" % (index, generation)
    return (text * (size // len(text) + 1))[:size]


class Slots:
    """The commands of one machine, in slots. Pure: the caller sets the time."""

    def __init__(
        self,
        work: ListWork,
        script: CommandScript,
        skew: float,
        begins: Callable[[Try], None],
        ends: Callable[[CommandEnd, bytes], None],
        gives_back: Callable[[int, int, int], None],
    ) -> None:
        """`begins`, and `ends` with the output, are called for each command.

        `gives_back` is called with its batch, index and generation.
        `skew` is the number of seconds by which the machine's clock is ahead.
        """
        self.takes = True
        self.batches = self.ended = self.failed = 0
        #: When a command that panics ends the machine; infinity if none does.
        self.dies_at = float("inf")
        #: Record lines and output that no chunk has yet; `output_at` is the offset of this output in its stream.
        self.lines, self.output, self.output_at = bytearray(), bytearray(), 0
        self.running: list[Try] = []
        #: When the machine last had a command that runs or waits.
        self.busy_at = 0.0
        self._script, self._limit, self._skew = script, work.limit, skew
        self._begins, self._ends, self._gives_back = begins, ends, gives_back
        #: The next commands: batch, index, generation, and when the batch was read.
        self._queue: deque[tuple[int, int, int, float]] = deque()
        self._free = [(0.0, slot) for slot in range(work.slots)]
        #: Number of commands of each batch.
        self._sizes: dict[int, int] = {}
        #: The answers to recalls: by batch, how many of its commands the machine keeps.
        self.kept: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def next_end(self) -> float:
        return self.running[0].until if self.running else float("inf")

    def read(self, data: bytes, now: float) -> None:
        """Queue the commands of the next batch."""
        head, _ = decode_batch(data)
        self.batches = head.number
        self._sizes[head.number] = sum(count for _, count, _ in head.ranges)
        for first, count, generation in head.ranges:
            self._queue.extend((head.number, index, generation, now) for index in range(first, first + count))

    def give_back(self, batch: int, spare: int) -> None:
        """Give back the commands of a batch that have not begun, but for the first `spare`; once for each batch."""
        if batch in self.kept or batch > self.batches:
            return
        mine = [each for each in self._queue if each[0] == batch]
        self.kept[batch] = self._sizes[batch] - len(mine[spare:])
        for _, index, generation, _ in mine[spare:]:
            self._gives_back(batch, index, generation)
        gone = set(mine[spare:])
        self._queue = deque(each for each in self._queue if each not in gone)

    def stop(self, indices: Collection[int], now: float) -> None:
        """End these commands; those that have not begun get a record without being begun."""
        if not indices:
            return
        self.advance(now)
        for each in [each for each in self.running if each.index in indices]:
            self.running.remove(each)
            heapq.heapify(self.running)
            self._end(replace(each, until=now, code=143, why="cancel"))
            heapq.heappush(self._free, (now, each.slot))
        for batch, index, generation, _ in [each for each in self._queue if each[1] in indices]:
            end = CommandEnd(batch, index, generation, now + self._skew, 0.0, 0, "skip")
            self.lines += write_end(end)
            self.ended += 1
            self._ends(end, b"")
        self._queue = deque(each for each in self._queue if each[1] not in indices)

    def advance(self, now: float) -> None:
        """Begin and end all commands that are due."""
        while True:
            while self.takes and self._free and self._queue:
                self._begin(*heapq.heappop(self._free))
            if self.next_end > min(now, self.dies_at):
                break
            ended = heapq.heappop(self.running)
            self._end(ended)
            heapq.heappush(self._free, (ended.until, ended.slot))
        if self.running or (self._queue and self.takes):
            self.busy_at = now

    def kill(self, now: float, why: str) -> None:
        """End the running commands with SIGTERM, after those that are due; if `why` is empty, they get no record."""
        if why:
            self.advance(now)
        self.takes = False
        for each in self.running if why else ():
            self._end(replace(each, until=now, code=143, why=why))
        self.running.clear()

    def _begin(self, since: float, slot: int) -> None:
        batch, index, generation, read_at = self._queue.popleft()
        began, script = max(since, read_at), self._script
        took = script.seconds * (1 + script.spread * (index * 0.618 % 1))
        code, why = (1 if script.all_fail or index in script.fails else 0), ""
        if self._limit is not None and took > self._limit:
            took, code, why = self._limit, 143, "limit"
        begun = Try(began + took, slot, batch, index, generation, began, code, why)
        heapq.heappush(self.running, begun)
        self._begins(begun)
        if index in script.panics:
            self.dies_at = min(self.dies_at, began + took / 2)

    def _end(self, each: Try) -> None:
        printed = output(each.index, each.generation, self._script.output)
        extents = ((self.output_at, len(self.output), len(printed)),) if printed else ()
        self.output += printed
        end = CommandEnd(
            each.batch,
            each.index,
            each.generation,
            each.began + self._skew,
            each.until - each.began,
            each.code,
            each.why,
            extents,
        )
        self.lines += write_end(end)
        self.ended += 1
        self.failed += bool(each.code)
        self._ends(end, printed)


class ListAgent(ScriptedAgent):
    """A scripted agent that can also work through a list of commands."""

    #: The list that the agent works through.
    slots: Slots | None = None
    #: Whether a command has ended the machine.
    panicked = False
    #: Seconds between two reads of the orders, as a real agent has them; None: with each report, so that a simulation
    #: has fewer steps.
    orders_interval: float | None = None

    # Methods that a driver may override

    def command_begins(self, order: WorkOrder, begun: Try) -> None:
        """Called when a command of the list begins."""

    def command_ends(self, order: WorkOrder, end: CommandEnd, output: bytes) -> None:
        """Called when a command of the list has ended, before its record is put."""

    def command_given_back(self, order: WorkOrder, batch: int, index: int, generation: int) -> None:
        """Called when the machine has decided never to begin a command that was recalled."""

    def resumed(self) -> Doing[None]:
        if self.slots:
            # The container ended with the first agent process, and its running commands with it.
            self.slots.kill(self._now(), "")
        return super().resumed()

    # The list

    def list_report(self) -> ListReport | None:
        if (slots := self.slots) is None:
            return None
        running = tuple(
            Running(each.slot, each.index, each.generation, each.began + self.script.skew) for each in slots.running
        )
        return ListReport(
            batches=slots.batches,
            running=running,
            ended=slots.ended,
            failed=slots.failed,
            waiting=slots.waiting,
            kept=tuple(Kept(batch, count) for batch, count in sorted(slots.kept.items())[-16:]),
        )

    def _execute(self, order: WorkOrder) -> Doing[Ended | None]:
        if order.commands is None:
            return (yield from super()._execute(order))
        began = self._time()
        self._spans[Step.COMMAND.value] = Span(began)
        self.began_at[Step.COMMAND] = self._now()
        self.slots = Slots(
            order.commands,
            self.script.commands,
            self.script.skew,
            lambda begun: self.command_begins(order, begun),
            lambda end, output: self.command_ends(order, end, output),
            lambda *place: self.command_given_back(order, *place),
        )
        self.slots.busy_at = self._now()
        ended = yield from self._work_list(order, order.commands, self.slots)
        self._end(Step.COMMAND, began)
        return ended

    def _work_list(self, order: WorkOrder, work: ListWork, slots: Slots) -> Doing[Ended]:
        limit_at = self._now() + order.runtime_limit
        report_at = orders_at = self._now()
        shipped_at, pace, heartbeat = self._now(), Pace(self._now()), order.heartbeat_interval
        orders = ListOrders()
        while True:
            slots.advance(self._now())
            ahead = pace.ahead(self._now(), slots.ended, slots.waiting) / 2
            # The same time as that of an agent which compares the seconds since its last chunk with those of its work.
            half = ahead + (self._now() - shipped_at) / 2
            ship_at = shipped_at + min(SELDOM, max(BRISK_OFTEN, half) if ahead else OFTEN)
            if self._now() >= slots.dies_at:
                self.panicked = True
                return Outcome.LOST, None, "a command ended the machine"
            if self._now() >= limit_at:
                slots.kill(self._now(), "stop")
                self.signal_cause = SignalCause.LIMIT
                return Outcome.TIMED_OUT, 143, f"{Step.COMMAND} passed its limit"
            kill_at = float("inf")
            if self.notice:
                slots.takes, kill_at = False, self.notice.at - KILL_BEFORE
                if not slots.running or self._now() >= kill_at:
                    slots.kill(self._now(), "")
                    self.signal_cause = SignalCause.NOTICE
                    return Outcome.INTERRUPTED, None, "the spot machine is taken away"
            if slots.lines and (self._now() >= ship_at or not (slots.running or slots.waiting)):
                yield from self._ship_list(slots)
                shipped_at, ship_at = self._now(), self._now() + OFTEN
            if self._now() >= orders_at:
                orders_at = self._now() + min(BRISK_INTERVAL, max(self.orders_interval or heartbeat, ahead))
                found = yield from self._read_list_orders(slots)
                if found.stop:
                    slots.kill(self._now(), "stop")
                    self.signal_cause = SignalCause.STOP
                    return found.stop.outcome, 143, found.stop.reason
                orders = found.commands or orders
                answered = len(slots.kept)
                for each in orders.recalls:
                    slots.give_back(each.batch, each.spare)
                slots.stop(orders.stop, self._now())
                slots.takes = slots.takes and not orders.finish
                if len(slots.kept) > answered:
                    report_at = self._now()
            if self._now() >= report_at:
                yield from self.report(Step.COMMAND)
                report_at = self._now() + min(BRISK_HEARTBEAT * heartbeat, max(heartbeat, ahead))
            slots.advance(self._now())
            left = slots.running or (slots.waiting and not orders.finish)
            if orders.finish and not left:
                return Outcome.SUCCEEDED, 0, "the list ends early"
            if orders.last and not left and slots.batches >= orders.batches:
                return Outcome.SUCCEEDED, 0, "no command is left"
            if not left and self._now() >= slots.busy_at + work.idle_limit:
                return Outcome.SUCCEEDED, 0, f"no work for {work.idle_limit:.0f} s"
            # A machine with short commands wakes only for its messages: `advance` computes what happened meanwhile.
            end = slots.next_end if self.script.commands.seconds >= 1.0 else float("inf")
            due_at = max(ship_at, 0.0 if slots.lines else slots.next_end)
            yield max(0.0, min(report_at, orders_at, due_at, limit_at, kill_at, slots.dies_at, end) - self._now())

    def _read_list_orders(self, slots: Slots) -> Doing[Orders]:
        """Return the orders, after the batches that they name were read."""
        orders = yield from self._read_orders()
        while orders.commands and slots.batches < orders.commands.batches and not self.notice:
            key = keys.batch_key(self.box, slots.batches + 1)
            data = yield from self._try(lambda: self._bucket.get(key))  # noqa: B023 - called at once
            if data is None:
                break
            slots.read(data, self._now())
        return orders

    def _ship_list(self, slots: Slots) -> Doing[None]:
        """Put the output of ended commands, and then their records."""
        if slots.output:
            output = bytes(slots.output)
            slots.output_at += len(output)
            slots.output.clear()
            yield from self.write("output", output)
        while slots.lines:
            piece = bytes(slots.lines[: self.script.commands.chunk])
            del slots.lines[: len(piece)]
            yield from self.write(RECORDS, piece)

    def _stay(self) -> Doing[None]:
        if not self.panicked:
            yield from super()._stay()

    def _finish(self, step: Step, outcome: Outcome, code: int | None, reason: str) -> Doing[None]:
        if self.panicked:
            return
        if self.slots:
            yield from self._ship_list(self.slots)
        yield from super()._finish(step, outcome, code, reason)
