"""Play many machines in one thread, each of which only follows the agent's protocol.

Each machine has its own credentials from the metadata service and calls the bucket over HTTP, like an agent. Its steps
do no work: the script has their durations and outcomes.
"""

import hashlib
import heapq
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from provisioner.core.protocol import codec, keys, messages
from provisioner.core.protocol.messages import (
    Chunk,
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
from provisioner.rehearsal.machines.guestwire import GuestWire
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.script import Script

#: As for the agent, 403 means a missing key too, because machines have no ListBucket.
_ABSENT = (403, 404)
#: A machine's life, which yields the seconds until its next step.
_Life = Generator[float, None, None]


@dataclass
class _Machine:
    guest: Guest
    powered_off: Callable[[str], None]
    booted: float
    script: Script | None = None
    ended: bool = False
    console: list[str] = field(default_factory=list)
    #: Held while the machine acts, so that it does nothing more once `end` has returned.
    acting: threading.Lock = field(default_factory=threading.Lock)

    def due(self, name: str) -> float:
        """Return when the script's `silent_at` or `off_at` is due, as Unix seconds; infinity for never."""
        after = getattr(self.script, name, None)
        return float("inf") if after is None else self.booted + after


class ScriptedHost:
    """Plays every machine with the first script whose job pattern fits its work order."""

    def __init__(self, scripts: Sequence[Script] = (Script(),)) -> None:
        self._scripts = scripts
        self._machines: dict[str, _Machine] = {}
        self._agenda: list[tuple[float, int, _Machine, _Life]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._play, name="scripted-machines", daemon=True)
        self._thread.start()

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        machine = _Machine(guest, powered_off, time.time())
        with self._changed:
            self._machines[guest.instance_id] = machine
            self._plan(machine.booted, machine, self._life(machine))

    def end(self, instance_id: str) -> None:
        if machine := self._machines.get(instance_id):
            with machine.acting:
                machine.ended = True

    def console(self, instance_id: str) -> str:
        machine = self._machines.get(instance_id)
        return "".join(machine.console) if machine else ""

    def capture(self, instance_id: str, image_id: str) -> None:
        """Do nothing: a scripted machine has no disk."""

    def forget(self, image_id: str) -> None:
        """Do nothing: no image of a scripted machine is kept."""

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # The thread that plays all machines

    def _plan(self, at: float, machine: _Machine, life: _Life) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), machine, life))
        self._changed.notify()

    def _next(self) -> tuple[_Machine, _Life] | None:
        """Wait for the next machine whose time has come, and return it; None when the host is closed."""
        with self._changed:
            while not self._closing:
                wait = self._agenda[0][0] - time.time() if self._agenda else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._agenda)[2:]
                self._changed.wait(wait)
        return None

    def _play(self) -> None:
        while due := self._next():
            machine, life = due
            with machine.acting:
                self._step(machine, life)

    def _step(self, machine: _Machine, life: _Life) -> None:
        now = time.time()
        if machine.ended or now >= machine.due("silent_at"):
            return
        if now >= machine.due("off_at"):
            machine.powered_off(machine.guest.instance_id)
            return
        try:
            pause = next(life)
        except StopIteration:
            machine.powered_off(machine.guest.instance_id)
            return
        except Exception as error:  # noqa: BLE001 - an agent that fails ends its machine
            machine.console.append(f"scripted agent failed: {error!r}\n")
            machine.powered_off(machine.guest.instance_id)
            return
        at = min(time.time() + pause, machine.due("silent_at"), machine.due("off_at"))
        with self._changed:
            self._plan(at, machine, life)

    # A machine's life

    def _life(self, machine: _Machine) -> _Life:
        guest = machine.guest
        wire = GuestWire(guest)
        agent = _Agent(wire, keys.mailbox(wire.settings.role_id, guest.instance_id))
        data: bytes | None = None
        pause = 0.5
        while data is None:
            data = yield from agent.get(keys.work_key(agent.box))
            if data is None:
                yield pause
                # A growing pause, because hundreds of machines may call one small computer.
                pause = min(pause * 1.5, 5.0)
        order = codec.decode(WorkOrder, data)
        script = next(one for one in (*self._scripts, Script()) if fnmatchcase(order.job, one.job))
        machine.script = script
        machine.console.append(f"scripted agent: run {order.run}\n")
        agent.spans[Step.BOOT.value] = Span(guest.launch_time, time.time())
        yield from _work(agent, order, script)


T = TypeVar("T")
_Doing = Generator[float, None, T]


