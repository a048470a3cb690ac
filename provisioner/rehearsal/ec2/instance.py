"""The records of the EC2 model: machines and their states, launch templates, fleets, and events of machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Offer


@dataclass(frozen=True)
class Content:
    """The fields of a launch template that the model uses."""

    image: str
    user_data: str = ""
    profile: str = ""
    #: InstanceInitiatedShutdownBehavior; `stop` is EC2's own default.
    on_power_off: str = "stop"
    #: Size of the root disk; 0 if the template has none.
    disk_gib: int = 0
    #: Its security groups, or those of its network interface.
    groups: tuple[str, ...] = ()
    #: AssociatePublicIpAddress of its network interface; None: the subnet decides.
    public: bool | None = None
    #: The template's own tags.
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The tags of the resources that a launch with it makes, by their type.
    new_tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: The id of the capacity reservation that the template targets, or "".
    reservation: str = ""
    #: The template's MarketType, or "".
    market: str = ""


@dataclass(frozen=True)
class LaunchTemplate:
    id: str
    name: str
    content: Content
    created: float


@dataclass(frozen=True)
class FleetRequest:
    """A CreateFleet request of type instant."""

    token: str
    template: str
    #: Offers in the caller's order, and the subnet of each.
    overrides: tuple[tuple[Offer, str], ...]
    count: int
    tags: Mapping[str, str]
    #: Whether to fill the cheapest offer first; if not, offers are filled in the caller's order.
    by_price: bool = True
    #: Whether all machines must be of one type and in one zone, and none is launched if one offer has too few.
    together: bool = False
    #: Name of the cluster placement group of all machines; "" for none.
    group: str = ""
    #: The caller's whole request as text, to compare with a later request that has the same token.
    rest: str = ""


@dataclass(frozen=True)
class OfferError:
    offer: Offer
    code: str
    message: str


@dataclass(frozen=True)
class FleetAnswer:
    fleet: str
    machines: tuple[tuple[str, Offer], ...]
    errors: tuple[OfferError, ...]


@dataclass(frozen=True)
class Change:
    """A machine's state since `at` (Unix seconds), with EC2's StateReason (code, message) and StateTransitionReason."""

    state: MachineState
    at: float
    reason_code: str = ""
    reason_message: str = ""
    transition: str = ""


@dataclass(frozen=True)
class Instance:
    id: str
    offer: Offer
    subnet: str
    address: str
    #: Empty without a public address.
    public_address: str
    template: LaunchTemplate
    #: Client token of the instance; machines of a fleet have EC2's own token, not the caller's.
    token: str
    tags: Mapping[str, str]
    history: tuple[Change, ...]
    #: When EC2 reclaims the machine, in Unix seconds; None without an interruption.
    taken_at: float | None = None
    #: Whether the power is on: from the boot until `Model.gone` is called.
    powered: bool = False
    #: Name of its placement group, or "".
    group: str = ""
    #: What is wrong with its GPUs, as in GpuFault; empty for nothing.
    gpu_fault: str = ""

    @property
    def reservation(self) -> str:
        """The id of the capacity reservation that it uses, or ""."""
        return self.template.content.reservation

    @property
    def now(self) -> Change:
        return self.history[-1]

    @property
    def state(self) -> MachineState:
        return self.now.state

    @property
    def launch_time(self) -> float:
        return self.history[0].at


@dataclass(frozen=True)
class Booted:
    """The machine's kernel starts now."""

    instance: Instance


@dataclass(frozen=True)
class Noticed:
    """A spot notice is published; EC2 reclaims the machine at `instance.taken_at`."""

    instance: Instance


@dataclass(frozen=True)
class Recommended:
    """A rebalance recommendation is published."""

    instance: Instance


@dataclass(frozen=True)
class Unplugged:
    """The machine's power is cut; `Model.gone` must be called when the machine host has removed the machine."""

    instance: Instance


@dataclass(frozen=True)
class Captured:
    """The machine host must keep the machine's disk for the AMI; `Images.captured` must be called afterwards."""

    instance: Instance
    image: str


Event = Booted | Noticed | Recommended | Unplugged | Captured
