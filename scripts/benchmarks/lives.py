"""Machines in virtual time, which ask and put as often as an agent whose job prints all the time."""

import hashlib
import heapq
import itertools
from collections.abc import Callable, Generator

from provisioner.agent.logs.shipper import LATEST, SOONEST, YOUNG
from provisioner.agent.watch import ORDERS_INTERVAL
from provisioner.core.protocol import keys
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.messages import (
    STREAMS,
    Chunk,
    Outcome,
    Report,
    Result,
    Span,
    Started,
    Step,
    StreamEnd,
    WorkOrder,
)
from provisioner.rehearsal.ec2.instance import Booted
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.cloud import FakeCloud

#: It yields how long to leave it alone.
Life = Generator[float, None, None]
LINE = b"loss 0.1\n"


class Lives:
    """Plays every machine that has booted; `seconds(n)` is how long the n-th one's command takes."""

    def __init__(self, cloud: FakeCloud, bucket: MemoryBucket, seconds: Callable[[int], float]) -> None:
        self._cloud, self._bucket, self._seconds = cloud, bucket, seconds
        self._role = cloud.profile("machine").role_id
        self._agenda: list[tuple[float, int, str, Life]] = []
        self._numbers, self._machines = itertools.count(), itertools.count()

    def play(self, now: float) -> None:
        """Let all happen that is due."""
        self._cloud.model.advance(now)
        events, self._cloud.events = self._cloud.events + self._cloud.model.drain(), []
        for event in events:
            if isinstance(event, Booted):
                self._plan(now, event.instance.id, self._work(event.instance.id, next(self._machines)))
            else:
                self._cloud.model.gone(event.instance.id, now)
        while self._agenda and self._agenda[0][0] <= now:
            at, _, machine, life = heapq.heappop(self._agenda)
            if (pause := next(life, None)) is not None:
                self._plan(at + pause, machine, life)

    def _plan(self, at: float, machine: str, life: Life) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), machine, life))

    def _work(self, machine: str, number: int) -> Life:
        box, began = keys.mailbox(self._role, machine), self._now()
        while (data := self._bucket.get(keys.work_key(box))) is None:
            yield 1.0
        order = decode(WorkOrder, data)
        spans = {Step.BOOT.value: Span(began, self._now()), Step.COMMAND.value: Span(self._now())}
        self._bucket.put(keys.started_key(box), encode(Started("process", self._now())), if_absent=True)
        over: list[bool] = []
        self._plan(self._now(), machine, self._orders(box, over))
        self._plan(self._now(), machine, self._heartbeat(box, order, spans, over))
        chunks: list[Chunk] = []
        until = self._now() + self._seconds(number)
        while self._now() < until:
            sha256 = hashlib.sha256(LINE).hexdigest()
            chunks.append(Chunk(len(chunks) * len(LINE), len(LINE), sha256))
            self._bucket.put(keys.chunk_key(box, "output", chunks[-1].offset), LINE)
            yield min(LATEST, max(SOONEST, len(chunks) / YOUNG), until - self._now())
        over.append(True)
        output = LINE * len(chunks)
        ends = {name: StreamEnd(0, hashlib.sha256(b"").hexdigest(), ()) for name in STREAMS}
        ends["output"] = StreamEnd(len(output), hashlib.sha256(output).hexdigest(), tuple(chunks))
        result = Result(
            order.run,
            order.attempt,
            order.rank,
            "process",
            Outcome.SUCCEEDED,
            Step.COMMAND,
            0,
            "the command exited with 0",
            self._now(),
            {**spans, Step.COMMAND.value: Span(spans[Step.COMMAND.value].began, self._now())},
            ends,
        )
        self._bucket.put(keys.result_key(box), encode(result), if_absent=True)
        last = Report(10**6, self._now(), "process", Step.LOGS, result.spans, finished=True)
        self._bucket.put(keys.report_key(box, last.sequence), encode(last))
        self._cloud.model.powered_off(machine, self._now())

    def _orders(self, box: str, over: list[bool]) -> Life:
        while not over:
            self._bucket.get(keys.orders_key(box))
            yield ORDERS_INTERVAL

    def _heartbeat(self, box: str, order: WorkOrder, spans: dict[str, Span], over: list[bool]) -> Life:
        for sequence in itertools.count(1):
            if over:
                return
            report = Report(sequence, self._now(), "process", Step.COMMAND, spans)
            self._bucket.put(keys.report_key(box, sequence), encode(report))
            yield order.heartbeat_interval

    def _now(self) -> float:
        return self._cloud.clock.now()
