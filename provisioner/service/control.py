"""The use cases in this process: provisioner.ports.control.Control over one installation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.errors import Conflict, Invalid, ProvisionError
from provisioner.core.launch import Machine
from provisioner.core.receipt import Receipt
from provisioner.core.record import Job, Run
from provisioner.core.work import decode, encode
from provisioner.ports.connection import Connection
from provisioner.ports.control import Alive, LogGap, LogPiece, Scheduled, Status
from provisioner.service.alive import alive
from provisioner.service.direct import Direct
from provisioner.service.entrance import Entrance
from provisioner.service.installation import Installation
from provisioner.service.logs import Logs
from provisioner.service.loop import Loop, never
from provisioner.service.reaper import Reaped, reap, tell
from provisioner.service.reconciler import Pulse, Trouble
from provisioner.service.runs import Runs
from provisioner.service.schedules import Schedules
from provisioner.service.takeover import Takeover
from provisioner.service.troubles import Troubles, line

#: The reaper and the sweep of orphans look this often, in seconds.
SWEEP = 60.0
#: Where a pass notes what other processes are to see of it.
FOREIGN = "foreign machines"


@dataclass(frozen=True)
class _Foreign:
    machines: tuple[Machine, ...] = ()


class Service:
    """Composes the services; each method is one use case."""

    def __init__(self, installation: Installation, loop: Loop, owner: str, entrance: Entrance) -> None:
        self._installation = installation
        self._loop = loop
        self._runs = Runs(installation, owner)
        self._schedules = Schedules(installation, self._runs)
        self._logs = Logs(installation, self._runs)
        self._entrance = entrance
        self._takeover = Takeover(installation)
        self._troubles = Troubles(installation)
        self._swept_at = 0.0
        #: What the last sweep met, which stands until the next one.
        self._unswept: list[Trouble] = []

    def apply(self, text: str, source: str) -> Job:
        return self._runs.apply(text, source)

    def jobs(self) -> tuple[Job, ...]:
        return self._runs.jobs()

    def job(self, name: str) -> Job:
        return self._runs.job(name)

    def delete(self, name: str) -> Job:
        return self._runs.delete(name)

    def start(self, name: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        return self._runs.start(name, env, command, idempotency_key)

    def schedule(self, name: str, schedule: Mapping[str, str] | None) -> Job:
        return self._schedules.say(name, schedule)

    def scheduled(self, name: str, count: int) -> Scheduled:
        return self._schedules.scheduled(name, count)

    def schedules(self) -> tuple[Scheduled, ...]:
        return self._schedules.every()

    def runs(self, job: str = "", limit: int = 50) -> tuple[Run, ...]:
        return self._runs.runs(job, limit)

    def run(self, name: str) -> Run:
        return self._runs.run(name)

    def status(self, name: str) -> Status:
        return self._runs.status(name)

    def alive(self, limit: int) -> Alive:
        return alive(self._installation, limit)

    def stop(self, name: str) -> Run:
        return self._runs.stop(name)

    def receipt(self, name: str) -> Receipt:
        return self._runs.receipt(name)

    def log(
        self, name: str, streams: Sequence[str], attempt: int | None = None, tail: int | None = None
    ) -> Iterator[LogPiece | LogGap]:
        return self._logs.read(name, streams, attempt, tail)

    def follow(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        looked: Callable[[Sequence[str]], None] = lambda _: None,
        direct: bool = False,
    ) -> Iterator[LogPiece | LogGap]:
        line = Direct(self._entrance, self._installation.clock) if direct else None

        def pause(seconds: float) -> None:
            pulse = self._loop.when_due()
            looked([*(self._errors(pulse) if pulse else ()), *(line.told if line else ())])
            self._installation.clock.wait(seconds)

        try:
            yield from self._logs.follow(name, streams, attempt, tail, pause, line)
        finally:
            if line:
                line.close()
            self._loop.release()

    def enter(self, name: str, *, host: bool = False) -> Connection:
        run = self._runs.run(name)
        nodes = [node for node in self._installation.store.nodes(run.id) if node.attempt == run.attempt]
        return self._entrance.enter(run, nodes[0] if nodes else None, host=host)

    # Acting

    def now(self) -> float:
        return self._installation.clock.now()

    def wake(self) -> None:
        """End the loop's rest now; from a signal handler too."""
        self._installation.clock.wake()

    def close(self) -> None:
        """Give back the lease and the store."""
        self._loop.release()
        self._installation.store.close()
        self._installation.journal.close()

    def unfinished(self) -> bool:
        """Whether anything is not over yet."""
        live = self._installation.store.live()
        return bool(live.runs or live.machines or live.launches)

    def served(self) -> bool:
        lease = self._installation.store.lease()
        now = self._installation.clock.now()
        return bool(lease and lease.holder and lease.kind == "daemon" and lease.expires_at > now)

    def drive(
        self,
        until: Callable[[], bool],
        told: Callable[[Sequence[str]], None] = lambda _: None,
        *,
        schedules: bool = False,
    ) -> None:
        alarm = self._schedules.fire if schedules else never
        self._loop.run(until, lambda pulse: told(self._errors(pulse)), alarm)

    def ring(self, until: Callable[[], bool]) -> None:
        self._loop.ring(until, self._schedules.fire)

    def step(self) -> Sequence[str]:
        pulse = self._loop.once()
        self._loop.release()
        return self._errors(pulse) if pulse else ()

    def _errors(self, pulse: Pulse) -> Sequence[str]:
        if pulse.foreign is not None:
            self._note(pulse.foreign)
        now = self._installation.clock.now()
        if now >= self._swept_at + SWEEP:
            self._swept_at = now
            self._unswept = self._sweep()
        met = [each for each in pulse.errors if not isinstance(each.error, Conflict)] + self._unswept
        self._troubles.met(met)
        return [line(each) for each in met]

    def _sweep(self) -> list[Trouble]:
        try:
            self._takeover.sweep()
            return [Trouble(each.error, instance_id=each.machine.id) for each in self.reap() if each.error]
        except ProvisionError as error:
            return [Trouble(error)]

    def _note(self, foreign: tuple[Machine, ...]) -> None:
        before = self.foreign()
        if foreign == before:
            return
        now, known = self._installation.clock.now(), {machine.id for machine in before}
        self._installation.store.remember(FOREIGN, encode(_Foreign(foreign)).decode(), now)
        for machine in foreign:
            if machine.id not in known:
                text = f"{machine.id} is of a launch that this store never made: left to its lifetime"
                self._installation.journal.complain(text, now, instance=machine.id, launch=machine.launch)

    def reap(self) -> Sequence[Reaped]:
        """End what has outlived its lifetime."""
        reaped = reap(self._installation.cloud, self._installation.policy.reaper_grace)
        ended = [each for each in reaped if not each.error]
        tell(ended, self._installation.journal, self._installation.clock.now())
        return reaped

    def takeover(self) -> Sequence[str]:
        return self._takeover.take()

    def foreign(self) -> tuple[Machine, ...]:
        noted = self._installation.store.remembered(FOREIGN)
        try:
            return decode(_Foreign, noted[0].encode()).machines if noted else ()
        except Invalid:
            return ()  # Another version's note: the next pass writes ours.
