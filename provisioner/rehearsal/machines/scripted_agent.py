"""An agent that only follows the protocol: its steps do no work, and a script sets their durations and outcomes.

The agent never waits: its life is a generator that yields the seconds until its next step. So one thread can run
thousands of agents in real time, and a test can run them in virtual time.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, TypeVar

from provisioner.core.errors import Retryable
from provisioner.core.protocol import codec, keys
from provisioner.core.protocol.messages import (
    Chunk,
    ListReport,
    Notice,
    Orders,
    Report,
    Result,
    Span,
    Started,
    StreamEnd,
    WorkOrder,
)
from provisioner.core.protocol.words import ENDED_BY_OTHERS, RECORDS, STREAMS, Outcome, SignalCause, Step
from provisioner.rehearsal.machines.script import Script

T = TypeVar("T")
#: An operation that takes time: a generator that yields the seconds to wait, and returns a value.
Doing = Generator[float, None, T]

#: What ended the work: the outcome, the exit code if a process ended, and the reason.
Ended = tuple[Outcome, int | None, str]

#: Seconds between two reads of the orders while the ranks of a run wait for each other.
BARRIER_INTERVAL = 1.0
#: Seconds between two looks for the work order of the next attempt.
WAITING_INTERVAL = 1.0

#: A line of the simulated output.
LINE = b"a line of a scripted machine's output\n"


class AgentBucket(Protocol):
    """The bucket operations that an agent needs; both methods may raise Retryable errors."""

    def get(self, key: str) -> bytes | None:
        """Return the object, or None if there is none."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Store the object; return False if `if_absent` is set and the object exists."""


