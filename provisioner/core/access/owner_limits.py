"""Limits on the runs and stored bytes that one owner may have, so that no owner overloads the control host."""

from dataclasses import dataclass

from provisioner.core.errors import LimitReached

MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """The number of an owner's unfinished runs, and the owner's stored bytes."""

    unfinished_runs: int
    #: Of these runs and their uploads, of uploads that no run uses, and of jobs.
    stored_bytes: int


@dataclass(frozen=True)
class OwnerLimits:
    """The limits of one owner; None means unlimited."""

    unfinished_runs: int | None = None
    stored_bytes: int | None = None

    def check(self, owner: str, before: Usage, after: Usage) -> None:
        """Raise LimitReached if a change exceeds a limit. A change that reduces the usage is always allowed."""
        most = self.unfinished_runs
        if most is not None and after.unfinished_runs > max(most, before.unfinished_runs):
            raise LimitReached(
                f"{owner} has {before.unfinished_runs} unfinished runs; limits.unfinished_runs is {most}: "
                "wait until some end, or stop some",
                "limits.unfinished_runs",
            )
        most = self.stored_bytes
        if most is not None and after.stored_bytes > max(most, before.stored_bytes):
            raise LimitReached(
                f"{owner}'s jobs, unfinished runs and uploads would take {after.stored_bytes / MIB:.1f} MiB; "
                f"limits.stored_mib is {most / MIB:g}: store less, wait until some runs end, or ask an admin",
                "limits.stored_mib",
            )


#: The limits for admins, and for commands on the control host.
UNLIMITED = OwnerLimits()
