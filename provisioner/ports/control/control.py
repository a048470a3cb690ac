"""The contract for all operations of the command line and the APIs, in this process or on a server over HTTP."""

from contextlib import AbstractContextManager
from typing import Protocol

from provisioner.ports.control.history import History
from provisioner.ports.control.jobs import Jobs
from provisioner.ports.control.lists import Commands
from provisioner.ports.control.logs import Logs
from provisioner.ports.control.operator import Operator
from provisioner.ports.control.runs import Runs
from provisioner.ports.control.schedules import Schedules
from provisioner.ports.control.tokens import Tokens
from provisioner.ports.control.uploads import Uploads
from provisioner.ports.control.usage import Usage


class Control(Protocol):
    """The operations on one installation that one caller may use."""

    @property
    def jobs(self) -> Jobs: ...

    @property
    def history(self) -> History: ...

    @property
    def runs(self) -> Runs: ...

    @property
    def logs(self) -> Logs: ...

    @property
    def commands(self) -> Commands: ...

    @property
    def uploads(self) -> Uploads: ...

    @property
    def schedules(self) -> Schedules: ...

    @property
    def tokens(self) -> Tokens: ...

    @property
    def usage(self) -> Usage: ...

    @property
    def operator(self) -> Operator: ...

    def wake(self) -> None:
        """End the current wait of `operator.drive`; may be called from a signal handler."""

    def impatient(self) -> AbstractContextManager[None]:
        """Return a context in which an unavailable server raises Transient at once, without retries or messages."""

    def close(self) -> None:
        """Release the lease and close the store or the connections."""
