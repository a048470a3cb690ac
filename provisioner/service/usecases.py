"""The use cases as one caller may have them; nothing here acts on the cloud."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from provisioner.core.access.callers import Caller
from provisioner.core.cloud.machines import Machine
from provisioner.core.cost.receipt import Receipt
from provisioner.core.errors import Forbidden, Invalid
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Node, Run
from provisioner.ports.connection import Connection
from provisioner.ports.control import LogGap, LogPage, LogPiece, Overview, Scheduled, Size, Status
from provisioner.ports.store import NEWEST, RunFilter
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.installation import Installation
from provisioner.service.logs import Logs
from provisioner.service.overview import alive, hindrance
from provisioner.service.runs import Runs
from provisioner.service.schedules import Schedules
from provisioner.service.ssh_entry.direct import Direct
from provisioner.service.ssh_entry.entrance import Entrance

#: Where a pass notes what other processes are to see of it.
FOREIGN = "foreign machines"


@dataclass(frozen=True)
class _Foreign:
    machines: tuple[Machine, ...] = ()


class UseCases:
    """Composes the services; each method is one use case."""

    def __init__(self, installation: Installation, caller: Caller, entrance: Entrance, sites: LaunchSites) -> None:
        self.caller = caller
        self._installation = installation
        self._sites = sites
        self._runs = Runs(installation, caller)
        self._schedules = Schedules(installation, self._runs)
        self._logs = Logs(installation, self._runs)
        self._entrance = entrance

    def apply(self, text: str, source: str) -> Job:
        return self._runs.apply(text, source)

    def create(self, text: str, source: str) -> Job:
        """Store the recipe as a new job, whose schedule does not begin; raises Conflict where there is one."""
        return self._runs.apply(text, source, new=True)

    def change(self, name: str, fields: Mapping[str, str]) -> Job:
        """Apply the job's recipe as it now is, with these fields of its spec in place of its own; raises Invalid."""
        return self._runs.change(name, fields)

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

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        return self._runs.runs(which)

    def tried(self, which: RunFilter) -> tuple[tuple[Run, tuple[Node, ...]], ...]:
        """The same runs, each with its nodes."""
        return self._runs.tried(which)

    def run(self, name: str) -> Run:
        return self._runs.run(name)

    def status(self, name: str) -> Status:
        return self._runs.status(name)

    def alive(self, limit: int) -> Overview:
        return alive(self._installation, self.caller, limit)

    def stop(self, name: str) -> Run:
        return self._runs.stop(name)

    def receipt(self, name: str) -> Receipt:
        return self._runs.receipt(name)

    def log(
        self, name: str, streams: Sequence[str], attempt: int | None = None, tail: int | None = None
    ) -> Iterator[LogPiece | LogGap]:
        return self._logs.read(self._runs.run(name), streams, attempt, tail)

    def look(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        place: str = "",
        limit: int = 1 << 20,
        *,
        following: bool = False,
    ) -> LogPage:
        return self._logs.look(self._runs.run(name), streams, attempt, tail, place, limit, following=following)

    def follow(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        looked: Callable[[Sequence[str]], None] = lambda _: None,
        direct: bool = False,
    ) -> Iterator[LogPiece | LogGap]:
        return self._follow(self._runs.run(name), streams, attempt, tail, looked, direct)

    def _follow(
        self,
        run: Run,
        streams: Sequence[str],
        attempt: int | None,
        tail: int | None,
        looked: Callable[[Sequence[str]], None],
        direct: bool,
    ) -> Iterator[LogPiece | LogGap]:
        line = Direct(self._entrance, self._installation.clock) if direct else None

        def pause(seconds: float) -> None:
            looked([*self._meanwhile(), *(line.told if line else ())])
            self._installation.clock.wait(seconds)

        try:
            yield from self._logs.follow(run, streams, attempt, tail, pause, line)
        finally:
            if line:
                line.close()
            self._unfollow()

    def _meanwhile(self) -> Sequence[str]:
        """What a follower does between its looks; what went wrong in it, as text."""
        return ()

    def _unfollow(self) -> None:
        """Undo what `_meanwhile` did."""

    def enter(self, name: str, *, host: bool = False) -> Connection:
        run = self._runs.run(name)
        nodes = [node for node in self._installation.store.nodes(run.id) if node.attempt == run.attempt]
        return self._entrance.enter(run, nodes[0] if nodes else None, host=host)

    def sizes(self) -> tuple[Size, ...]:
        return self._sites.sizes()

    def now(self) -> float:
        return self._installation.clock.now()

    def unfinished(self) -> bool:
        live = self._installation.store.live()
        if self.caller.admin and (live.machines or live.launches):
            return True
        return any(self.caller.may(run.owner) for run in live.runs)

    def served(self) -> bool:
        lease = self._installation.store.lease()
        now = self._installation.clock.now()
        return bool(lease and lease.holder and lease.kind == "daemon" and lease.expires_at > now)

    def hindrance(self) -> str:
        return hindrance(self._installation)

    def wake(self) -> None:
        """End the loop's rest now; from a signal handler too."""
        self._installation.clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return nullcontext()

    def foreign(self) -> tuple[Machine, ...]:
        noted = self._installation.store.remembered(FOREIGN) if self.caller.admin else None
        try:
            return decode(_Foreign, noted[0].encode()).machines if noted else ()
        except Invalid:
            return ()  # Another version's note: the next pass writes ours.

    def _note_foreign(self, machines: tuple[Machine, ...], now: float) -> None:
        self._installation.store.remember(FOREIGN, encode(_Foreign(machines)).decode(), now)


class OnBehalf(UseCases):
    """provisioner.ports.control.Control for who came in by a token: acting is the control host's.

    What Saturn's client asks for beyond that is here alone: `create`, `change` and `tried`.
    """

    def close(self) -> None:
        """Nothing is held: the installation is its opener's."""

    def drive(self, *_: object, **__: object) -> None:
        raise _elsewhere()

    def ring(self, *_: object, **__: object) -> None:
        raise _elsewhere()

    def step(self) -> Sequence[str]:
        raise _elsewhere()

    def takeover(self) -> Sequence[str]:
        raise _elsewhere()


def _elsewhere() -> Forbidden:
    return Forbidden("only the control host may do this: run the command there")
