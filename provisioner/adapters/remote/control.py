"""provisioner.ports.control.control.Control over HTTP: it reads the same views as every other client.

A request that was not sent, or that the server rejects for now, is retried. After a lost answer, only idempotent
requests are retried; the module of each port says which of its requests are idempotent.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from provisioner.adapters.remote.address import Address
from provisioner.adapters.remote.calls import NEVER, Calls
from provisioner.adapters.remote.commands import RemoteCommands
from provisioner.adapters.remote.jobs import RemoteHistory, RemoteJobs, RemoteSchedules
from provisioner.adapters.remote.logs import RemoteLogs
from provisioner.adapters.remote.operator import RemoteOperator
from provisioner.adapters.remote.runs import RemoteRuns, RemoteUsage
from provisioner.adapters.remote.tokens import RemoteTokens
from provisioner.adapters.remote.uploads import RemoteUploads
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids


class Remote:
    """Control over HTTP, for one thread at a time; only `wake` may be called by any thread."""

    def __init__(self, address: Address, clock: Clock, ids: Ids, told: Callable[[str], None]) -> None:
        """`told` gets a message when the server becomes unavailable, except during a call that reports this itself."""
        self._calls = Calls(address, clock, told)
        self._clock = clock
        self.tokens = RemoteTokens(self._calls)
        self.jobs, self.schedules = RemoteJobs(self._calls), RemoteSchedules(self._calls)
        self.history = RemoteHistory(self._calls)
        self.runs = RemoteRuns(self._calls, ids)
        self.logs = RemoteLogs(self._calls, clock, self.runs)
        self.commands = RemoteCommands(self._calls, ids)
        self.uploads = RemoteUploads(self._calls)
        self.usage = RemoteUsage(self._calls)
        self.operator = RemoteOperator(self._calls, clock)

    def wake(self) -> None:
        self._clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return self._calls.patient(lambda _: None, NEVER)

    def close(self) -> None:
        self._calls.close()
