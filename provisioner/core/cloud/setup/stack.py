"""Describe the CloudFormation stack of an installation: which resources it makes, and their names."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.policies import Document
from provisioner.core.errors import Invalid

#: The tag of every resource of a stack that can have tags. It is not the tag of machines: the control plane may end
#: what has that one.
SETUP_TAG = "provision:setup"
#: The tag of a stack with the name of the SSO profile that the control plane uses in place of a role of its own.
LOGIN_TAG = "provision:sso-profile"
#: The role with which EC2 launches spot machines (EC2 User Guide, "Service-linked role for Spot Instance requests").
SPOT_SERVICE, SPOT_ROLE = "spot.amazonaws.com", "AWSServiceRoleForEC2Spot"
#: The most bytes of a template that a call may contain (CloudFormation User Guide, "CloudFormation quotas").
LARGEST = 51_200
#: The most zones of a new network: each has one of the /20 blocks of the VPC's /16.
_ZONES = 16


@dataclass(frozen=True)
class Network:
    """The network of the machines: the stack's own, if `zones` are given, or an existing VPC."""

    #: The zones that get a subnet of the stack.
    zones: Sequence[str] = ()
    #: The id of an existing VPC.
    vpc: str = ""
    #: Subnets of that VPC, one in each zone.
    subnets: Sequence[str] = ()
    #: Route tables of these subnets without a route to S3: they get a gateway endpoint.
    route_tables: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """What the stack of one installation makes. Anything left out exists already, and is not the stack's."""

    installation: str
    region: str
    account: str
    #: The name of the bucket, without a prefix, and the prefix, which ends in `/` or is empty.
    bucket: str
    prefix: str
    make_bucket: bool
    network: Network
    #: The profile of machines whose owner has none.
    profile: str
    #: The instance profiles to make, with the role of each.
    profiles: Mapping[str, str]
    #: The roles to make; each may have a path before its name.
    roles: Sequence[str]
    #: The instance profiles whose machines get a security group of their own.
    groups: Sequence[str]
    make_spot_role: bool
    #: The SSO profile that the control plane uses; if empty, the stack makes a role for it.
    sso_profile: str
    #: The policies of `provision iam`, by name.
    policies: Mapping[str, Document]


def stack_name(installation: str) -> str:
    return f"provision-{installation}"


def control_name(installation: str) -> str:
    """Return the name of the control plane's policy, role and instance profile."""
    return short(f"provision-control-{installation}", 64)


def bucket_name(installation: str, account: str, region: str) -> str:
    """Return the name of a new bucket. Names of buckets are unique in all of AWS, so it has the account's number."""
    return short(f"provision-{installation}-{account}-{region}", 63)


def short(name: str, most: int) -> str:
    """Return the name, cut to `most` characters; a hash keeps cut names different."""
    return name if len(name) <= most else f"{name[: most - 9]}-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def logical(kind: str, name: str) -> str:
    """Return the id of a resource within a template, which stays the same when other resources come and go."""
    return f"{kind}{re.sub('[^A-Za-z0-9]', '', name.title())}{_hash(name)}"


def block(zone: str) -> str:
    """Return the addresses of the subnet in a zone: a block for each letter of a zone. Raises Invalid."""
    place = ord(zone[-1]) - ord("a")
    if not 0 <= place < _ZONES:
        raise Invalid(f"zone {zone!r}: expected a name that ends in a letter from a to p; make the subnets yourself")
    return f"10.64.{place * 16}.0/20"


@dataclass(frozen=True)
class Wishes:
    """What the settings and the command's options say about the account."""

    installation: str
    region: str
    #: `name` or `name/prefix`; empty: a new bucket.
    bucket: str
    #: Empty: those of `vpc`, or a new network.
    subnets: Sequence[str]
    #: The instance profile of machines whose owner has none, and its security groups.
    profile: str
    security_groups: Sequence[str]
    #: The role of every instance profile, and the security groups of those that have their own.
    roles: Mapping[str, str]
    profile_groups: Mapping[str, Sequence[str]]
    #: An existing VPC; empty: that of the subnets, or a new one.
    vpc: str
    #: The SSO profile that the control plane uses; None: as the stack was made.
    sso_profile: str | None


@dataclass(frozen=True)
class Subnet:
    id: str
    vpc: str
    zone: str
    free: int
    #: Whether its machines get a public address.
    public: bool


@dataclass(frozen=True)
class RouteTable:
    id: str
    #: Whether it is that of all subnets of the VPC that are associated with no other one.
    main: bool
    subnets: Sequence[str]
    #: Whether it has a route to the internet.
    outward: bool
    #: Whether a gateway endpoint for S3 that is not the stack's own adds a route to it.
    s3: bool


@dataclass(frozen=True)
class Found:
    """What the account has."""

    account: str
    zones: Sequence[str]
    bucket_exists: bool
    subnets: Sequence[Subnet]
    route_tables: Sequence[RouteTable]
    #: The role of each existing instance profile; empty if it has none.
    profiles: Mapping[str, str]
    #: The tags of each existing role, by its name without a path.
    roles: Mapping[str, Mapping[str, str]]
    spot_role: bool
    #: The id of every resource of the stack, by its id within the template.
    resources: Mapping[str, str]
    #: The SSO profile with which the stack was made.
    sso_profile: str