class ScriptedAgent:
    """One agent process of one machine."""

    def __init__(
        self,
        machine: str,
        box: str,
        launch_time: float,
        bucket: AgentBucket,
        now: Callable[[], float],
        new_id: Callable[[], str],
        choose: Callable[[WorkOrder], Script],
        *,
        polls: Iterator[float],
        retry: float,
    ) -> None:
        """`polls` yields the pauses between reads of the work order; `retry` is the pause after a bucket error."""
        self.machine, self.box, self.launch_time = machine, box, launch_time
        self.script = Script()
        self.order: WorkOrder | None = None
        self.notice: Notice | None = None
        #: The attempt in the keys of messages; 0 for the machine's first attempt.
        self.later = 0
        #: When the machine began to wait for the next attempt's work order; None while it does not wait.
        self.waits_since: float | None = None
        #: Chunks that the bucket acknowledged, by `later` and stream: offset and data.
        self.logs: dict[int, dict[str, list[tuple[int, bytes]]]] = {}
        #: When the first and the last report was acknowledged.
        self.heard_at: float | None = None
        self.last_heard_at = 0.0
        #: When each step began, without the skew of the machine's clock.
        self.began_at: dict[Step, float] = {}
        self.signal_cause = SignalCause.NONE
        self.finished = False
        self._bucket, self._now, self._new_id, self._choose = bucket, now, new_id, choose
        self._polls, self._retry = polls, retry
        self._process, self._sequence = new_id(), 0
        self._spans: dict[str, Span] = {}
        #: Bytes that the command has written to `output`; bytes that the bucket has acknowledged, by stream.
        self._produced = 0
        self._shipped: dict[str, int] = {}
        #: State on disk, for a restarted agent process: the unacknowledged chunk, and the final result.
        self._unshipped: tuple[str, int, bytes] | None = None
        self._settled: Result | None = None
        #: Whether the last orders to stop end the run.
        self._ends_run = False

    # Methods that a driver may override

    def begins(self, order: WorkOrder) -> None:
        """Called when the command of this work order begins to execute."""

    def ready(self, order: WorkOrder) -> None:
        """Called when the rank is ready to start together with the others."""

    def ends(self) -> None:
        """Called when the command no longer executes."""

    def list_report(self) -> ListReport | None:
        """Return what reports say about a list of commands."""
        return None

    # The life

    def life(self) -> Doing[None]:
        """Read the work order, carry it out, and put the result."""
        while self.order is None:
            data = yield from self._try(lambda: self._bucket.get(keys.work_key(self.box, self.later)))
            if data is None:
                yield next(self._polls)
            else:
                self.order = codec.decode(WorkOrder, data)
                self.script = self._choose(self.order)
        order = self.order
        booted_at = self._time() if self.later else self.launch_time + self.script.skew
        self._spans[Step.BOOT.value] = Span(booted_at, self._time())
        if self.script.lines:
            yield from self.write("system", f"attempt {order.attempt} of {order.run}\n".encode())
        yield from self._work(order)
        yield from self._stay()

    def _stay(self) -> Doing[None]:
        """Wait for the next attempt if the machine was offered, and work for it; or wait for EC2's interruption."""
        if self.waits_since is not None and (yield from self._wait_for_work(self.waits_since)):
            yield from self.life()
        elif self.notice and self.notice.at < self.launch_time + 3600:
            # A spot machine that EC2 itself interrupts in its first hour is free, so wait for the interruption.
            yield max(0.0, self.notice.at + 180.0 - self._now())

    def resumed(self) -> Doing[None]:
        """Start a new agent process on the machine, and return its life, which continues the work of the first one."""
        self._process = self._new_id()
        return self._resume()

    def _resume(self) -> Doing[None]:
        if self._unshipped:
            yield from self._ship(*self._unshipped)
        if self._settled is None:
            yield from self.life()
        else:
            yield from self._leave(self._settled)
            yield from self._stay()

    def _work(self, order: WorkOrder) -> Doing[None]:
        script = self.script
        steps = ((Step.PULL, script.pull), (Step.CLONE, script.clone), (Step.SETUP, script.setup))
        for step, seconds in (*steps, (Step.COMMAND, script.command)):
            if seconds is None:
                continue
            if step is Step.COMMAND:
                if order.scale > 1 and (ended := (yield from self._wait_for_ranks(order))) is not None:
                    yield from self._finish(Step.BARRIER, *ended)
                    return
                mine = Started(self._process, self._time())
                if not (yield from self._put_once(keys.started_key(self.box, self.later), mine)):
                    reason = "the command was started before, and none of its processes was found on this machine"
                    yield from self._finish(step, Outcome.LOST, None, reason)
                    return
                self.begins(order)
            ended = yield from self._execute(order) if step is Step.COMMAND else self._spend(order, step, seconds)
            if ended is not None:
                yield from self._finish(step, *ended)
                return
        code = script.exit_code
        outcome = Outcome.FAILED if code else Outcome.SUCCEEDED
        yield from self._finish(Step.COMMAND, outcome, code, f"the command exited with {code}")

    def _execute(self, order: WorkOrder) -> Doing[Ended | None]:
        """Execute the command; return None if its exit code is the script's, else what ended it."""
        script = self.script
        ended = yield from self._spend(order, Step.COMMAND, script.command)
        if script.output:
            yield from self.write("output", (LINE * (script.output // len(LINE) + 1))[: script.output])
        return ended

    def _wait_for_ranks(self, order: WorkOrder) -> Doing[Ended | None]:
        """Wait until all ranks are ready; return None if the command starts now, else what ended the work."""
        began, report_at = self._time(), self._now()
        self.began_at[Step.BARRIER] = self._now()
        self._spans[Step.BARRIER.value] = Span(began)
        self.ready(order)
        while True:
            if self._now() >= report_at:
                yield from self.report(Step.BARRIER)
                report_at = self._now() + order.heartbeat_interval
            orders = yield from self._read_orders()
            if orders.stop:
                self.signal_cause = SignalCause.STOP
                return orders.stop.outcome, None, orders.stop.reason
            if orders.start == order.attempt:
                self._end(Step.BARRIER, began)
                return None
            if self.notice:
                return Outcome.INTERRUPTED, None, "the spot machine is taken away"
            if self._time() >= began + order.gather_limit:
                return Outcome.LOST, None, "not all ranks were ready in time"
            yield BARRIER_INTERVAL

    def _spend(self, order: WorkOrder, step: Step, seconds: float) -> Doing[Ended | None]:
        """Spend the step's time; return None if the step succeeded, else its outcome, exit code and reason."""
        script, began, until = self.script, self._time(), self._now() + seconds
        limit = {Step.SETUP: order.setup_limit, Step.COMMAND: order.runtime_limit}.get(step, order.pull_limit)
        self.began_at[step] = self._now()
        limit_at = self._now() + limit
        code = 143 if step is Step.COMMAND else None
        self._spans[step.value] = Span(began)
        yield from self.report(step)
        while (left := min(until, limit_at) - self._now()) > 0:
            yield min(left, order.heartbeat_interval)
            if self.notice:
                self._end(step, began)
                self.signal_cause = SignalCause.NOTICE
                return Outcome.INTERRUPTED, script.exit_on_notice if code else None, "the spot machine is taken away"
            if stop := (yield from self._read_orders()).stop:
                self._end(step, began)
                self.signal_cause = SignalCause.STOP
                return stop.outcome, code, stop.reason
            if step is Step.COMMAND and script.lines:
                yield from self.write("output", f"{self._now():.0f}\n".encode())
            if until > self._now():
                yield from self.report(step)
        self._end(step, began)
        if until > limit_at:
            self.signal_cause = SignalCause.LIMIT
            slow = Outcome.LOST if step in (Step.PULL, Step.CLONE) else Outcome.TIMED_OUT
            return slow, code, f"{step} passed its limit"
        if step is script.fails:
            own = 3 if script.fails_as is Outcome.FAILED else None
            return script.fails_as, own, f"{step} failed"
        return None

    def _end(self, step: Step, began: float) -> None:
        self._spans[step.value] = Span(began, self._time())

    def _time(self) -> float:
        """Return the time of the machine's clock."""
        return self._now() + self.script.skew

    # The protocol

    def report(self, step: Step, *, finished: bool = False, ended: Outcome | None = None) -> Doing[None]:
        """Put a report about the step."""
        self._sequence += 1
        said = Report(
            self._sequence,
            self._time(),
            self._process,
            step,
            dict(self._spans),
            {"output": self._produced},
            dict(self._shipped),
            self.notice,
            finished=finished,
            ended=ended,
            attempt=self.order.attempt if self.order else 0,
            waits=self.waits_since is not None,
            commands=self.list_report(),
        )
        if self.script.mute:
            return
        key = keys.report_key(self.box, self._sequence)
        yield from self._try(lambda: self._bucket.put(key, codec.encode(said)))
        self.last_heard_at = self._now()
        self.heard_at = self.heard_at or self._now()

    def write(self, stream: str, data: bytes) -> Doing[None]:
        """Append to a stream, and ship it as one chunk."""
        offset = self._shipped.setdefault(stream, 0)
        if stream == "output":
            self._produced = offset + len(data)
        self._unshipped = (stream, offset, data)
        yield from self._ship(stream, offset, data)

    def produced(self, stream: str) -> int:
        """Return how many bytes of the present attempt's stream were written, acknowledged or not."""
        return max(self._shipped.get(stream, 0), self._produced if stream == "output" else 0)

    def _ship(self, stream: str, offset: int, data: bytes) -> Doing[None]:
        key = keys.chunk_key(self.box, stream, offset, self.later)
        if stream == RECORDS:
            key = keys.records_key(self.box, offset)
        yield from self._try(lambda: self._bucket.put(key, data))
        self.logs.setdefault(self.later, {}).setdefault(stream, []).append((offset, data))
        self._shipped[stream] = offset + len(data)
        self._unshipped = None

    def _read_orders(self) -> Doing[Orders]:
        data = yield from self._try(lambda: self._bucket.get(keys.orders_key(self.box)))
        found = codec.decode(Orders, data) if data and not self.script.deaf else Orders()
        self._ends_run = bool(found.stop and found.stop.ends_run)
        return found if self.order and found.attempt in (0, self.order.attempt) else Orders()

    def _finish(self, step: Step, outcome: Outcome, code: int | None, reason: str) -> Doing[None]:
        self.ends()
        assert self.order is not None, "a work order came before its end"
        order = self.order
        if order.scale > 1:
            yield from self.report(step, ended=outcome)
        self._settled = Result(
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
            {stream: end_of(self.logs.get(self.later, {}).get(stream, [])) for stream in STREAMS},
            self.notice,
            signal_cause=self.signal_cause,
        )
        yield from self._leave(self._settled)

    def _leave(self, result: Result) -> Doing[None]:
        yield from self._put_once(keys.result_key(self.box, self.later), result)
        by_others = result.outcome in ENDED_BY_OTHERS and not self._ends_run
        if self.order and self.order.waiting_limit and by_others and not self.notice:
            mark = codec.encode(Started(self._process, self._time()))
            yield from self._try(lambda: self._bucket.put(keys.started_key(self.box, self.later), mark, if_absent=True))
            yield from self._try(lambda: self._bucket.put(keys.waits_key(self.box), b""))
            self.waits_since = self._now()
        self.finished = True
        yield from self.report(Step.LOGS, finished=True)

    def _wait_for_work(self, since: float) -> Doing[bool]:
        """Wait for the next attempt's work order; return whether it came in time."""
        assert self.order is not None, "a work order came before its end"
        order, report_at = self.order, since
        later = order.attempt + 1
        while self._now() < since + order.waiting_limit and not self.notice:
            if (yield from self._try(lambda: self._bucket.get(keys.work_key(self.box, later)))) is not None:
                self._forget()
                self.later = later
                return True
            if self._now() >= report_at + order.heartbeat_interval:
                report_at = self._now()
                yield from self.report(Step.LOGS, finished=True)
            yield WAITING_INTERVAL
        self.waits_since = None
        yield from self.report(Step.LOGS, finished=True)
        return False

    def _forget(self) -> None:
        """Forget the attempt: the machine works for the next one from the beginning."""
        self.order, self.waits_since, self._settled, self._unshipped = None, None, None, None
        self._process, self.signal_cause, self.finished, self._ends_run = self._new_id(), SignalCause.NONE, False, False
        self.heard_at, self.last_heard_at, self.began_at = None, 0.0, {}
        self._spans, self._produced, self._shipped = {}, 0, {}

    def _put_once(self, key: str, message: object) -> Doing[bool]:
        """Put the message if the key is new; return whether the stored object equals it, even if an answer was lost."""
        data = codec.encode(message)
        if (yield from self._try(lambda: self._bucket.put(key, data, if_absent=True))):
            return True
        return (yield from self._try(lambda: self._bucket.get(key))) == data

    def _try(self, deed: Callable[[], T]) -> Doing[T]:
        while True:
            try:
                return deed()
            except Retryable:
                yield self._retry


def end_of(chunks: list[tuple[int, bytes]]) -> StreamEnd:
    """Return the end mark of a stream that consists of these chunks."""
    data = b"".join(piece for _, piece in chunks)
    sums = tuple(Chunk(offset, len(piece), hashlib.sha256(piece).hexdigest()) for offset, piece in chunks)
    return StreamEnd(len(data), hashlib.sha256(data).hexdigest(), sums)
