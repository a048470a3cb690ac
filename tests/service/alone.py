"""One service of an in-memory installation, without the loop; the test sets the cloud's listings."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.machines import Listing, Machine, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.errors import CloudError, Misconfigured
from provisioner.core.protocol.words import Engine
from provisioner.core.run.plan import Plan
from provisioner.core.run.records import KnownMachine, Launch, Live
from provisioner.ports.store import Lease
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, ListJournal, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.service.control_loop.launch_sites import Agent, LaunchSites
from provisioner.service.control_loop.launches import Launches
from provisioner.service.control_loop.one_pass import Pass
from provisioner.service.installation import Installation, Policy
from tests.service.memory_store import MemoryStore
from tests.support.samples import ZONES, site

OFFER = Offer(Market.SPOT, "g5.xlarge", "a")


class ListedCloud(FakeCloud):
    """A cloud that lists the machines in `listed`, and records requests to terminate."""

    def __init__(self, clock: StepClock) -> None:
        super().__init__(clock)
        self.listed: list[Machine] = []
        #: The error that every complete listing raises, or None.
        self.unlistable: CloudError | None = None
        #: The requests to terminate, in order.
        self.asked: list[set[str]] = []
        #: Ids whose termination is refused.
        self.refused: set[str] = set()
        self.failing_checks: set[str] = set()
        self.examined = 0

    def machines(self) -> Listing:
        if self.unlistable:
            raise self.unlistable
        return Listing(self.clock.now(), tuple(self.listed))

    def machines_known(self, ids: Collection[str]) -> Listing:
        return Listing(self.clock.now(), tuple(each for each in self.listed if each.id in ids))

    def machines_of(self, launch: str) -> tuple[Machine, ...]:
        return tuple(each for each in self.listed if each.launch == launch)

    def terminate(self, ids: Collection[str]) -> Mapping[str, CloudError]:
        self.asked.append(set(ids))
        return {id: Misconfigured("refused", "OperationNotPermitted") for id in ids if id in self.refused}

    def impaired(self, ids: Collection[str]) -> frozenset[str]:
        self.examined += 1
        return frozenset(self.failing_checks & set(ids))


class Alone:
    """The ports of one installation, and the lease under which its services save."""

    def __init__(self, *, max_machines: int | None = None, profiles: Mapping[str, str] | None = None) -> None:
        self.clock = StepClock()
        self.cloud = ListedCloud(self.clock)
        self.bucket = MemoryBucket(self.clock.now)
        self.ids = CountingIds()
        self.store = MemoryStore(self.ids)
        self.journal = ListJournal()
        self.policy = Policy(
            installation="test",
            image="ami-1",
            profile="machine",
            profiles=dict(profiles or {}),
            security_groups=(),
            disk_gib=100,
            max_machines=max_machines,
            engine=Engine.CONTAINER,
            boot_fuse=1200.0,
            reaper_grace=900.0,
        )
        self.installation = Installation(
            self.store, self.cloud, self.bucket, self.clock, InlinePool(), self.ids, self.journal, self.policy
        )
        self.sites = LaunchSites(
            self.installation, Agent("1", lambda: b"agent"), lambda role, sha256: f"{role} {sha256}"
        )
        self.launches = Launches(self.installation, self.sites)
        self.lease: Lease = self._lease()

    def _lease(self) -> Lease:
        lease = self.store.acquire("test", "daemon", self.clock.now(), 1e9)
        assert lease
        return lease

    def perform(self) -> None:
        """Perform every open launch once, as a pass after a restart does."""
        for launch in self.live().launches:
            self.launches.perform(launch, self.epoch, again=True)

    @property
    def epoch(self) -> int:
        return self.lease.epoch

    def plan(self) -> Plan:
        """Return the plan of a pass now."""
        return Pass(self.installation, self.epoch).plan()

    def live(self) -> Live:
        return self.store.live()

    def launched(
        self, id: str = "launch-1", *, runs: tuple[str, ...] = (), closed: bool = True, count: int = 1
    ) -> Launch:
        """Store a launch, which is answered unless `closed=False`; return it."""
        place = site()
        subnets = {zone: f"subnet-{zone}" for zone in ZONES}
        tags = {LAUNCH_TAG: id}
        request = LaunchRequest(id, place.template, Market.SPOT, (OFFER,), subnets, count, tags)
        now = self.clock.now()
        (stored,) = self.store.save([Launch(request, runs, now, closed_at=now if closed else None)])
        return stored

    def known(self, id: str = "i-1", launch: str = "launch-1", **fields: object) -> KnownMachine:
        """Store a machine that was launched now; return it."""
        now = self.clock.now()
        made = KnownMachine(id, launch, OFFER, now, MachineState.RUNNING, launch_time=now, seen_at=now)
        (stored,) = self.store.save([replace(made, **fields)])  # type: ignore[arg-type]
        return stored

    def machine(self, id: str = "i-1") -> KnownMachine:
        """Return the machine as it is stored now."""
        (found,) = self.store.machines([id])
        return found

    def shown(
        self,
        id: str = "i-1",
        launch: str = "launch-1",
        state: MachineState = MachineState.RUNNING,
        *,
        lifetime: float | None = None,
        age: float = 0.0,
    ) -> Machine:
        """Add a machine to the cloud's listing; return it."""
        tags = {LAUNCH_TAG: launch} | ({} if lifetime is None else {"provision:lifetime": f"{lifetime:.0f}"})
        machine = Machine(id, state, OFFER, self.clock.now() - age, tags)
        self.cloud.listed.append(machine)
        return machine
