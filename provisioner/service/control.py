"""The implementation of provisioner.ports.control.control.Control for one installation in this process."""

from contextlib import AbstractContextManager, nullcontext

from provisioner.core.access.callers import Caller
from provisioner.ports.ids import Ids
from provisioner.service.acting import Acting
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.loop import Loop
from provisioner.service.due_schedules import DueSchedules
from provisioner.service.installation import Installation
from provisioner.service.jobs import Jobs
from provisioner.service.logs import Logs
from provisioner.service.operator import Operator
from provisioner.service.runs import Runs
from provisioner.service.schedules import Schedules
from provisioner.service.ssh_entry.entrance import Entrance
from provisioner.service.tally import Tally, tally
from provisioner.service.tokens import Gate, Tokens


class OnBehalf:
    """The services of an installation for one caller. Constructing them takes microseconds."""

    def __init__(
        self,
        installation: Installation,
        caller: Caller,
        entrance: Entrance,
        sites: LaunchSites,
        gate: Gate,
        acting: Acting | None = None,
    ) -> None:
        """`acting` acts on the cloud; None for a caller with a token, who may not do the control host's work."""
        store, recorder, clock = installation.store, installation.recorder, installation.clock
        self.caller = caller
        self.jobs = Jobs(store, recorder, clock, installation.ids, installation.policy, sites, caller)
        self.runs = Runs(store, recorder, clock, installation.policy, self.jobs, caller)
        self.schedules = Schedules(store, clock, self.jobs)
        self.logs = Logs(store, installation.bucket, clock, self.runs, entrance, acting)
        self.tokens = Tokens(store, recorder, clock, installation.ids, gate, caller)
        self.operator = Operator(store, clock, self.runs, entrance, caller, acting)
        self._clock = clock

    def wake(self) -> None:
        self._clock.wake()

    def impatient(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Do nothing: the process that opened the installation closes it."""


class Service(OnBehalf):
    """The services for the process that opened the installation, which can act on the cloud."""

    def __init__(
        self, installation: Installation, loop: Loop, caller: Caller, entrance: Entrance, sites: LaunchSites
    ) -> None:
        jobs = Jobs(
            installation.store,
            installation.recorder,
            installation.clock,
            installation.ids,
            installation.policy,
            sites,
            caller,
        )
        self.acting = Acting(installation, loop, DueSchedules(installation, jobs), sites)
        self.gate = Gate(installation.store, installation.clock)
        super().__init__(installation, caller, entrance, sites, self.gate, self.acting)
        self.installation = installation
        self._entrance = entrance
        self._sites = sites

    def on_behalf(self, caller: Caller) -> OnBehalf:
        """Return the services for a caller with a token."""
        return OnBehalf(self.installation, caller, self._entrance, self._sites, self.gate)

    def tally(self) -> Tally:
        """Return the counts of the store's records, for metrics."""
        return tally(self.installation.store, self.installation.clock.now())

    @property
    def ids(self) -> Ids:
        return self.installation.ids

    def close(self) -> None:
        self.acting.release()
        self.installation.store.close()
        self.installation.journal.close()
