"""Make passes, and do less frequent work: start due jobs, reap machines, archive the mailboxes of a lost store."""

import contextlib
import math
from collections.abc import Callable, Sequence

from provisioner.core.access.callers import Caller
from provisioner.core.cloud.machines import Machine
from provisioner.core.errors import Conflict, ProvisionError, Retryable
from provisioner.core.protocol.codec import encode
from provisioner.service.collectors.reaper import Reaped, reap, tell
from provisioner.service.control_loop import ownership
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.loop import Loop, never
from provisioner.service.control_loop.one_pass import PassError, PassResult
from provisioner.service.control_loop.problems import Troubles, lines, operators
from provisioner.service.control_loop.takeover import Takeover
from provisioner.service.due_schedules import DueSchedules
from provisioner.service.installation import Installation
from provisioner.service.overview import FOREIGN, HINDRANCE, Foreign, foreign, hindrance

#: Seconds between two sweeps. A sweep calls the reaper, and archives the mailboxes of a lost store.
SWEEP = 60.0


class Acting:
    """The part of the control plane that acts on the cloud; it runs on the control host."""

    def __init__(self, installation: Installation, loop: Loop, schedules: DueSchedules, sites: LaunchSites) -> None:
        self._installation = installation
        self._loop = loop
        self._schedules = schedules
        self._takeover = Takeover(installation, sites)
        self._troubles = Troubles(installation)
        self._swept_at = -math.inf
        #: The text that `_note_hindrance` last stored; None if it has stored none.
        self._hindered: str | None = None
        #: The errors of the last sweep. Each pass reports them until the next sweep.
        self._unswept: list[PassError] = []

    @property
    def has_lease(self) -> bool:
        """Whether this process holds the lease."""
        return self._loop.acting

    def meanwhile(self) -> Sequence[str]:
        """Make a pass if one is due and no other process holds the lease; return its errors as text."""
        this_pass = self._loop.when_due()
        return self._errors(this_pass) if this_pass else ()

    def acquire(self) -> bool:
        """Acquire or renew the lease; return whether it is held. Raises WrongStore if another store owns the bucket."""
        return self._loop.acquire()

    def release(self) -> None:
        """Release the lease."""
        self._loop.release()

    def drive(self, until: Callable[[], bool], told: Callable[[Sequence[str]], None], *, schedules: bool) -> None:
        """Make passes, or wait for the lease, until `until()` is true; call `told` with the errors of each pass.

        With `schedules`, start due jobs.
        """

        def alarm() -> float:
            return self._schedules.fire(told=True)

        self._loop.run(until, lambda this_pass: told(self._errors(this_pass)), alarm if schedules else never)

    def ring(self, until: Callable[[], bool]) -> None:
        """Start the jobs that are due, without passes, until `until()` is true."""
        self._loop.ring(until, self._schedules.fire)

    def step(self) -> Sequence[str]:
        """Make one pass, if no other process holds the lease, and release the lease; return the errors as text."""
        this_pass = self._loop.single()
        self._loop.release()
        return self._errors(this_pass) if this_pass else ()

    def reap(self) -> Sequence[Reaped]:
        """Terminate the machines that outlived their lifetime, and log each termination.

        Returns these machines, including those whose termination was refused.
        """
        reaped = reap(self._installation.cloud, self._installation.policy.reaper_grace)
        ended = [each for each in reaped if not each.error]
        tell(ended, self._installation.journal, self._installation.clock.now())
        return reaped

    def other_store(self) -> str:
        """Return the short id of another store that owns the bucket, or ""."""
        return ownership.other_store(self._installation)

    def take_over(self, caller: Caller) -> Sequence[str]:
        """Take the bucket over for this store; return a text for each mailbox whose machine the store did not know."""
        recorder = self._installation.recorder
        # Save the audit record first, because the takeover writes to the bucket.
        recorder.save([recorder.audit(caller, "takeover", "", self._installation.policy.installation)])
        return self._takeover.take()

    def _errors(self, this_pass: PassResult) -> Sequence[str]:
        if this_pass.foreign is not None:
            self._note_foreign(this_pass.foreign)
        elapsed = self._installation.clock.elapsed()
        if elapsed >= self._swept_at + SWEEP:
            self._swept_at = elapsed
            self._unswept = self._sweep()
        met = [each for each in this_pass.errors if not isinstance(each.error, Conflict)] + self._unswept
        self._note_hindrance(self._installation.check.hindrance() or operators(met))
        self._troubles.met(met)
        return lines(met)

    def _sweep(self) -> list[PassError]:
        try:
            self._takeover.sweep()
            return [PassError(each.error, instance_id=each.machine.id) for each in self.reap() if each.error]
        except ProvisionError as error:
            return [PassError(error)]

    def _note_hindrance(self, found: str) -> None:
        """Store the reason for which this process can do nothing now, so that other processes can show it; or ""."""
        store = self._installation.store
        if found == self._hindered:
            return
        with contextlib.suppress(Retryable):
            if found != hindrance(store):
                store.remember(HINDRANCE, found, self._installation.clock.now())
            self._hindered = found

    def _note_foreign(self, machines: tuple[Machine, ...]) -> None:
        """Store the foreign machines, so that other processes can show them, and log the new ones."""
        store, now = self._installation.store, self._installation.clock.now()
        before = foreign(store)
        if machines == before:
            return
        store.remember(FOREIGN, encode(Foreign(machines)).decode(), now)
        known = {machine.id for machine in before}
        for machine in machines:
            if machine.id not in known:
                text = f"{machine.id} belongs to a launch that is not in this store: it runs until its lifetime ends"
                self._installation.journal.complain(text, now, instance=machine.id, launch=machine.launch)