class _Agent:
    """The requests of one machine's agent; each method yields between retries while the bucket fails."""

    def __init__(self, wire: GuestWire, box: str) -> None:
        self.box = box
        self.spans: dict[str, Span] = {}
        self._wire = wire
        self._process = uuid.uuid4().hex
        self._sequence = 0

    def _ask(self, method: str, key: str, data: bytes = b"", *, once: bool = False) -> _Doing[tuple[int, bytes]]:
        while True:
            status, body = self._wire.ask(method, key, data, {"If-None-Match": "*"} if once else {})
            if status and status < 500:
                return status, body
            yield 0.5

    def get(self, key: str) -> _Doing[bytes | None]:
        status, body = yield from self._ask("GET", key)
        if status not in (200, *_ABSENT):
            raise RuntimeError(f"GET {key}: {status} {body!r:.200}")
        return body if status == 200 else None

    def put(self, key: str, data: bytes, *, once: bool = False) -> _Doing[bool]:
        status, body = yield from self._ask("PUT", key, data, once=once)
        if status not in (200, 412):
            raise RuntimeError(f"PUT {key}: {status} {body!r:.200}")
        return status == 200

    def claim(self) -> _Doing[bool]:
        """Put `started`, and return whether this process is the one that may execute the command."""
        key = keys.started_key(self.box)
        mine = Started(self._process, time.time())
        if (yield from self.put(key, codec.encode(mine), once=True)):
            return True
        standing = yield from self.get(key)
        return standing is not None and codec.decode(Started, standing).process == self._process

    def report(self, step: Step, produced: int = 0, *, finished: bool = False) -> _Doing[None]:
        self._sequence += 1
        counts = {"output": produced}
        said = Report(
            self._sequence, time.time(), self._process, step, dict(self.spans), counts, counts, finished=finished
        )
        yield from self.put(keys.report_key(self.box, self._sequence), codec.encode(said))

    def play(self, step: Step, seconds: float, heartbeat: float) -> _Doing[Stop | None]:
        """Wait for the step's `seconds`, and report every `heartbeat` seconds; return the order to stop, or None."""
        began = time.time()
        self.spans[step.value] = Span(began)
        stop: Stop | None = None
        if seconds:
            yield from self.report(step)
        while not stop and (left := began + seconds - time.time()) > 0:
            yield min(left, heartbeat)
            if time.time() < began + seconds:
                data = yield from self.get(keys.orders_key(self.box))
                stop = codec.decode(Orders, data).stop if data else None
                yield from self.report(step)
        self.spans[step.value] = Span(began, time.time())
        return stop

    def finish(
        self,
        order: WorkOrder,
        step: Step,
        code: int | None,
        outcome: Outcome,
        reason: str,
        output: bytes,
        *,
        stopped: bool = False,
    ) -> _Doing[None]:
        """Put the log, the result and the last report, as an agent does before it powers off."""
        if output:
            yield from self.put(keys.chunk_key(self.box, "output", 0), output)
        streams = {name: _end(output if name == "output" else b"") for name in messages.STREAMS}
        result = Result(
            run=order.run,
            attempt=order.attempt,
            rank=order.rank,
            process=self._process,
            outcome=outcome,
            step=step,
            exit_code=code,
            reason=reason,
            at=time.time(),
            spans=dict(self.spans),
            streams=streams,
            signal_cause=SignalCause.STOP if stopped else SignalCause.NONE,
        )
        yield from self.put(keys.result_key(self.box), codec.encode(result), once=True)
        yield from self.report(Step.LOGS, len(output), finished=True)


def _work(agent: _Agent, order: WorkOrder, script: Script) -> _Life:
    steps = {Step.PULL: script.pull, Step.CLONE: script.clone, Step.SETUP: script.setup, Step.COMMAND: script.command}
    stop: Stop | None = None
    for step, seconds in steps.items():
        if step is Step.COMMAND and not (yield from agent.claim()):
            yield from agent.finish(order, step, None, Outcome.LOST, "started, no process found", b"")
            return
        stop = yield from agent.play(step, seconds, order.heartbeat_interval)
        if stop:
            break
    output = (b"a line of a scripted machine's output\n" * (script.output // 38 + 1))[: script.output]
    if stop:
        code = 143 if step is Step.COMMAND else None
        yield from agent.finish(order, step, code, stop.outcome, stop.reason, output if code else b"", stopped=True)
    else:
        outcome = Outcome.FAILED if script.exit_code else Outcome.SUCCEEDED
        reason = f"the command exited with {script.exit_code}"
        yield from agent.finish(order, Step.COMMAND, script.exit_code, outcome, reason, output)


def _end(data: bytes) -> StreamEnd:
    digest = hashlib.sha256(data).hexdigest()
    return StreamEnd(len(data), digest, (Chunk(0, len(data), digest),) if data else ())
