"""Launches: the request for machines, the template that they share, and the cloud's answer.

Durations are in seconds; names of sizes contain the unit.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import lifetime_of
from provisioner.core.errors import CloudError

#: IOPS and MiB/s that the price of every disk includes (EBS User Guide, "General Purpose SSD volumes").
INCLUDED_IOPS, INCLUDED_THROUGHPUT = 3000, 125


@dataclass(frozen=True)
class Profile:
    """An instance profile and the unique id of its role, which is the first half of a mailbox id."""

    name: str
    arn: str
    role_id: str


@dataclass(frozen=True)
class Template:
    """The launch parameters that all machines of a launch share, except the offers."""

    image: Image
    profile_arn: str
    security_groups: tuple[str, ...]
    disk_gib: int
    #: MIME text, at most 16 KB, and without secrets.
    user_data: str
    #: `none` uses no capacity reservation, `open` any matching one, `capacity-reservations-only` only `reservation`.
    capacity_reservation: str = "none"
    #: The unique id of the profile's role: the first half of its machines' mailbox ids.
    role_id: str = ""
    #: MiB/s; None for the default of the disk type.
    disk_throughput: int | None = None
    #: The installation's name. It is part of the template's name: the control plane may use a template only if the
    #: template has the tag of its own installation.
    installation: str = ""
    #: Whether machines request a public address; if not, the subnet decides.
    public_address: bool = False
    #: The id of the capacity reservation of the machines, or "".
    reservation: str = ""
    #: Whether the reservation is a Capacity Block.
    capacity_block: bool = False

    @property
    def disk_iops(self) -> int | None:
        """The IOPS that the disk needs for its throughput: each IOPS gives a quarter of a MiB/s (ibid.)."""
        return None if self.disk_throughput is None else max(INCLUDED_IOPS, 4 * self.disk_throughput)

    @property
    def name(self) -> str:
        """The template's name: a hash of its content, so that different templates have different names."""
        content = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"provision-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class LaunchRequest:
    """The parameters of one call for `count` machines; stored before the call, and the same if the call is repeated."""

    #: The launch's id, which is also its client token: at most 64 ASCII characters.
    token: str
    template: Template
    market: Market
    #: Never empty: an empty override list would launch in the default VPC.
    offers: tuple[Offer, ...]
    subnets: Mapping[str, str]
    count: int
    tags: Mapping[str, str]
    #: Whether the machines work on one run together: all of them, of one type and in one zone, are launched, or none.
    together: bool = False
    #: Name of the cluster placement group of the machines, which no other launch uses; "" for none.
    placement_group: str = ""

    @property
    def lifetime(self) -> float | None:
        """Seconds that each machine may exist, from its launch time; None if the tag is missing."""
        return lifetime_of(self.tags)


@dataclass(frozen=True)
class Refusal:
    """The cloud's error for an offer that gave no machine; `offer` is None if the error concerns all offers."""

    error: CloudError
    offer: Offer | None = None


@dataclass(frozen=True)
class LaunchedMachine:
    instance_id: str
    offer: Offer


@dataclass(frozen=True)
class LaunchAnswer:
    """The answer to a launch. It may have fewer machines than requested, or none."""

    machines: tuple[LaunchedMachine, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    #: The Unix time in the cloud's answer, or None.
    at: float | None = field(default=None, compare=False)
