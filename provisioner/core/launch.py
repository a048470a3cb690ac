"""What is asked of the cloud, and what it answers: offers, templates, launches, machines.

Times are Unix seconds, durations seconds, prices US dollars an hour, sizes as their names say.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from provisioner.core.errors import CloudError

#: The tags every machine carries from its creation.
INSTALLATION_TAG = "provision:installation"
LAUNCH_TAG = "provision:launch"
LIFETIME_TAG = "provision:lifetime"
OWNER_TAG = "provision:owner"
JOB_TAG = "provision:job"

#: In the price of every disk, in IOPS and MiB/s (EBS User Guide, "General Purpose SSD volumes").
INCLUDED_IOPS, INCLUDED_THROUGHPUT = 3000, 125


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True)
class Offer:
    """One way to have a machine."""

    market: Market
    instance_type: str
    zone: str

    def __str__(self) -> str:
        return f"{self.market} {self.instance_type} in {self.zone}"


@dataclass(frozen=True)
class Price:
    """Dollars an hour of a machine, or a month of a disk; there is no Price where it is not known."""

    dollars: float
    #: Where the figure comes from, and when it was true.
    source: str
    at: float


@dataclass(frozen=True)
class InstanceType:
    """What the cloud says of a type."""

    name: str
    #: As the cloud names it: `x86_64`, `arm64`.
    architecture: str
    gpus: int
    vcpus: int
    memory_mib: int
    #: The zones of the region that offer it and in which the installation has a subnet.
    zones: tuple[str, ...]
    spot: bool


@dataclass(frozen=True)
class Catalog:
    """What can be launched here: types by name, and a price for each offer that has a known one."""

    types: Mapping[str, InstanceType]
    #: One subnet for each zone: a fleet cannot span two subnets of a zone.
    subnets: Mapping[str, str]
    prices: Mapping[Offer, Price]
    at: float


@dataclass(frozen=True)
class PriceList:
    """What the cloud asks of everybody: an hour of on-demand machines by type, and a month of disk."""

    machines: Mapping[str, Price]
    #: Of a GiB, of one of the IOPS and of a MiB/s beyond what a disk's price includes.
    gib: Price | None = None
    iops: Price | None = None
    throughput: Price | None = None

    def disk(self, template: "Template") -> Price | None:
        """A month of the template's disk; None where a part of it is unknown."""
        parts = (
            (self.gib, template.disk_gib),
            (self.iops, (template.disk_iops or INCLUDED_IOPS) - INCLUDED_IOPS),
            (self.throughput, max(0, (template.disk_throughput or 0) - INCLUDED_THROUGHPUT)),
        )
        known = [(price, amount) for price, amount in parts if price and amount]
        if len(known) < sum(bool(amount) for _, amount in parts):
            return None
        return replace(known[0][0], dollars=sum(price.dollars * amount for price, amount in known))


@dataclass(frozen=True)
class Image:
    """A machine image; the root device's name differs from image to image."""

    id: str
    root_device: str
    architecture: str
    #: The least that its root disk may be; 0 where the cloud does not say.
    disk_gib: int = 0


@dataclass(frozen=True)
class Profile:
    """An instance profile and the unique id of its role: the first half of a mailbox id."""

    name: str
    arn: str
    role_id: str


@dataclass(frozen=True)
class Template:
    """What the machines of a launch have in common; offers are not part of it."""

    image: Image
    profile_arn: str
    security_groups: tuple[str, ...]
    disk_gib: int
    #: MIME text, at most 16 KB, and without secrets.
    user_data: str
    #: `none` never uses a capacity reservation, `open` uses any that matches.
    capacity_reservation: str = "none"
    #: The unique id of the profile's role: the first half of its machines' mailbox ids.
    role_id: str = ""
    #: MiB a second; None is the disk's own default.
    disk_throughput: int | None = None

    @property
    def disk_iops(self) -> int | None:
        """What the disk needs for its throughput: each of its IOPS carries a quarter of a MiB/s (ibid.)."""
        return None if self.disk_throughput is None else max(INCLUDED_IOPS, 4 * self.disk_throughput)

    @property
    def name(self) -> str:
        """The template's name, made from its content, so that two contents never share a name."""
        content = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"provision-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class LaunchRequest:
    """One call for `count` machines; stored whole before it is made, and replayed as it is."""

    #: The launch's id, which is also its client token: at most 64 ASCII characters.
    token: str
    template: Template
    market: Market
    #: Never empty: an empty override list would launch in the default VPC.
    offers: tuple[Offer, ...]
    subnets: Mapping[str, str]
    count: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """Why one offer of an answered launch gave no machine; no offer: it concerns them all."""

    error: CloudError
    offer: Offer | None = None


@dataclass(frozen=True)
class LaunchedMachine:
    instance_id: str
    offer: Offer


@dataclass(frozen=True)
class LaunchAnswer:
    """What came of a launch, even if it is nothing: fewer machines than asked is an answer."""

    machines: tuple[LaunchedMachine, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    #: The Unix time in the cloud's answer, or None.
    at: float | None = field(default=None, compare=False)


class MachineState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


#: No more billing and no way back (EC2 User Guide, "Instance lifecycle").
ENDING = frozenset({MachineState.SHUTTING_DOWN, MachineState.TERMINATED})


class Ending(StrEnum):
    """What ended a machine, in the cloud's own account of it."""

    #: The machine itself, or somebody with the right to: says nothing of the cloud.
    ASKED = "asked"
    INTERRUPTED = "interrupted"
    NO_CAPACITY = "no capacity"
    #: It will never start as it is, a denied disk key for one.
    MISCONFIGURED = "misconfigured"
    FAULT = "fault"


@dataclass(frozen=True)
class Machine:
    """An instance as the cloud describes it."""

    id: str
    state: MachineState
    offer: Offer
    launch_time: float
    tags: Mapping[str, str]
    #: StateReason's code and message, and StateTransitionReason: why it is in this state.
    reason_code: str = ""
    reason: str = ""
    #: What `reason_code` means; None while it lives.
    ending: Ending | None = None
    address: str = ""
    #: Empty where its subnet gives none.
    public_address: str = ""
    #: The machine image that it runs from.
    image: str = ""
    #: When it came into its state, where the cloud dates that: whole seconds.
    transition_at: float | None = None

    @property
    def launch(self) -> str:
        return self.tags.get(LAUNCH_TAG, "")

    @property
    def lifetime(self) -> float | None:
        """Seconds it may live from its launch time; None when the tag is missing or no number."""
        text = self.tags.get(LIFETIME_TAG, "")
        return float(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True)
class Listing:
    """Every machine of the installation, whole: a partial listing is an error, not a Listing."""

    #: The cloud's own clock: the Date header of the (last) answer.
    at: float
    machines: tuple[Machine, ...]
