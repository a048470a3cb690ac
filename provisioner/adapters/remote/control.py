"""provisioner.ports.control.control.Control over HTTP: it reads the same views as every other client.

A request that was never sent, or that the server refuses for now, is sent again. A lost answer is requested again if a
second request has the same effect as one; see the modules of the ports.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from provisioner.adapters.remote.address import Address
from provisioner.adapters.remote.calls import NEVER, Calls
from provisioner.adapters.remote.jobs import RemoteJobs, RemoteSchedules
from provisioner.adapters.remote.logs import RemoteLogs
from provisioner.adapters.remote.operator import RemoteOperator
from provisioner.adapters.remote.runs import RemoteRuns
from provisioner.adapters.remote.tokens import RemoteTokens
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids


class Remote:
    """Control over HTTP, for one thread at a time; only `wake` may be called by any thread."""

    def __init__(self, address: Address, clock: Clock, ids: Ids, told: Callable[[str], None]) -> None:
        """`told` is called with a message when the server is away, except inside a call that reports it itself."""
        self._calls = Calls(address, clock, told)
        self._clock = clock
        self.tokens = RemoteTokens(self._calls)
        self.jobs, self.schedules = RemoteJobs(self._calls), RemoteSchedules(self._calls)
        self.runs = RemoteRuns(self._calls, ids)
        self.logs = RemoteLogs(self._calls, clock, self.runs)
        self.operator = RemoteOperator(self._calls, clock)

    def wake(self) -> None:
        self._clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return self._calls.patient(lambda _: None, NEVER)

    def close(self) -> None:
        self._calls.close()
