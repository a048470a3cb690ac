"""Simulate many machines in one thread; each machine only follows the agent's protocol.

Each machine has its own credentials from the metadata service and calls the bucket over HTTP, like an agent. Its steps
do no work: the script sets their durations and outcomes.
"""

import heapq
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from provisioner.agent.watch import ORDERS_INTERVAL
from provisioner.core.errors import Transient
from provisioner.core.protocol import keys
from provisioner.core.protocol.messages import WorkOrder
from provisioner.rehearsal.machines.guestwire import GuestWire
from provisioner.rehearsal.machines.host import Guest, place
from provisioner.rehearsal.machines.script import Script
from provisioner.rehearsal.machines.scripted_agent import Doing
from provisioner.rehearsal.machines.scripted_list import ListAgent

#: HTTP statuses for a missing key: S3 answers 403 to a caller without the right ListBucket, such as a machine.
_ABSENT = (403, 404)
#: Seconds after which a request is repeated while the bucket fails.
RETRY = 0.5


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
    """A machine host whose machines follow the first script with a job pattern that fits their work order."""

    def __init__(self, scripts: Sequence[Script] = (Script(),)) -> None:
        self._scripts = scripts
        self._machines: dict[str, _Machine] = {}
        self._agenda: list[tuple[float, int, _Machine, Doing[None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._play, name="scripted-machines", daemon=True)
        self._thread.start()

    def address(self, number: int, together: bool) -> str:  # noqa: ARG002 - no machine has a network
        return f"10.{place(number)}"

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

    # The thread that runs all machines

    def _plan(self, at: float, machine: _Machine, life: Doing[None]) -> None:
        heapq.heappush(self._agenda, (at, next(self._numbers), machine, life))
        self._changed.notify()

    def _next(self) -> tuple[_Machine, Doing[None]] | None:
        """Wait until a machine's next step is due; return the machine and its life, or None when the host is closed."""
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

    def _step(self, machine: _Machine, life: Doing[None]) -> None:
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

    def _life(self, machine: _Machine) -> Doing[None]:
        guest = machine.guest
        bucket = _WireBucket(GuestWire(guest))

        def choose(order: WorkOrder) -> Script:
            machine.script = next(one for one in (*self._scripts, Script()) if fnmatchcase(order.job, one.job))
            machine.console.append(f"scripted agent: run {order.run}\n")
            return machine.script

        agent = ListAgent(
            guest.instance_id,
            keys.mailbox(bucket.role_id, guest.instance_id),
            guest.launch_time,
            bucket,
            time.time,
            lambda: uuid.uuid4().hex,
            choose,
            polls=_polls(),
            retry=RETRY,
        )
        agent.orders_interval = ORDERS_INTERVAL
        yield from agent.life()


class _WireBucket:
    """The bucket as one machine may use it, over HTTP."""

    def __init__(self, wire: GuestWire) -> None:
        self.role_id = wire.settings.role_id
        self._wire = wire

    def get(self, key: str) -> bytes | None:
        status, body = self._ask("GET", key)
        if status not in (200, *_ABSENT):
            raise RuntimeError(f"GET {key}: {status} {body!r:.200}")
        return body if status == 200 else None

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        status, body = self._ask("PUT", key, data, if_absent=if_absent)
        if status not in (200, 412):
            raise RuntimeError(f"PUT {key}: {status} {body!r:.200}")
        return status == 200

    def _ask(self, method: str, key: str, data: bytes = b"", *, if_absent: bool = False) -> tuple[int, bytes]:
        status, body = self._wire.ask(method, key, data, {"If-None-Match": "*"} if if_absent else {})
        if not status or status >= 500:
            raise Transient(f"{method} {key}: {status or 'no answer'}")
        return status, body


def _polls() -> Iterator[float]:
    """Yield growing pauses in seconds, because hundreds of machines may call one small computer."""
    pause = 0.5
    while True:
        yield pause
        pause = min(pause * 1.5, 5.0)
