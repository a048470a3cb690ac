"""Machines played in virtual time: each speaks the protocol of core.protocol as an agent does, by a script.

Nothing here calls a clock or sleeps: a life yields how long to leave it alone.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import Retryable
from provisioner.core.protocol import codec, keys
from provisioner.core.protocol.messages import (
    STREAMS,
    Chunk,
    Notice,
    Orders,
    Outcome,
    Report,
    Result,
    SignalCause,
    Span,
    Started,
    Step,
    Stop,
    StreamEnd,
    WorkOrder,
)
from provisioner.ports.bucket import Bucket
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.ec2.model import Model

T = TypeVar("T")
Doing = Generator[float, None, T]

HEARTBEAT = 10.0
BOOT_FUSE = 1200.0
#: Between the tries to fetch the agent's archive, after the last of which the machine powers off (core.userdata).
FETCH_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
#: From the fetched archive to the agent's first call: assumed.
AGENT_STARTS = 2.0


@dataclass(frozen=True)
class Script:
    """What a machine plays, in seconds; `at` of a mishap counts from its kernel's start."""

    boot: float = 5.0
    pull: float = 10.0
    setup: float = 0.0
    command: float = 20.0
    exit_code: int = 0
    #: A step before the command that ends it all, and as what.
    fails: Step | None = None
    fails_as: Outcome = Outcome.LOST
    #: The command's own exit code when a spot notice makes it end early.
    exit_on_notice: int = 143
    #: The agent says nothing from then on; its job, if it runs, goes on.
    silent_at: float | None = None
    #: The power goes, with no reason the cloud would know.
    off_at: float | None = None
    #: Another agent process takes over; the job's own process is gone.
    restart_at: float | None = None
    #: Orders are not read.
    deaf: bool = False
    #: It works, but its reports never arrive.
    mute: bool = False
    #: The kernel runs, so the fuse works.
    fuse: bool = True
    #: How far the machine's clock is ahead.
    skew: float = 0.0


class Violation(BaseException):
    """A rule does not hold. No Exception, so that no code under test can take it for its own."""

    def __init__(self, rule: str, told: str = "") -> None:
        super().__init__(f"{rule}: {told}")
        self.rule = rule


@dataclass
class Executions:
    """The truth about commands: which runs execute on which machine now, and which orders ever did."""

    running: dict[str, str] = field(default_factory=dict)
    done: set[tuple[str, int, int]] = field(default_factory=set)

    def begin(self, order: WorkOrder, machine: str) -> None:
        if order.run in self.running:
            raise Violation(
                "I3 a run executes twice at a time", f"{order.run} on {self.running[order.run]} and {machine}"
            )
        which = (order.run, order.attempt, order.rank)
        if which in self.done:
            raise Violation("I3 a work order is executed again", f"{which} on {machine}")
        self.done.add(which)
        self.running[order.run] = machine

    def end(self, machine: str) -> None:
        self.running = {run: other for run, other in self.running.items() if other != machine}


