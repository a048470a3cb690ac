"""provisioner.ports.control.Control over HTTP: what a server of this version answers in its lossless form.

Asked again where the answer is lost: all that only reads, and what done twice is done once: `start`, by a key that the
client makes where its caller has none; `apply` and `schedule`, the second of which changes nothing; `stop`, a wish that
stands. `delete` is not: its second time would say that there is no such job. What was never sent, or refused for now,
is always sent again.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Never

from provisioner.adapters.remote import events
from provisioner.adapters.remote.access import NOBODY, RemoteAccess
from provisioner.adapters.remote.address import Address
from provisioner.adapters.remote.calls import NEVER, Calls, Query
from provisioner.core.cloud.machines import Machine
from provisioner.core.cost.receipt import Receipt
from provisioner.core.errors import Invalid
from provisioner.core.not_found import no_job, no_run
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Run
from provisioner.ports.clock import Clock
from provisioner.ports.connection import Connection
from provisioner.ports.control import LogGap, LogPage, LogPiece, Overview, Scheduled, ServerStatus, Size, Status
from provisioner.ports.ids import Ids
from provisioner.ports.store import NEWEST, RunFilter

#: Seconds between two looks of who waits.
REST = 1.0
#: Runs of a page; names that one request has.
PAGE, NAMES = 1000, 100
#: For how long a look at the server itself holds, in seconds: a command asks several things of it.
FRESH = 0.5

#: What can be a name at all; anything else is not sent, for it would be another path.
_RUN, _JOB, _OWNER = re.compile("[0-9a-f]{1,32}"), re.compile("[A-Za-z0-9-]{1,63}"), re.compile("[a-z0-9/-]{0,80}")


class Remote:
    """Serves one thread at a time, `wake` excepted."""

    def __init__(self, address: Address, clock: Clock, ids: Ids, told: Callable[[str], None]) -> None:
        """`told` hears of a server that is away, outside of what hears of it itself."""
        self._calls = Calls(address, clock, told)
        self.access, self.caller = RemoteAccess(self._calls), NOBODY
        self._clock = clock
        self._ids = ids
        self._presence: tuple[float, ServerStatus] | None = None

    def apply(self, text: str, source: str) -> Job:
        query = [("source", source)]
        return self._calls.ask(Job, "PUT", "/api/recipes", query, text.encode(), sends="application/yaml")

    def jobs(self) -> tuple[Job, ...]:
        return self._calls.ask(tuple[Job, ...], "GET", "/api/jobs")

    def job(self, name: str) -> Job:
        path, query = _job(name)
        return self._calls.ask(Job, "GET", path, query)

    def delete(self, name: str) -> Job:
        path, query = _job(name)
        return self._calls.ask(Job, "DELETE", path, query, again=False)

    def start(self, name: str, env: Mapping[str, str], command: str | None = None, idempotency_key: str = "") -> Run:
        path, query = _job(name)
        asked = {"env": dict(env), "command": command, "idempotency_key": idempotency_key or self._ids.new()}
        return self._calls.ask(Run, "POST", f"{path}/start", query, json.dumps(asked).encode())

    def schedule(self, name: str, schedule: Mapping[str, str] | None) -> Job:
        path, query = _job(name)
        said = json.dumps(schedule and dict(schedule)).encode()
        return self._calls.ask(Scheduled, "PUT", f"{path}/schedule", query, said).job

    def scheduled(self, name: str, count: int) -> Scheduled:
        path, query = _job(name)
        return self._calls.ask(Scheduled, "GET", f"{path}/schedule", [*query, ("count", count)])

    def schedules(self) -> tuple[Scheduled, ...]:
        return self._calls.ask(tuple[Scheduled, ...], "GET", "/api/schedules")

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        if len(which.ids) > NAMES:
            parts = [which.ids[at : at + NAMES] for at in range(0, len(which.ids), NAMES)]
            found = [run for part in parts for run in self.runs(replace(which, ids=part))]
            return tuple(sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)[: which.limit])
        if which.job and not _possible(which.job):
            return ()
        pages: list[Run] = []
        while (wanted := min(which.limit - len(pages), PAGE)) > 0:
            page = self._calls.ask(tuple[Run, ...], "GET", "/api/runs", _page(which, wanted))
            pages += page
            if len(page) < wanted:
                break
            which = replace(which, after=(page[-1].created_at, page[-1].id))
        return tuple(pages)

    def run(self, name: str) -> Run:
        # A whole id needs no story.
        found = self.runs(RunFilter(ids=(name.lower(),), limit=1)) if re.fullmatch("[0-9a-f]{32}", name.lower()) else ()
        return found[0] if found else self.status(name).run

    def status(self, name: str) -> Status:
        return self._calls.ask(Status, "GET", _run(name))

    def alive(self, limit: int) -> Overview:
        return self._calls.ask(Overview, "GET", "/api/top", [("limit", min(limit, PAGE))])

    def sizes(self) -> tuple[Size, ...]:
        return self._calls.ask(tuple[Size, ...], "GET", "/api/info/servers")

    def stop(self, name: str) -> Run:
        return self._calls.ask(Run, "POST", f"{_run(name)}/stop")

    def receipt(self, name: str) -> Receipt:
        return self._calls.ask(Receipt, "GET", f"{_run(name)}/receipt")

    # Logs

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
        if following:
            _elsewhere("follow a log by looks")
        query = [*_part(streams, attempt, tail), ("limit", limit), *([("cursor", place)] if place else [])]
        return self._calls.ask(LogPage, "GET", f"{_run(name)}/logs", query)

    def log(
        self, name: str, streams: Sequence[str], attempt: int | None = None, tail: int | None = None
    ) -> Iterator[LogPiece | LogGap]:
        # Whoever cannot read it is told so before the first piece is asked for.
        return self._log(self.run(name).id, streams, attempt, tail)

    def _log(
        self, run: str, streams: Sequence[str], attempt: int | None, tail: int | None
    ) -> Iterator[LogPiece | LogGap]:
        place = ""
        while True:
            look = self.look(run, streams, attempt, tail, place)
            for piece, _ in look.pieces:
                yield piece
            if look.over or not any(isinstance(piece, LogPiece) for piece, _ in look.pieces):
                return
            place = look.place

    def follow(
        self,
        name: str,
        streams: Sequence[str],
        attempt: int | None = None,
        tail: int | None = None,
        looked: Callable[[Sequence[str]], None] = lambda _: None,
        direct: bool = False,
    ) -> Iterator[LogPiece | LogGap]:
        if direct:
            _elsewhere("listen to a machine itself")
        return self._follow(self.run(name).id, _part(streams, attempt, tail), looked)

    def _follow(self, run: str, query: Query, looked: Callable[[Sequence[str]], None]) -> Iterator[LogPiece | LogGap]:
        with self._calls.patient(lambda text: looked([text])):
            yield from events.follow(self._calls, self._clock, f"{_run(run)}/logs", query, looked)

    # The server

    def now(self) -> float:
        at, presence = self._presence or self._look()
        return self._clock.now() - at + presence.at

    def served(self) -> bool:
        return self._looked().served

    def unfinished(self) -> bool:
        return self._looked().unfinished

    def foreign(self) -> tuple[Machine, ...]:
        return self._looked().foreign

    def hindrance(self) -> str:
        return self._looked().hindrance

    def _looked(self) -> ServerStatus:
        fresh = self._presence and 0 <= self._clock.now() - self._presence[0] < FRESH
        return self._presence[1] if self._presence and fresh else self._look()[1]

    def _look(self) -> tuple[float, ServerStatus]:
        before = self._clock.now()
        found = self._calls.ask(ServerStatus, "GET", "/api/server")
        # Its clock was read somewhere between the question and the answer.
        self._presence = (before + self._clock.now()) / 2, found
        return self._presence

    def wake(self) -> None:
        self._clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return self._calls.patient(lambda _: None, NEVER)

    def close(self) -> None:
        self._calls.close()

    # Acting is the server's

    def drive(
        self,
        until: Callable[[], bool],
        told: Callable[[Sequence[str]], None] = lambda _: None,
        *,
        schedules: bool = False,
    ) -> None:
        if schedules:
            _elsewhere("start what schedules make due")
        with self._calls.patient(lambda text: told([text])):
            while not until():
                self._clock.wait(REST)

    def step(self) -> Sequence[str]:
        return ()

    def ring(self, *_: object) -> None:
        _elsewhere("start what schedules make due")

    def takeover(self) -> Sequence[str]:
        _elsewhere("take a bucket over")

    def enter(self, *_: object, **__: object) -> Connection:
        _elsewhere("enter machines")


def _elsewhere(what: str) -> Never:
    raise Invalid(f"only the control host can {what}: run this there, without PROVISION_URL")


def _possible(job: str) -> bool:
    owner, _, short = job.rpartition("/")
    return bool(_JOB.fullmatch(short) and _OWNER.fullmatch(owner))


def _job(name: str) -> tuple[str, Query]:
    """Path and query of a job; raises NotFound for what cannot be one."""
    if not _possible(name):
        raise no_job(name)
    owner, _, short = name.rpartition("/")
    return f"/api/jobs/{short}", [("owner_name", owner)] if owner else []


def _run(name: str) -> str:
    if not _RUN.fullmatch(name.lower()):
        raise no_run(name)
    return f"/api/runs/{name}"


def _part(streams: Sequence[str], attempt: int | None, tail: int | None) -> list[tuple[str, str | int]]:
    chosen = [(name, value) for name, value in (("attempt", attempt), ("tail", tail)) if value is not None]
    return [*(("stream", stream) for stream in streams), *chosen]


def _page(which: RunFilter, limit: int) -> Query:
    """The filter as `GET /api/runs` has it."""
    return [
        ("limit", limit),
        *([("job", which.job or which.job_id)] if which.job or which.job_id else []),
        *(("owner", owner) for owner in which.owners or ()),
        *(("state", state) for state in which.states),
        *(("outcome", outcome) for outcome in which.outcomes),
        *(("id", id) for id in which.ids),
        *([("cursor", f"{which.after[0]!r}_{which.after[1]}")] if which.after else []),
    ]
