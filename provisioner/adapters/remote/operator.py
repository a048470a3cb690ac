"""provisioner.ports.control.operator.Operator over HTTP: the server's status. Only the server makes passes."""

from collections.abc import Callable, Sequence

from provisioner.adapters.remote.calls import Calls
from provisioner.adapters.remote.names import control_host_only
from provisioner.core.views.overview import Server
from provisioner.ports.clock import Clock
from provisioner.ports.connection import Connection
from provisioner.ports.control.operator import ignore

#: Seconds between two checks of `until` in `drive`.
REST = 1.0
#: Seconds for which a status is reused, because a command reads several parts of it.
FRESH = 0.5


class RemoteOperator:
    def __init__(self, calls: Calls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        #: The last status, and this computer's time when the server made it.
        self._status: tuple[float, Server] | None = None

    def now(self) -> float:
        at, status = self._status or self._read()
        return self._clock.now() - at + status.at

    def served(self) -> bool:
        return self._fresh().served

    def unfinished(self) -> bool:
        return self._fresh().unfinished

    def foreign(self) -> tuple[str, ...]:
        return self._fresh().foreign

    def owners(self) -> tuple[str, ...]:
        return self._fresh().owners

    def hindrance(self) -> str:
        return self._fresh().hindrance

    def _fresh(self) -> Server:
        fresh = self._status and 0 <= self._clock.now() - self._status[0] < FRESH
        return self._status[1] if self._status and fresh else self._read()[1]

    def _read(self) -> tuple[float, Server]:
        before = self._clock.now()
        found = self._calls.ask(Server, "GET", "/api/server")
        # The server read its clock somewhere between the request and the answer.
        self._status = (before + self._clock.now()) / 2, found
        return self._status

    def drive(
        self, until: Callable[[], bool], told: Callable[[Sequence[str]], None] = ignore, *, schedules: bool = False
    ) -> None:
        if schedules:
            control_host_only("start the jobs that are due by schedule")
        with self._calls.patient(lambda text: told([text])):
            while not until():
                self._clock.wait(REST)

    def step(self) -> Sequence[str]:
        return ()

    def ring(self, *_: object) -> None:
        control_host_only("start the jobs that are due by schedule")

    def other_store(self) -> str:
        control_host_only("take over a bucket")

    def takeover(self) -> Sequence[str]:
        control_host_only("take over a bucket")

    def enter(self, *_: object, **__: object) -> Connection:
        control_host_only("connect to machines")
