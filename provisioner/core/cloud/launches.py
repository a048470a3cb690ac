"""Launches: the request for machines, the template that they share, and the answer of the cloud.

Durations are seconds, sizes as their names say.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.errors import CloudError

#: In the price of every disk, in IOPS and MiB/s (EBS User Guide, "General Purpose SSD volumes").
INCLUDED_IOPS, INCLUDED_THROUGHPUT = 3000, 125


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
