"""What the model of EC2 is about: machines and their states, launch templates, fleets, and what befalls a machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Offer


@dataclass(frozen=True)
class Content:
    """What a launch template holds, as far as a machine's life depends on it."""

    image: str
    user_data: str = ""
    profile: str = ""
    #: `stop` is EC2's own default.
    on_power_off: str = "stop"
    #: Of the root disk; 0 where the template does not say.
    disk_gib: int = 0


@dataclass(frozen=True)
class LaunchTemplate:
    id: str
    name: str
    content: Content
    created: float


@dataclass(frozen=True)
class FleetRequest:
    """One CreateFleet of type instant."""

    token: str
    template: str
    #: Offers in the caller's order, and the subnet of each.
    overrides: tuple[tuple[Offer, str], ...]
    count: int
    tags: Mapping[str, str]
    #: Fill the cheapest offer first; otherwise in the caller's order.
    by_price: bool = True
    #: Whatever else the caller said; only compared, when the token comes again.
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
    """A machine's state from `at` on; StateReason's code and message, and StateTransitionReason."""

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
    public_address: str
    template: LaunchTemplate
    #: Machines of a fleet carry EC2's own token, not the caller's.
    token: str
    tags: Mapping[str, str]
    history: tuple[Change, ...]
    #: When the cloud takes it, once a spot notice was given.
    taken_at: float | None = None
    #: Its power is on: booted, and not yet reported gone.
    powered: bool = False

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
    """A spot notice is out; `instance.taken_at` says for when."""

    instance: Instance


@dataclass(frozen=True)
class Recommended:
    """A recommendation to move elsewhere is out."""

    instance: Instance


@dataclass(frozen=True)
class Unplugged:
    """The machine's power goes; answer with `gone` when nothing of it is left."""

    instance: Instance


@dataclass(frozen=True)
class Captured:
    """Keep what is on the machine's disk as the image's; answer with `images.captured`."""

    instance: Instance
    image: str


Event = Booted | Noticed | Recommended | Unplugged | Captured
