"""Judge the subnets and security groups of machines: a machine must reach S3 and the registries."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.check.lines import Group, Line, Unseen, named, ok, unseen, warning, wrong

#: Fewer free addresses than this are a warning: a gang may need as many at once.
FEW = 16
#: Dollars for a GB through a NAT gateway in us-east-1 (Amazon VPC pricing; other regions differ), and GB of an image.
NAT_DOLLARS, IMAGE_GB = 0.045, 10


@dataclass(frozen=True)
class Subnet:
    id: str
    zone: str
    vpc: str
    free: int
    #: Whether it gives each machine a public IPv4 address.
    gives_public: bool
    #: Whether it has IPv6 addresses only.
    ipv6_only: bool = False


@dataclass(frozen=True)
class Routes:
    """The route table of a subnet."""

    id: str
    #: The target of the default route, such as `igw-…` or `nat-…`; "" if there is none.
    way_out: str
    #: Whether the default route's target exists.
    works: bool
    #: Whether a gateway endpoint of S3 is in the table.
    s3: bool


@dataclass(frozen=True)
class SecurityGroup:
    id: str
    vpc: str
    #: Whether machines may open HTTPS connections to any address; None: to some addresses only.
    lets_out: bool | None
    #: The ports that the whole internet may reach, as text.
    open_to_all: Sequence[str] = ()
    #: Whether its machines accept every connection of each other.
    trusts_itself: bool = False


def subnets(
    found: Sequence[Subnet] | Unseen,
    routes: Mapping[str, Routes | None] | Unseen,
    wanted: Sequence[str],
    region: str,
) -> Iterator[Line]:
    """Yield the lines for the subnets of the settings; `routes` has the route table of each subnet."""
    if isinstance(found, Unseen):
        yield unseen(Group.NETWORK, found)
        return
    for missing in [id for id in wanted if id not in {subnet.id for subnet in found}]:
        fix = "correct `subnets` in the settings: `aws ec2 describe-subnets` lists those of the region"
        yield wrong(Group.NETWORK, f"the subnet {missing} does not exist in {region}", fix)
    for zone, number in Counter(subnet.zone for subnet in found).items():
        if number > 1:
            same = [subnet.id for subnet in found if subnet.zone == zone]
            fix = "keep one of them in `subnets`: a fleet cannot use two subnets of a zone"
            yield wrong(Group.NETWORK, f"the subnets {named(same)} are all in {zone}", fix)
    vpcs = sorted({subnet.vpc for subnet in found})
    if len(vpcs) > 1:
        fix = "name subnets of one VPC: a security group belongs to one VPC, and a launch uses all subnets"
        yield wrong(Group.NETWORK, f"the subnets are in {len(vpcs)} VPCs: {named(vpcs)}", fix)
    if isinstance(routes, Unseen):
        yield unseen(Group.NETWORK, routes)
    for subnet in found:
        table = None if isinstance(routes, Unseen) else routes.get(subnet.id)
        yield from _addresses(subnet)
        if not isinstance(routes, Unseen):
            yield from _ways(subnet, table, region)


def _addresses(subnet: Subnet) -> Iterator[Line]:
    where = f"the subnet {subnet.id} in {subnet.zone}"
    if subnet.free == 0 and not subnet.ipv6_only:
        yield wrong(Group.NETWORK, f"{where} has no free address", "delete unused network interfaces in it")
    elif subnet.free < FEW and not subnet.ipv6_only:
        text = f"{where} has only {subnet.free} free addresses, and each machine needs one"
        yield warning(Group.NETWORK, text, "delete unused network interfaces in it, or name a larger subnet")


def _ways(subnet: Subnet, table: Routes | None, region: str) -> Iterator[Line]:
    where = f"the subnet {subnet.id} in {subnet.zone}"
    if table is None or not table.way_out:
        fix = "add a route for 0.0.0.0/0 to an internet gateway (igw-…) or to a NAT gateway (nat-…)"
        if table and table.s3:
            text = f"{where} reaches S3, but has no default route: images come only from an ECR with VPC endpoints"
            yield warning(Group.NETWORK, text, f"{fix}, unless the VPC has the endpoints that the jobs need")
            return
        known = f" {table.id}" if table else ""
        yield wrong(Group.NETWORK, f"{where} has no way out: its route table{known} has no default route", fix)
        return
    if not table.works:
        text = f"{where} has no way out: the target {table.way_out} of its default route does not exist any more"
        yield wrong(Group.NETWORK, text, f"replace the route for 0.0.0.0/0 in {table.id}")
        return
    public, nat = table.way_out.startswith(("igw-", "eigw-")), table.way_out.startswith("nat-")
    if nat and not table.s3:
        dollars = f"{NAT_DOLLARS * IMAGE_GB:.2f} $"
        text = (
            f"{where} reaches S3 through a NAT gateway, for about {NAT_DOLLARS} $ a GB: an image of {IMAGE_GB} GB from "
            f"ECR, whose layers are in S3, costs {dollars}"
        )
        yield warning(Group.NETWORK, text, _endpoint(subnet, table, region))
    else:
        ways = "an internet gateway" if public else table.way_out
        if public and not subnet.gives_public and not subnet.ipv6_only:
            # The subnet gives machines no public address, without which they have no way out.
            ways += ", with public addresses that launches ask for"
        if nat:
            ways = f"a NAT gateway (about {NAT_DOLLARS} $ a GB)"
        s3 = ", S3 by a gateway endpoint" if table.s3 else ""
        yield ok(Group.NETWORK, f"{where}: out by {ways}{s3}, {subnet.free} free addresses")


def _endpoint(subnet: Subnet, table: Routes, region: str) -> str:
    return (
        f"aws ec2 create-vpc-endpoint --vpc-id {subnet.vpc} --service-name com.amazonaws.{region}.s3 "
        f"--route-table-ids {table.id} (free), or use public subnets"
    )


def groups(
    found: Sequence[SecurityGroup] | Unseen, wanted: Collection[str], vpcs: Collection[str], gangs: Collection[str]
) -> Iterator[Line]:
    """Yield the lines for the security groups of machines.

    `wanted` are the ids in the settings, `vpcs` those of the subnets, and `gangs` the jobs of several machines.
    """
    if isinstance(found, Unseen):
        yield unseen(Group.NETWORK, found)
        return
    for missing in sorted(set(wanted) - {group.id for group in found}):
        fix = "correct `security_groups` in the settings, or `provision setup` makes one"
        yield wrong(Group.NETWORK, f"the security group {missing} does not exist", fix)
    for group in found:
        if group.vpc not in vpcs and vpcs:
            text = f"the security group {group.id} is in {group.vpc}, but the subnets are in {named(sorted(vpcs))}"
            yield wrong(Group.NETWORK, text, "name groups of the subnets' VPC in `security_groups`")
            continue
        fix = (
            f"aws ec2 authorize-security-group-egress --group-id {group.id} --protocol tcp --port 443 --cidr 0.0.0.0/0"
        )
        if group.lets_out:
            yield ok(Group.NETWORK, f"the security group {group.id} lets machines out")
        elif group.lets_out is None:
            text = f"the security group {group.id} lets machines open HTTPS connections to some addresses only"
            yield warning(Group.NETWORK, text, f"{fix}, unless S3 and the jobs' registries are among them")
        else:
            text = f"the security group {group.id} lets machines open no HTTPS connections (TCP port 443)"
            yield wrong(Group.NETWORK, text, fix)
        if group.open_to_all:
            text = (
                f"the security group {group.id} accepts connections from the whole internet: {named(group.open_to_all)}"
            )
            yield warning(Group.NETWORK, text, "limit them to your own addresses: machines need no open port")
    if gangs and found and not any(group.trusts_itself for group in found):
        [first, *_] = [group.id for group in found]
        text = f"no security group accepts connections of its own machines, which {named(gangs)} needs"
        fix = f"aws ec2 authorize-security-group-ingress --group-id {first} --protocol all --source-group {first}"
        yield wrong(Group.NETWORK, text, fix)
