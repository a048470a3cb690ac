"""Execute the commands of a list: one thread serves all slots."""

from __future__ import annotations

import errno
import os
import resource
import select
import time
from collections.abc import Iterable

from provisioner.agent.job.engine import Termination
from provisioner.agent.logs.pump import FEW, GATHER
from provisioner.agent.logs.shipper import BRISK_OFTEN, OFTEN, SELDOM
from provisioner.agent.node import Node
from provisioner.agent.outcomes import TAKEN, Cause, Ended, broken
from provisioner.agent.slots.errands import Errands
from provisioner.agent.slots.gpu_shares import may_use_broken_gpu
from provisioner.agent.slots.held import HeldFailures
from provisioner.agent.slots.leftovers import Ending, Strangers
from provisioner.agent.slots.notes import insist
from provisioner.agent.slots.pace import Pace
from provisioner.agent.slots.queue import Assigned, Queue
from provisioner.agent.slots.slot import FRAME, KILLED, Slot
from provisioner.core.protocol.command_lines import CommandEnd, write_end
from provisioner.core.protocol.messages import Kept, ListReport, ListWork, Running, limit_of
from provisioner.core.protocol.words import RECORDS, Outcome, Step

#: Seconds between two checks of limits, orders and the job's first shell.
TICK = 0.1

#: Seconds from SIGTERM to SIGKILL for processes that a command leaves behind when it exits by itself.
LEFT_BEHIND = 5.0

#: Minimum free bytes on the spool's disk to accept output, and seconds to wait for them before this machine gives up.
ROOM, DISK_PATIENCE = 2 << 20, 120.0

#: Seconds to wait for the slots' shells at the end.
PATIENCE = 2.0

#: The mark of a try that is ended, and not recorded, because its GPU broke.
GPU = "gpu"


