"""Everything that a face uses of one installation: a service in this process, or a server over HTTP."""

from contextlib import AbstractContextManager
from typing import Protocol

from provisioner.ports.control.jobs import Jobs
from provisioner.ports.control.logs import Logs
from provisioner.ports.control.operator import Operator
from provisioner.ports.control.runs import Runs
from provisioner.ports.control.schedules import Schedules
from provisioner.ports.control.tokens import Tokens


class Control(Protocol):
    """The ports of one installation, as one caller may use them."""

    @property
    def jobs(self) -> Jobs: ...

    @property
    def runs(self) -> Runs: ...

    @property
    def logs(self) -> Logs: ...

    @property
    def schedules(self) -> Schedules: ...

    @property
    def tokens(self) -> Tokens: ...

    @property
    def operator(self) -> Operator: ...

    def wake(self) -> None:
        """End the present rest of `operator.drive`; also callable from a signal handler."""

    def impatient(self) -> AbstractContextManager[None]:
        """Inside this context, a server that is away raises Transient at once: no repetition, no message."""

    def close(self) -> None:
        """Release the lease and close the store or the connections."""
