"""Simulated machines in virtual time, with as many bucket requests as an agent whose job prints all the time."""

import heapq
import itertools
from collections.abc import Callable, Generator

from provisioner.agent.logs.shipper import LATEST, SOONEST, YOUNG
from provisioner.agent.watch import ORDERS_INTERVAL
from provisioner.core.protocol import keys
from provisioner.core.protocol.messages import Span, WorkOrder
from provisioner.core.protocol.words import Outcome, Step
from provisioner.rehearsal.ec2.instance import Booted
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted_agent import Doing, ScriptedAgent

#: A life yields the seconds until its next step.
Life = Generator[float, None, None]
LINE = b"loss 0.1\n"


class Lives:
    """Simulates every booted machine; the command of the n-th machine takes `seconds(n)`."""

    def __init__(self, cloud: FakeCloud, bucket: MemoryBucket, seconds: Callable[[int], float]) -> None:
        self._cloud, self._bucket, self._seconds = cloud, bucket, seconds
        self._role = cloud.profile("machine").role_id
        self._agenda: list[tuple[float, int, str, Life]] = []
        self._numbers, self._machines = itertools.count(), itertools.count()

    def play(self, now: float) -> None:
        """Carry out all steps of machines that are due by `now`."""
        self._cloud.model.advance(now)
        events, self._cloud.events = self._cloud.events + self._cloud.model.drain(), []
        for event in events:
            if isinstance(event, Booted):
                self._plan(now, event.instance.id, self._life(event.instance.id, next(self._machines)))
            else:
                self._cloud.model.gone(event.instance.id, now)
        while self._agenda and self._agenda[0][0] <= now:
            at, _, machine, life = heapq.heappop(self._agenda)
            if (pause := next(life, None)) is not None:
                self._plan(at + pause, machine, life)

    def _plan(self, at: float, machine: str, life: Life) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), machine, life))

    def _life(self, machine: str, number: int) -> Life:
        script = Script(command=self._seconds(number), output=0)

        def beside(life: Life) -> None:
            self._plan(self._now(), machine, life)

        box = keys.mailbox(self._role, machine)
        agent = _Printing(machine, box, self._bucket, self._now, script, beside)
        yield from agent.life()
        self._cloud.model.powered_off(machine, self._now())

    def _now(self) -> float:
        return self._cloud.clock.now()


class _Printing(ScriptedAgent):
    """An agent that ships output at the real agent's pace, and at the same time reads orders and puts reports."""

    def __init__(
        self,
        machine: str,
        box: str,
        bucket: MemoryBucket,
        now: Callable[[], float],
        script: Script,
        beside: Callable[[Life], None],
    ) -> None:
        """`beside` starts a second life, which runs at the same time."""
        began, polls = now(), itertools.repeat(1.0)
        super().__init__(machine, box, began, bucket, now, lambda: "process", lambda _: script, polls=polls, retry=1.0)
        self._beside = beside

    def _spend(self, order: WorkOrder, step: Step, seconds: float) -> Doing[tuple[Outcome, int | None, str] | None]:
        over: list[bool] = []
        self._spans[step.value] = Span(self._now())
        self._beside(self._orders(over))
        self._beside(self._heartbeat(order, step, over))
        until, chunks = self._now() + seconds, 0
        while self._now() < until:
            yield from self.write("output", LINE)
            chunks += 1
            yield min(LATEST, max(SOONEST, chunks / YOUNG), until - self._now())
        over.append(True)
        self._spans[step.value] = Span(self._spans[step.value].began, self._now())
        return None

    def _orders(self, over: list[bool]) -> Life:
        while not over:
            self._bucket.get(keys.orders_key(self.box))
            yield ORDERS_INTERVAL

    def _heartbeat(self, order: WorkOrder, step: Step, over: list[bool]) -> Life:
        while not over:
            yield from self.report(step)
            yield order.heartbeat_interval
