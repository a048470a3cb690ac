"""The use cases in this process: provisioner.ports.control.Control over one installation."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from provisioner.core.errors import Conflict, ProvisionError
from provisioner.core.launch import Machine
from provisioner.core.receipt import Receipt
from provisioner.core.record import Job, Run
from provisioner.ports.control import LogGap, LogPiece, Status
from provisioner.service.installation import Installation
from provisioner.service.logs import Logs
from provisioner.service.loop import Loop
from provisioner.service.reaper import Reaped, reap
from provisioner.service.reconciler import Pulse
from provisioner.service.runs import Runs
from provisioner.service.takeover import Takeover

#: The reaper and the sweep of orphans look this often, in seconds.
SWEEP = 60.0


class Service:
    """Composes the services; each method is one use case."""

    def __init__(self, installation: Installation, loop: Loop, owner: str) -> None:
        self._installation = installation
        self._loop = loop
        self._runs = Runs(installation, owner)
        self._logs = Logs(installation, self._runs)
        self._takeover = Takeover(installation)
        self._foreign: tuple[Machine, ...] = ()
        self._swept_at = 0.0

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

    def runs(self, job: str = "", limit: int = 50) -> tuple[Run, ...]:
        return self._runs.runs(job, limit)

    def run(self, name: str) -> Run:
        return self._runs.run(name)

    def status(self, name: str) -> Status:
        return self._runs.status(name)

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
    ) -> Iterator[LogPiece | LogGap]:
        def pause(seconds: float) -> None:
            pulse = self._loop.when_due()
            looked(self._errors(pulse) if pulse else ())
            self._installation.clock.wait(seconds)

        try:
            yield from self._logs.follow(name, streams, attempt, tail, pause)
        finally:
            self._loop.release()

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

    def unfinished(self) -> bool:
        """Whether anything is not over yet."""
        live = self._installation.store.live()
        return bool(live.runs or live.machines or live.launches)

    def served(self) -> bool:
        lease = self._installation.store.lease()
        now = self._installation.clock.now()
        return bool(lease and lease.holder and lease.kind == "daemon" and lease.expires_at > now)

    def drive(self, until: Callable[[], bool], told: Callable[[Sequence[str]], None] = lambda _: None) -> None:
        self._loop.run(until, lambda pulse: told(self._errors(pulse)))

    def step(self) -> Sequence[str]:
        pulse = self._loop.once()
        self._loop.release()
        return self._errors(pulse) if pulse else ()

    def _errors(self, pulse: Pulse) -> Sequence[str]:
        self._foreign = pulse.foreign
        errors = [_told(error) for error in pulse.errors if not isinstance(error, Conflict)]
        now = self._installation.clock.now()
        if now >= self._swept_at + SWEEP:
            self._swept_at = now
            errors += self._sweep()
        return errors

    def _sweep(self) -> list[str]:
        try:
            self._takeover.sweep()
            return [str(each.error) for each in self.reap() if each.error]
        except ProvisionError as error:
            return [str(error)]

    def reap(self) -> Sequence[Reaped]:
        """End what has outlived its lifetime."""
        return reap(self._installation.cloud, self._installation.policy.reaper_grace)

    def takeover(self) -> Sequence[str]:
        return self._takeover.take()

    def foreign(self) -> tuple[Machine, ...]:
        return self._foreign


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ProvisionError) else f"a fault of ours: {error!r}"
