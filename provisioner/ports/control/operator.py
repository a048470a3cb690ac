"""The contract for the control plane itself: its state, and the work of the control host."""

from collections.abc import Callable, Sequence
from typing import Protocol

from provisioner.ports.connection import Connection


def ignore(_: Sequence[str]) -> None:
    """Ignore the errors of a pass."""


class Operator(Protocol):
    def now(self) -> float:
        """Return the Unix time of the clock that is used for all times of runs."""

    def served(self) -> bool:
        """Return whether a daemon makes passes, so that no other process needs to make them."""

    def unfinished(self) -> bool:
        """Return whether a run of the caller is unfinished, or, for an admin, any machine or launch."""

    def foreign(self) -> tuple[str, ...]:
        """Return the ids of machines of launches that this store never made, from the last pass of any process.

        Returns no ids to a caller who is not an admin.
        """

    def owners(self) -> tuple[str, ...]:
        """Return the caller's own owners, also for an admin; the first is the default for names without an owner."""

    def hindrance(self) -> str:
        """Return why the control plane decides nothing now, such as a wrong clock, or ""."""

    # The methods below need the control host. On the control host, all but `enter` raise Forbidden for a caller with a
    # token. In a remote client `drive` without schedules only waits, `step` does nothing, and the others raise Invalid.

    def enter(self, run: str, *, rank: int = 0, host: bool = False) -> Connection:
        """Connect to the job's container on a rank's machine, or with `host` to the machine as root.

        Raises Invalid (the settings forbid it), NotFound (no such rank, or no machine), Transient (not yet),
        Misconfigured (another machine answers, or it rejects the key), and Failed (it cannot be reached).
        """

    def drive(
        self, until: Callable[[], bool], told: Callable[[Sequence[str]], None] = ignore, *, schedules: bool = False
    ) -> None:
        """Make passes until `until()` is true; stand by while another process makes them.

        `told` is called with each pass's errors as text. With `schedules`, starts the jobs that are due, also during
        the standby.
        """

    def ring(self, until: Callable[[], bool]) -> None:
        """Start the jobs whose schedules are due until `until()` is true, without making passes."""

    def step(self) -> Sequence[str]:
        """Make one pass, if no other process holds the lease; return its errors as text."""

    def other_store(self) -> str:
        """Return the short id of another store that owns the bucket, or "" if there is nothing to take over."""

    def takeover(self) -> Sequence[str]:
        """Make this store the bucket's owner; return a text for each mailbox of a machine unknown to the store."""
