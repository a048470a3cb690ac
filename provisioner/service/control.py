"""The use cases in this process: provisioner.ports.control.Control over one installation."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence

from provisioner.core.access.callers import Caller
from provisioner.core.cloud.machines import Machine
from provisioner.core.errors import Conflict, ProvisionError, Retryable
from provisioner.ports.ids import Ids
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.loop import Loop, never
from provisioner.service.control_loop.one_pass import PassError, PassResult
from provisioner.service.control_loop.problems import Troubles, line
from provisioner.service.control_loop.reaper import Reaped, reap, tell
from provisioner.service.control_loop.takeover import Takeover
from provisioner.service.installation import Installation
from provisioner.service.overview import HINDRANCE
from provisioner.service.ssh_entry.entrance import Entrance
from provisioner.service.tally import Tally, tally
from provisioner.service.tokens import Tokens
from provisioner.service.usecases import OnBehalf, UseCases

#: The reaper and the sweep of orphans look this often, in seconds.
SWEEP = 60.0


class Service(UseCases):
    """The use cases of who opened the installation, acting among them."""

    def __init__(
        self, installation: Installation, loop: Loop, caller: Caller, entrance: Entrance, sites: LaunchSites
    ) -> None:
        super().__init__(installation, caller, entrance, sites)
        self.access = Tokens(installation)
        self._loop = loop
        self._takeover = Takeover(installation)
        self._troubles = Troubles(installation)
        self._swept_at = -math.inf
        #: The hindrance that this process last stored for other processes; None before the first.
        self._hindered: str | None = None
        #: What the last sweep met, which stands until the next one.
        self._unswept: list[PassError] = []

    @property
    def acting(self) -> bool:
        """Whether it is this process that acts."""
        return self._loop.acting

    def tally(self) -> Tally:
        """What there is, counted."""
        return tally(self._installation)

    @property
    def ids(self) -> Ids:
        return self._installation.ids

    def on_behalf(self, caller: Caller) -> OnBehalf:
        """The same installation as that caller may have it; costs microseconds."""
        return OnBehalf(self._installation, caller, self._entrance, self._sites)

    def _meanwhile(self) -> Sequence[str]:
        # Acts where no daemon does.
        this_pass = self._loop.when_due()
        return self._errors(this_pass) if this_pass else ()

    def _unfollow(self) -> None:
        self._loop.release()

    def close(self) -> None:
        """Give back the lease and the store."""
        self._loop.release()
        self._installation.store.close()
        self._installation.journal.close()

    def drive(
        self,
        until: Callable[[], bool],
        told: Callable[[Sequence[str]], None] = lambda _: None,
        *,
        schedules: bool = False,
    ) -> None:
        alarm = functools.partial(self._schedules.fire, told=True) if schedules else never
        self._loop.run(until, lambda this_pass: told(self._errors(this_pass)), alarm)

    def ring(self, until: Callable[[], bool]) -> None:
        self._loop.ring(until, self._schedules.fire)

    def step(self) -> Sequence[str]:
        this_pass = self._loop.single()
        self._loop.release()
        return self._errors(this_pass) if this_pass else ()

    def _errors(self, this_pass: PassResult) -> Sequence[str]:
        if this_pass.foreign is not None:
            self._note(this_pass.foreign)
        self._note_hindrance()
        elapsed = self._installation.clock.elapsed()
        if elapsed >= self._swept_at + SWEEP:
            self._swept_at = elapsed
            self._unswept = self._sweep()
        met = [each for each in this_pass.errors if not isinstance(each.error, Conflict)] + self._unswept
        self._troubles.met(met)
        return [line(each) for each in met]

    def _sweep(self) -> list[PassError]:
        try:
            self._takeover.sweep()
            return [PassError(each.error, instance_id=each.machine.id) for each in self.reap() if each.error]
        except ProvisionError as error:
            return [PassError(error)]

    def _note_hindrance(self) -> None:
        """Store why this process decides nothing now, so that other processes can show it."""
        found = self._installation.check.hindrance()
        if found == self._hindered:
            return
        with contextlib.suppress(Retryable):
            if found != self.hindrance():
                self._installation.store.remember(HINDRANCE, found, self._installation.clock.now())
            self._hindered = found

    def _note(self, foreign: tuple[Machine, ...]) -> None:
        before = self.foreign()
        if foreign == before:
            return
        now, known = self._installation.clock.now(), {machine.id for machine in before}
        self._note_foreign(foreign, now)
        for machine in foreign:
            if machine.id not in known:
                text = f"{machine.id} is of a launch that this store never made: left to its lifetime"
                self._installation.journal.complain(text, now, instance=machine.id, launch=machine.launch)

    def reap(self) -> Sequence[Reaped]:
        """End what has outlived its lifetime."""
        reaped = reap(self._installation.cloud, self._installation.policy.reaper_grace)
        ended = [each for each in reaped if not each.error]
        tell(ended, self._installation.journal, self._installation.clock.now())
        return reaped

    def takeover(self) -> Sequence[str]:
        audit = self._installation.audit(self.caller, "takeover", "", self._installation.policy.installation)
        # Before the deed, which is the bucket's.
        self._installation.save([audit])
        return self._takeover.take()
