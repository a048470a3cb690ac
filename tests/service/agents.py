"""Machines in virtual time: a scripted agent, and its machine's boot, mishaps, fuse and power."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import Retryable
from provisioner.core.protocol import keys
from provisioner.core.protocol.command_lines import CommandEnd
from provisioner.core.protocol.messages import Notice, WorkOrder
from provisioner.core.protocol.words import SignalCause
from provisioner.ports.bucket import Bucket
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.machines import script
from provisioner.rehearsal.machines.scripted_agent import Doing
from provisioner.rehearsal.machines.scripted_list import ListAgent, Try
from tests.service.list_truth import ListTruth
from tests.service.older import OlderBucket
from tests.service.violation import Violation

BOOT_FUSE = 1200.0
#: Seconds between tries to fetch the agent's archive; after the last the machine powers off (core.cloud.user_data).
FETCH_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
#: Seconds from the fetched archive to the agent's first call: assumed.
AGENT_STARTS = 2.0
#: Seconds between looks for the work order, and after an error of the bucket.
POLL, RETRY = 5.0, 3.0


@dataclass(frozen=True)
class Script(script.Script):
    """A machine's script, in seconds; the times of mishaps count from its kernel's start."""

    boot: float = 5.0
    pull: float | None = 10.0
    setup: float | None = 0.0
    command: float = 20.0
    output: int = 0
    lines: bool = True
    #: At this time the agent is restarted, and the job's process has ended.
    restart_at: float | None = None
    #: Whether the fuse works, as on a machine whose kernel runs.
    fuse: bool = True
    #: Whether the agent is of the last release without runs on several machines.
    older: bool = False


@dataclass
class Executions:
    """The work orders that are executed now, by machine, and all work orders that ever were.

    A work order is identified by its run, attempt and rank.
    """

    running: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    done: set[tuple[str, int, int]] = field(default_factory=set)
    #: Work orders of runs with several ranks whose machine was ready.
    ready: set[tuple[str, int, int]] = field(default_factory=set)

    def begin(self, order: WorkOrder, machine: str) -> None:
        which = (order.run, order.attempt, order.rank)
        for other, (run, attempt, rank) in self.running.items():
            if run == order.run and (attempt != order.attempt or rank == order.rank):
                raise Violation(
                    "I3 a run executes twice at a time", f"{which} on {machine}, {attempt, rank} on {other}"
                )
        if which in self.done:
            raise Violation("I3 a work order is executed again", f"{which} on {machine}")
        ready = sum(each[:2] == which[:2] for each in self.ready)
        if order.scale > 1 and ready < order.scale:
            raise Violation("I11 a rank executes before all ranks are ready", f"{which} with {ready} ready ranks")
        self.done.add(which)
        self.running[machine] = which

    def end(self, machine: str) -> None:
        self.running.pop(machine, None)


class Agent(ListAgent):
    """The agent of one machine, from its kernel's start until its power ends."""

    def __init__(
        self,
        instance: Instance,
        script: Script,
        model: Model,
        bucket: Bucket,
        now: Callable[[], float],
        new_id: Callable[[], str],
        executions: Executions,
        lists: ListTruth,
        role_id: str,
    ) -> None:
        super().__init__(
            instance.id,
            keys.mailbox(role_id, instance.id),
            instance.launch_time,
            OlderBucket(bucket) if script.older else bucket,
            now,
            new_id,
            self._chosen,
            polls=itertools.repeat(POLL),
            retry=RETRY,
        )
        self.instance, self.plays = instance, script
        self.script = script
        self.silent = False
        self._model, self._executions, self._lists = model, executions, lists
        self._fuse_at = instance.launch_time + BOOT_FUSE
        self._life = self._boot()
        booted = now()
        self._mishaps = sorted(
            (booted + at, name)
            for name, at in (("silent", script.silent_at), ("off", script.off_at), ("restart", script.restart_at))
            if at is not None
        )
        self._wake = booted + script.boot

    def _chosen(self, order: WorkOrder) -> Script:
        self._fuse_at = self.instance.launch_time + order.lifetime
        return self.plays

    @property
    def told_to_stop(self) -> bool:
        return self.signal_cause is SignalCause.STOP

    @property
    def running(self) -> bool:
        """Whether the machine is running in the model of EC2, so that no end was requested."""
        return self._model.history(self.instance.id)[-1].state is MachineState.RUNNING

    @property
    def due(self) -> float:
        """The time of the agent's next action, or infinity."""
        fuse = self._fuse_at if self.plays.fuse else float("inf")
        mishap = self._mishaps[0][0] if self._mishaps else float("inf")
        return min(fuse, mishap, float("inf") if self.silent else self._wake)

    def act(self) -> None:
        now = self._now()
        if self.plays.fuse and now >= self._fuse_at:
            self._power_off()
        elif self._mishaps and now >= self._mishaps[0][0]:
            getattr(self, f"_{self._mishaps.pop(0)[1]}")()
        else:
            try:
                self._wake = now + next(self._life)
            except StopIteration:
                self._power_off()

    def ready(self, order: WorkOrder) -> None:
        self._executions.ready.add((order.run, order.attempt, order.rank))

    def begins(self, order: WorkOrder) -> None:
        self._executions.begin(order, self.instance.id)

    def ends(self) -> None:
        self._executions.end(self.instance.id)
        self._lists.gone(self.instance.id)

    def command_begins(self, order: WorkOrder, begun: Try) -> None:
        self._lists.begin(order.run, begun.index, begun.generation, self.instance.id, self.box, begun.batch)

    def command_ends(self, order: WorkOrder, end: CommandEnd, output: bytes) -> None:
        self._lists.end(order.run, end, output)

    def command_given_back(self, order: WorkOrder, batch: int, index: int, generation: int) -> None:
        self._lists.gave_back(order.run, index, generation, self.box, batch)

    def unplugged(self) -> None:
        """End everything that ran, because the power is off."""
        self.ends()

    def noticed(self, at: float) -> None:
        self.notice = Notice(at, self._now() + self.plays.skew)
        self._wake = min(self._wake, self._now() + 5.0)

    def _power_off(self) -> None:
        self.unplugged()
        self.silent = True
        self._fuse_at = float("inf")
        self._mishaps.clear()
        self._model.powered_off(self.instance.id, self._now())

    _off = _power_off

    def _silent(self) -> None:
        self.silent = True

    def _restart(self) -> None:
        if self.order is not None and not self.finished and not self.silent:
            self.ends()
            self._life = self.resumed()
            self._wake = self._now() + 2.0

    def _boot(self) -> Doing[None]:
        """Fetch the agent's archive as the user-data does, then work."""
        key = keys.agent_key(self.instance.template.content.user_data.split()[-1])
        for pause in (*FETCH_PAUSES, None):
            try:
                self._bucket.get(key)
            except Retryable:
                if pause is None:
                    return
                yield pause
            else:
                break
        yield AGENT_STARTS
        yield from self.life()