class Loop:
    def __init__(self, node: Node, work: ListWork) -> None:
        assert node.job_dir is not None
        _allow_files(work.slots)
        self._node = node
        self._work = work
        memory = node.paths.memory / "list"
        output = node.spool.stream("output")
        self._slots = [
            Slot(number, node.job_dir.slot(number), memory / f"slot-{number}", output, node.mask)
            for number in range(work.slots)
        ]
        begun = max(slot.begun for slot in self._slots)
        order = node.order
        self._queue = Queue(memory / "batches", order.run, order.attempt, order.rank, begun)
        self._held = HeldFailures(memory / "held")
        self._records = node.spool.stream(RECORDS)
        self._strangers = Strangers(node.engine.tree)
        self._termination: Termination | None = None
        self._errands = Errands(node, self._queue, self._held)
        #: Since when the disk of the spool has been full; None if it is not.
        self._full_since: float | None = None
        self._closed = False
        #: The commands to stop at the last search of the queue, and the number of batches that it had read then.
        self._sought: tuple[tuple[int, ...], int] = ((), 0)
        self._end = node.began(Step.COMMAND) + order.runtime_limit
        self._ended = self._failed = 0
        self._pace = Pace(time.monotonic())
        self._busy_at = time.monotonic()
        self._due = 0.0
        #: Until this time output is not read, so that it is read in larger pieces.
        self._gathering = 0.0
        self._bell = os.open(node.job_dir.folder / "bell", os.O_RDWR | os.O_NONBLOCK)
        self._pipes = {slot.output: slot for slot in self._slots}
        self._quiet, self._all = select.epoll(), select.epoll()
        self._quiet.register(self._bell, select.EPOLLIN)
        for pipe in (self._bell, *self._pipes):
            self._all.register(pipe, select.EPOLLIN)

    def run(self) -> Ended:
        """Execute commands until there is a reason to end; return it. No command's process runs then."""
        self._node.list_report = self.report
        # The control plane gives commands to a machine that joins others when it reports that it can begin them.
        self._node.changed.set()
        self._errands.start()
        # An earlier agent process may have died before it recorded them. A second record changes nothing.
        self._skip(self._queue.skipped)
        try:
            while (ended := self._turn()) is None:
                pass
            self._await_shells()
            return ended
        finally:
            self._errands.over.set()
            self._node.shipper.records_every = 0.0

    def report(self) -> ListReport:
        """Return the state of the list; any thread may call this."""
        given = [(slot.number, slot.given) for slot in self._slots]
        return ListReport(
            batches=self._queue.read,
            running=tuple(
                Running(number, each.index, each.generation, each.began) for number, each in given if each is not None
            ),
            ended=self._ended,
            failed=self._failed,
            waiting=self._queue.waiting,
            kept=tuple(Kept(batch, count) for batch, count in self._queue.kept.items()),
        )

    def _turn(self) -> Ended | None:
        for slot in self._hear():
            if slot.given is not None:
                slot.listen()
                self._settle(slot)
        now = time.monotonic()
        if now < self._due:
            return None
        self._due = now + TICK
        return self._tick(now)

    def _hear(self) -> Iterable[Slot]:
        """Wait for the bell, and for output; return the slots that rang. While the spool is full no output is read."""
        now = time.monotonic()
        wait, poll = max(0.0, self._due - now), self._all
        if self._full():
            poll = self._quiet
        elif now < self._gathering:
            wait, poll = min(wait, self._gathering - now), self._quiet
        rung: set[Slot] = set()
        taken = 0
        events = poll.poll(wait)
        for pipe, _ in events:
            if pipe == self._bell:
                rung.update(self._rung())
                continue
            try:
                taken += self._pipes[pipe].feed()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # The machine's memory is full, so the job must wait.
                time.sleep(TICK)
        if taken < FEW * len(events):
            self._gathering = time.monotonic() + GATHER
        return rung

    def _rung(self) -> Iterable[Slot]:
        for word in os.read(self._bell, 1 << 16).split():
            if word.isdigit() and len(word) < 4 and int(word) < len(self._slots):
                yield self._slots[int(word)]

    def _full(self) -> bool:
        """Return whether there is no room for output. Then commands wait, but limits and orders still have effect."""
        return self._node.spool.full(FRAME) or self._full_since is not None

    def _look_at_disk(self) -> None:
        """Notice that the disk of the spool is full, and free the agent's own reserve."""
        disk = os.statvfs(self._node.spool.folder)
        if disk.f_bfree * disk.f_frsize >= ROOM:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = time.monotonic()
            self._node.ballast.drop()

    def _tick(self, now: float) -> Ended | None:
        node = self._node
        if node.disks is not None:
            node.disks.look()
        self._look_at_disk()
        # Read `gone` before the slots: the first shell may end just after it has reported.
        gone = node.engine.exit_code()
        if gone is None and node.job_dir is not None:
            gone = node.job_dir.said("command")
        self._stop_single()
        if node.broken_gpus:
            self._leave_broken_gpus()
        for slot in self._slots:
            if slot.given is not None:
                slot.listen()
                self._settle(slot)
            if slot.given is None:
                self._begin(slot)
        self._measure(now)
        self._release()
        if node.halt.cause is not None:
            return self._halt(node.halt.cause, gone)
        if gone is not None:
            return Ended(Outcome.LOST, Step.COMMAND, "the job's shells ended before the list")
        trouble = self._errands.trouble
        if self._full_since is not None and now >= self._full_since + DISK_PATIENCE:
            trouble = "no space is left on the disk for the output of commands"
        if trouble:
            self._close()
            return Ended(Outcome.LOST, Step.COMMAND, trouble)
        if time.time() >= self._end:
            reason = limit_of("runtime", node.order.runtime_limit)
            node.halt.ask(Cause(Outcome.TIMED_OUT, reason, time.time() + node.order.stop_grace))
        return self._finished(now)

    def _settle(self, slot: Slot) -> None:
        """End a try that is too long; after a try's end kill what it left, record it, and begin the next command."""
        assert slot.given is not None
        if self._closed:
            return
        now, limit = time.time(), self._work.limit
        if slot.code is None:
            if slot.ending is None and limit is not None and now >= slot.given.began + limit:
                slot.why = "limit"
                slot.ending = Ending(self._node.engine.tree, slot.token, now + self._node.order.stop_grace)
            if slot.ending is not None:
                slot.ending.turn(reported=False)
            return
        if slot.ending is None and self._strangers.have(slot.token):
            slot.ending = Ending(self._node.engine.tree, slot.token, now + LEFT_BEHIND)
        if slot.ending is not None and slot.ending.turn(reported=True):
            return
        self._look_at_disk()
        if not self._full():
            self._finish(slot, slot.code)
            self._begin(slot)

    def _finish(self, slot: Slot, code: int) -> None:
        """Write the try's last output, then its record."""
        assert slot.given is not None
        given, signalled = slot.given, self._node.signalled
        extents = slot.finish()
        slot.given = None
        took = max(0.0, slot.ended_at - given.began)
        why = slot.why or ("stop" if signalled is not None else "")
        end = CommandEnd(given.batch, given.index, given.generation, given.began, took, code, why, extents)
        taken = signalled is not None and signalled.outcome in (Outcome.INTERRUPTED, Outcome.LOST)
        if taken or why == GPU:
            # SIGTERM may have ended it, whatever the code: it executes again on another machine.
            pass
        elif code and not why:
            self._held.add(time.time(), end)
        else:
            self._record(end)

    def _record(self, end: CommandEnd) -> None:
        self._records.write(write_end(end))
        self._ended += 1
        self._failed += end.code != 0

    def _stop_single(self) -> None:
        """End the running commands that are to be stopped, and record those that have not begun."""
        orders, node = self._node.orders.commands, self._node
        if orders is None or not orders.stop or self._closed:
            return
        for slot in self._slots:
            if slot.given is not None and slot.given.index in orders.stop and slot.code is None and not slot.ending:
                slot.why = "cancel"
                slot.ending = Ending(node.engine.tree, slot.token, time.time() + node.order.stop_grace)
        sought = orders.stop, self._queue.read
        if sought != self._sought and not self._full():
            self._skip(insist(lambda: self._queue.skip(frozenset(orders.stop))))
            self._sought = sought

    def _leave_broken_gpus(self) -> None:
        """End the commands on broken GPUs, which then execute again on another machine; the other commands go on."""
        node = self._node
        for slot in self._slots:
            runs = slot.given is not None and slot.code is None and slot.ending is None
            if runs and may_use_broken_gpu(node, slot.number):
                slot.why = GPU
                slot.ending = Ending(node.engine.tree, slot.token, time.time() + node.order.stop_grace)

    def _skip(self, commands: Iterable[Assigned]) -> None:
        """Record commands that were stopped before they began."""
        for each in commands:
            self._record(CommandEnd(each.batch, each.index, each.generation, time.time(), 0.0, 0, "skip"))

    def _begin(self, slot: Slot) -> None:
        node = self._node
        leaving = node.notice is not None or bool(node.broken_gpus) or node.halt.cause is not None
        command = None if leaving or self._closed or self._errands.finish else self._queue.take()
        if command is None:
            slot.rest()
            return
        slot.begin(command, node.order.run)
        if command.position == 0:
            self._queue.drop(command.batch)

    def _release(self) -> None:
        """Record the failures that no interruption has caused."""
        checked = self._errands.checked
        if self._held and (self._node.notice is not None or self._node.broken_gpus):
            self._held.drop()
        for end in self._held.before(checked.at, out_of_memory=checked.out_of_memory):
            self._record(end)

    def _halt(self, cause: Cause, gone: int | None) -> Ended | None:
        """End all commands: SIGTERM, then SIGKILL when no process is left or the grace period is over."""
        node = self._node
        if not self._closed:
            for slot in self._slots:
                if slot.given is not None and slot.code is not None:
                    self._finish(slot, slot.code)
            self._close()
        if node.signalled is None:
            node.say(f"SIGTERM to the commands: {cause.reason}")
        if node.signalled != cause:
            node.signalled = cause
            node.remember()
        tries = [slot for slot in self._slots if slot.given is not None]
        running = any(slot.code is None for slot in tries)
        if self._termination is None:
            self._termination = node.engine.termination(node.daemons, node.reached, node.say)
        left = self._termination.turn(cause.kill_at, reported=not running)
        if self._termination.reached != node.reached:
            node.reached = self._termination.reached
            node.remember()
        over = time.time() >= cause.kill_at
        if gone is None and not over and (running or left):
            return None
        if over and left and gone is None:
            node.say("SIGKILL to the commands: the grace period is over")
        node.engine.kill()
        node.ballast.drop()
        for slot in tries:
            slot.listen()
            slot.ended_at = slot.ended_at or time.time()
            self._finish(slot, KILLED if slot.code is None else slot.code)
        if self._held:
            self._errands.confirm()
            self._release()
        return Ended(cause.outcome, Step.COMMAND, cause.reason, None, cause.signal_cause)

    def _close(self) -> None:
        """Let no command begin, and the slots' shells end."""
        self._closed = True
        for slot in self._slots:
            slot.close()

    def _await_shells(self) -> None:
        """Wait until the slots' shells have ended, so that they do not count as processes that the job left behind."""
        end = time.monotonic() + PATIENCE
        job_dir = self._node.job_dir
        while job_dir is not None and job_dir.said("command") is None and time.monotonic() < end:
            if self._node.engine.exit_code() is not None:
                return
            time.sleep(0.02)

    def _finished(self, now: float) -> Ended | None:
        """Return the end of a list for which there is nothing left to do."""
        node = self._node
        if any(slot.given is not None for slot in self._slots):
            self._busy_at = now
            return None
        if node.notice is not None:
            self._close()
            return Ended(Outcome.INTERRUPTED, Step.COMMAND, TAKEN)
        if node.broken_gpus:
            self._close()
            return Ended(Outcome.LOST, Step.COMMAND, broken(node.broken_gpus))
        if self._held:
            return None
        if self._errands.finish:
            self._close()
            return Ended(Outcome.SUCCEEDED, Step.COMMAND, "the list ends early", 0)
        if self._queue.waiting:
            return None
        if self._errands.complete:
            self._close()
            return Ended(Outcome.SUCCEEDED, Step.COMMAND, "no command is left", 0)
        if now >= self._busy_at + self._work.idle_limit:
            self._close()
            return Ended(Outcome.SUCCEEDED, Step.COMMAND, f"no command for {self._work.idle_limit:g} s", 0)
        return None

    def _measure(self, now: float) -> None:
        """Adapt how often the machine makes requests to how fast its commands end, and to how many are left."""
        node, waiting = self._node, self._queue.waiting
        node.ahead = 0.0 if node.notice else self._pace.ahead(now, self._ended, waiting)
        idle = node.notice is not None or not (waiting or any(slot.given for slot in self._slots))
        # A chunk is due when the time since the last chunk reaches `ahead`, which shrinks as commands end: so it is due
        # when about half of the commands that waited at the last chunk have ended.
        often = BRISK_OFTEN if node.ahead else OFTEN
        node.shipper.records_every = 0.0 if idle else min(SELDOM, max(often, node.ahead))


def _allow_files(slots: int) -> None:
    """Let this process open the files of all slots."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 512 + 16 * slots
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