class Agent:
    """One machine's agent, from its kernel's start until its power goes."""

    def __init__(
        self,
        instance: Instance,
        script: Script,
        model: Model,
        bucket: Bucket,
        now: Callable[[], float],
        new_id: Callable[[], str],
        executions: Executions,
        role_id: str,
    ) -> None:
        self.instance, self.script = instance, script
        self.box = keys.mailbox(role_id, instance.id)
        self.order: WorkOrder | None = None
        self.notice: Notice | None = None
        self.silent = False
        #: Chunks that the bucket acknowledged, by stream.
        self.acknowledged: dict[str, list[tuple[int, bytes]]] = {}
        #: When the first and the last report was acknowledged.
        self.heard_at: float | None = None
        self.last_heard_at = 0.0
        self.told_to_stop = False
        self._signal_cause = SignalCause.NONE
        #: When each step truly began.
        self.began_at: dict[Step, float] = {}
        self._model, self._bucket, self._now, self._new_id = model, bucket, now, new_id
        self._executions = executions
        self._fuse_at = instance.launch_time + BOOT_FUSE
        self._process, self._sequence = new_id(), 0
        self._spans: dict[str, Span] = {}
        self._produced = 0
        self._finished = False
        # On disk for another agent process, as the sequence is: the chunk that is not acknowledged, which that process
        # puts again; and the settled result, after which it writes no more.
        self._unshipped: tuple[str, int, bytes] | None = None
        self._settled: Result | None = None
        self._life = self._boot()
        booted = now()
        self._mishaps = sorted(
            (booted + at, name)
            for name, at in (("silent", script.silent_at), ("off", script.off_at), ("restart", script.restart_at))
            if at is not None
        )
        self._wake = booted + script.boot

    @property
    def running(self) -> bool:
        """Whether nobody has asked for its end."""
        return self._model.history(self.instance.id)[-1].state is MachineState.RUNNING

    @property
    def due(self) -> float:
        """When it acts next; for ever when it never will."""
        fuse = self._fuse_at if self.script.fuse else float("inf")
        mishap = self._mishaps[0][0] if self._mishaps else float("inf")
        return min(fuse, mishap, float("inf") if self.silent else self._wake)

    def produced(self, stream: str) -> int:
        """Bytes that were written of the stream, acknowledged or not."""
        acknowledged = sum(len(data) for _, data in self.acknowledged.get(stream, []))
        return max(acknowledged, self._produced if stream == "output" else 0)

    def act(self) -> None:
        now = self._now()
        if self.script.fuse and now >= self._fuse_at:
            self._power_off()
        elif self._mishaps and now >= self._mishaps[0][0]:
            getattr(self, f"_{self._mishaps.pop(0)[1]}")()
        else:
            try:
                self._wake = now + next(self._life)
            except StopIteration:
                self._power_off()

    def unplugged(self) -> None:
        """Its power is gone, and whatever ran with it."""
        self._executions.end(self.instance.id)

    def noticed(self, at: float) -> None:
        self.notice = Notice(at, self._now() + self.script.skew)
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
        if self.order is not None and not self._finished and not self.silent:
            self._executions.end(self.instance.id)
            self._process = self._new_id()
            self._life = self._resume()
            self._wake = self._now() + 2.0

    # The bucket

    def _try(self, deed: Callable[[], T]) -> Doing[T]:
        while True:
            try:
                return deed()
            except Retryable:
                yield 3.0

    def _put_once(self, key: str, message: object) -> Doing[bool]:
        """Whether what is there now is ours, even if an answer was lost."""
        data = codec.encode(message)
        if (yield from self._try(lambda: self._bucket.put(key, data, if_absent=True))):
            return True
        return (yield from self._try(lambda: self._bucket.get(key))) == data

    def _report(self, step: Step, *, finished: bool = False) -> Doing[None]:
        self._sequence += 1
        shipped = {stream: sum(len(data) for _, data in chunks) for stream, chunks in self.acknowledged.items()}
        report = Report(
            self._sequence,
            self._time(),
            self._process,
            step,
            dict(self._spans),
            {"output": self._produced},
            shipped,
            self.notice,
            finished=finished,
        )
        if self.script.mute:
            return
        key = keys.report_key(self.box, self._sequence)
        yield from self._try(lambda: self._bucket.put(key, codec.encode(report)))
        self.last_heard_at = self._now()
        self.heard_at = self.heard_at or self._now()

    def _write(self, stream: str, text: str) -> Doing[None]:
        chunks = self.acknowledged.setdefault(stream, [])
        offset = sum(len(data) for _, data in chunks)
        data = text.encode()
        if stream == "output":
            self._produced = offset + len(data)
        self._unshipped = (stream, offset, data)
        yield from self._ship(stream, offset, data)

    def _ship(self, stream: str, offset: int, data: bytes) -> Doing[None]:
        key = keys.chunk_key(self.box, stream, offset)
        yield from self._try(lambda: self._bucket.put(key, data))
        self.acknowledged[stream].append((offset, data))
        self._unshipped = None

    def _time(self) -> float:
        return self._now() + self.script.skew

    # Its life

    def _boot(self) -> Doing[None]:
        """Fetch the agent's archive as the user data does, then work."""
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
        yield from self._live()

    def _resume(self) -> Doing[None]:
        """Go on as another agent process."""
        if self._unshipped:
            yield from self._ship(*self._unshipped)
        yield from self._live() if self._settled is None else self._leave(self._settled)

    def _live(self) -> Doing[None]:
        while self.order is None:
            data = yield from self._try(lambda: self._bucket.get(keys.work_key(self.box)))
            if data is None:
                yield 5.0
            else:
                self.order = codec.decode(WorkOrder, data)
        order = self.order
        self._fuse_at = self.instance.launch_time + order.lifetime
        self._spans[Step.BOOT.value] = Span(self.instance.launch_time + self.script.skew, self._time())
        yield from self._write("system", f"attempt {order.attempt} of {order.run}\n")
        yield from self._work(order)
        if self.notice and self.notice.at < self.instance.launch_time + 3600:
            # The cloud's own interruption costs nothing in the first hour.
            yield max(0.0, self.notice.at + 180.0 - self._now())

    def _work(self, order: WorkOrder) -> Doing[None]:
        script = self.script
        for step, seconds in ((Step.PULL, script.pull), (Step.SETUP, script.setup), (Step.COMMAND, script.command)):
            if step is Step.COMMAND:
                mine = Started(self._process, self._time())
                if not (yield from self._put_once(keys.started_key(self.box), mine)):
                    yield from self._finish(step, Outcome.LOST, None, "started, no process found")
                    return
                self._executions.begin(order, self.instance.id)
            ended = yield from self._spend(order, step, seconds)
            if ended is not None:
                yield from self._finish(step, *ended)
                return
        code = script.exit_code
        outcome = Outcome.FAILED if code else Outcome.SUCCEEDED
        yield from self._finish(Step.COMMAND, outcome, code, f"the command exited with {code}")

    def _spend(self, order: WorkOrder, step: Step, seconds: float) -> Doing[tuple[Outcome, int | None, str] | None]:
        """Let the step take its time; how it ended, unless it ended well."""
        script, began, until = self.script, self._time(), self._now() + seconds
        limit = {Step.PULL: order.pull_limit, Step.SETUP: order.setup_limit}.get(step, order.runtime_limit)
        self.began_at[step] = self._now()
        limit_at = self._now() + limit
        code = 143 if step is Step.COMMAND else None
        self._spans[step.value] = Span(began)
        yield from self._report(step)
        while (left := min(until, limit_at) - self._now()) > 0:
            yield min(left, HEARTBEAT)
            if self.notice:
                self._end(step, began)
                self._signal_cause = SignalCause.NOTICE
                return Outcome.INTERRUPTED, script.exit_on_notice if code else None, "the spot machine is taken away"
            if stop := (yield from self._orders()):
                self._end(step, began)
                self.told_to_stop = True
                self._signal_cause = SignalCause.STOP
                return stop.outcome, code, stop.reason
            if step is Step.COMMAND:
                yield from self._write("output", f"{self._now():.0f}\n")
            if until > self._now():
                yield from self._report(step)
        self._end(step, began)
        if until > limit_at:
            self._signal_cause = SignalCause.LIMIT
            slow = Outcome.LOST if step is Step.PULL else Outcome.TIMED_OUT
            return slow, code, f"{step} passed its limit"
        if step is script.fails:
            own = 3 if script.fails_as is Outcome.FAILED else None
            return script.fails_as, own, f"{step} failed"
        return None

    def _end(self, step: Step, began: float) -> None:
        self._spans[step.value] = Span(began, self._time())

    def _orders(self) -> Doing[Stop | None]:
        data = yield from self._try(lambda: self._bucket.get(keys.orders_key(self.box)))
        return codec.decode(Orders, data).stop if data and not self.script.deaf else None

    def _finish(self, step: Step, outcome: Outcome, code: int | None, reason: str) -> Doing[None]:
        self._executions.end(self.instance.id)
        assert self.order is not None
        order = self.order
        result = Result(
            order.run,
            order.attempt,
            order.rank,
            self._process,
            outcome,
            step,
            code,
            reason,
            self._time(),
            dict(self._spans),
            {stream: end_of(self.acknowledged.get(stream, [])) for stream in STREAMS},
            self.notice,
            signal_cause=self._signal_cause,
        )
        self._settled = result
        yield from self._leave(result)

    def _leave(self, result: Result) -> Doing[None]:
        yield from self._put_once(keys.result_key(self.box), result)
        self._finished = True
        yield from self._report(Step.LOGS, finished=True)


def end_of(chunks: list[tuple[int, bytes]]) -> StreamEnd:
    """The end mark of a stream that consists of these chunks."""
    data = b"".join(piece for _, piece in chunks)
    sums = tuple(Chunk(offset, len(piece), hashlib.sha256(piece).hexdigest()) for offset, piece in chunks)
    return StreamEnd(len(data), hashlib.sha256(data).hexdigest(), sums)
