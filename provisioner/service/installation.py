"""The ports of one installation, and its policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.cloud.caps.budget import DAY, NO_CAPS, Budget, Caps, day_of
from provisioner.core.cloud.machines import Machine
from provisioner.core.errors import Failed
from provisioner.core.protocol.words import Engine
from provisioner.core.recipe.defaults import RecipeDefaults
from provisioner.core.run.machines.costs import budget_of
from provisioner.core.run.records import Live, Record
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.cloud import Cloud
from provisioner.ports.ids import Ids
from provisioner.ports.journal import Journal
from provisioner.ports.keys import Keys
from provisioner.ports.meter import Meter, Unmetered
from provisioner.ports.pool import Pool
from provisioner.ports.store import Store
from provisioner.service.clock_check import ClockCheck
from provisioner.service.recorder import Recorder

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class WayIn:
    """How this computer reaches machines by SSH."""

    port: int = 22
    #: The login user of the machine image: root, or a user that can run `sudo` without a password.
    user: str = "ubuntu"
    #: Security groups that allow SSH to machines, in addition to `Policy.security_groups`.
    security_groups: tuple[str, ...] = ()
    #: Whether to connect to a machine's public address, not to its private address.
    public: bool = True

    def address_of(self, machine: Machine) -> str:
        """Return the address to connect to. Raises Failed if the machine has none."""
        address = machine.public_address if self.public else machine.address
        if not address:
            raise Failed(
                f"{machine.id} has no public address, because its subnet assigns none. Use another subnet, or "
                'set `address = "private"` under [ssh] if this computer is in the VPC'
            )
        return address

    def unreachable(self, address: str, trouble: object) -> Failed:
        """Return the error for an address that cannot be reached, with advice."""
        groups = ", ".join(self.security_groups) or "a security group named in `security_groups` under [ssh]"
        advice = f"allow TCP port {self.port} from this computer in {groups}"
        if self.public:
            advice += ', or set `address = "private"` under [ssh] if this computer is in the VPC'
        return Failed(f"cannot connect to {address} port {self.port} ({trouble}): {advice}")


#: Stands for the VPC's default security group.
DEFAULT_GROUP = ""


@dataclass(frozen=True)
class Policy:
    """The settings of the control plane as plain values; times are in seconds."""

    installation: str
    image: str
    #: The default instance profile. `profiles` has the profile of each owner that has another profile.
    profile: str
    profiles: dict[str, str]
    security_groups: tuple[str, ...]
    disk_gib: int
    max_machines: int | None
    engine: Engine
    boot_fuse: float
    reaper_grace: float
    terms: RecipeDefaults = field(default_factory=RecipeDefaults)
    #: The limits of each owner. They apply to the owner's callers and schedules, but not to admins.
    limits: OwnerLimits = UNLIMITED
    way_in: WayIn = field(default_factory=WayIn)
    caps: Caps = NO_CAPS
    #: Security groups by instance profile. A profile without an entry has `security_groups`.
    profile_groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def profile_of(self, owner: str) -> str:
        return self.profiles.get(owner, self.profile)

    def groups_of(self, profile: str) -> tuple[str, ...]:
        """Return the security groups of machines with this profile, without the groups for SSH.

        If a machine has no group at all, EC2 gives it the VPC's default group.
        """
        return self.profile_groups.get(profile, self.security_groups)

    def beside(self, owner: str) -> list[str]:
        """Return the other profiles whose machines share a security group with those of the owner."""
        own = self.profile_of(owner)
        groups = {*self.groups_of(own)} or {DEFAULT_GROUP}
        others = sorted({self.profile, *self.profiles.values()} - {own})
        return [other for other in others if groups & ({*self.groups_of(other)} or {DEFAULT_GROUP})]


def budget_for(store: Store, caps: Caps, live: Live, now: float) -> Budget | None:
    """Return what the cap on the cost of a day leaves at `now`; None without a cap. `live` was just read."""
    if caps.dollars_a_day is None:
        return None
    begin = day_of(now) * DAY
    return budget_of(live, store.spent(begin, begin + DAY), caps.dollars_a_day, now)


@dataclass(frozen=True)
class Installation:
    """One store, one bucket prefix and one region, with the ports to act on them."""

    store: Store
    cloud: Cloud
    bucket: Bucket
    clock: Clock
    pool: Pool
    ids: Ids
    journal: Journal
    policy: Policy
    #: The SSH keys of runs; None if the settings do not allow SSH to machines.
    keys: Keys | None = None
    meter: Meter = field(default_factory=Unmetered)
    check: ClockCheck = field(init=False)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "check", ClockCheck(self.clock))
        object.__setattr__(self, "recorder", Recorder(self.store, self.ids, self.clock, self.journal))

    def now(self) -> float:
        """Return the Unix time for decisions and stored times; raises ClockWrong if this computer's clock is wrong."""
        return self.check.now()

    def save(self, records: Sequence[R], *, epoch: int | None = None) -> tuple[R, ...]:
        """Save the records as `Recorder.save` does."""
        return self.recorder.save(records, epoch=epoch)
