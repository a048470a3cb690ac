"""The contract for the control plane itself: its state, and the work of the control host."""

from collections.abc import Callable, Sequence
from typing import Protocol

from provisioner.ports.connection import Connection


def ignore(_: Sequence[str]) -> None:
    """Ignore the errors of a pass."""


class Operator(Protocol):
    def now(self) -> float:
        """Return the Unix time of the clock that times the runs."""

    def served(self) -> bool:
        """Return whether a daemon acts, so that no other process needs to."""

    def unfinished(self) -> bool:
        """Return whether a run of the caller's, or for an admin any machine or launch, is not over yet."""

    def foreign(self) -> tuple[str, ...]:
        """Return the ids of machines of launches that this store never made, as any process's last pass listed them.

        Only admins see them; for other callers there are none.
        """

    def hindrance(self) -> str:
        """Return why the control plane decides nothing now, such as a wrong clock, or ""."""

    # Only the control host can do what follows. A caller with a token gets Forbidden, a remote client Invalid.

    def enter(self, run: str, *, host: bool = False) -> Connection:
        """Connect to the job's container, or with `host` to its machine as root.

        Raises Invalid (the settings forbid it), NotFound (no machine), Transient (not yet), Misconfigured (another
        machine answers, or it rejects the key), and Failed (it cannot be reached).
        """

    def drive(
        self, until: Callable[[], bool], told: Callable[[Sequence[str]], None] = ignore, *, schedules: bool = False
    ) -> None:
        """Make passes, or stand by while another process does, until `until()`.

        `told` is called with each pass's errors as text. With `schedules`, starts the jobs that are due, also while
        standing by.
        """

    def ring(self, until: Callable[[], bool]) -> None:
        """Start the jobs that are due, until `until()`, and make no passes."""

    def step(self) -> Sequence[str]:
        """Make one pass, if no other process acts; return its errors as text."""

    def takeover(self) -> Sequence[str]:
        """Make the bucket this store's; return the mailboxes that were archived or are to be archived, as text."""
