"""What every use case works with: the ports of one installation, and its policy."""

from dataclasses import dataclass, field

from provisioner.core.record import Event
from provisioner.core.terms import Terms
from provisioner.core.work import Engine
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.cloud import Cloud
from provisioner.ports.ids import Ids
from provisioner.ports.pool import Pool
from provisioner.ports.store import Store


@dataclass(frozen=True)
class WayIn:
    """How this computer reaches machines by SSH."""

    port: int = 22
    #: The image's own user, who may become root.
    user: str = "ubuntu"
    #: Beside `Policy.security_groups`, on machines that are entered.
    security_groups: tuple[str, ...] = ()
    #: By their public address; otherwise by the private one.
    public: bool = True


@dataclass(frozen=True)
class Policy:
    """What the settings decide for the control plane; plain values, in seconds where they are times."""

    installation: str
    image: str
    #: The default instance profile, and those of owners that have one of their own.
    profile: str
    profiles: dict[str, str]
    security_groups: tuple[str, ...]
    disk_gib: int
    max_machines: int | None
    engine: Engine
    boot_fuse: float
    reaper_grace: float
    terms: Terms = field(default_factory=Terms)
    way_in: WayIn = field(default_factory=WayIn)


@dataclass(frozen=True)
class Installation:
    """One store, one bucket prefix, one region, and the means to act on them."""

    store: Store
    cloud: Cloud
    bucket: Bucket
    clock: Clock
    pool: Pool
    ids: Ids
    policy: Policy

    def event(self, run: str, text: str, **detail: str) -> Event:
        """A line for the run's story, told now."""
        return Event(self.ids.new(), run, self.clock.now(), text, detail)
