"""Read the subnets, route tables, endpoints and security groups of machines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from provisioner.adapters.checks.looking import Looker
from provisioner.core.check.lines import Unseen
from provisioner.core.check.network import Routes, SecurityGroup, Subnet

#: The whole internet, in IPv4 and IPv6.
_ALL = ("0.0.0.0/0", "::/0")
#: The fields of a route with its target, except instances and interfaces.
_TARGETS = (
    *("GatewayId", "NatGatewayId", "TransitGatewayId", "EgressOnlyInternetGatewayId", "NetworkInterfaceId"),
    *("InstanceId", "VpcPeeringConnectionId", "LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn"),
)


def subnets(looker: Looker, ids: Sequence[str]) -> Sequence[Subnet] | Unseen:
    """Return those of the subnets that exist, in the order of `ids`."""

    def read() -> list[Subnet]:
        wanted = [{"Name": "subnet-id", "Values": list(ids)}]
        found = {one["SubnetId"]: one for one in looker.pages("ec2", "describe_subnets", "Subnets", Filters=wanted)}
        return [_subnet(found[id]) for id in ids if id in found]

    return looker.look("the subnets", "ec2:DescribeSubnets", read, needed=True)


def _subnet(said: Mapping[str, Any]) -> Subnet:
    return Subnet(
        id=said["SubnetId"],
        zone=said["AvailabilityZone"],
        vpc=said["VpcId"],
        free=said["AvailableIpAddressCount"],
        gives_public=said.get("MapPublicIpOnLaunch", False),
        ipv6_only=said.get("Ipv6Native", False),
    )


def routes(looker: Looker, found: Sequence[Subnet]) -> Mapping[str, Routes | None] | Unseen:
    """Return the route table of each subnet: its own, or the main one of its VPC."""
    within = [{"Name": "vpc-id", "Values": sorted({subnet.vpc for subnet in found})}]
    if not found:
        return {}

    def listed(operation: str, key: str) -> list[Any]:
        return list(looker.pages("ec2", operation, key, Filters=within))

    tables = looker.look(
        "the route tables", "ec2:DescribeRouteTables", lambda: listed("describe_route_tables", "RouteTables")
    )
    endpoints = looker.look(
        "the VPC endpoints", "ec2:DescribeVpcEndpoints", lambda: listed("describe_vpc_endpoints", "VpcEndpoints")
    )
    if isinstance(tables, Unseen):
        return tables
    if isinstance(endpoints, Unseen):
        return endpoints
    s3 = {
        table
        for one in endpoints
        if one.get("VpcEndpointType") == "Gateway" and one["ServiceName"].endswith(".s3")
        for table in one.get("RouteTableIds", ())
    }
    return {subnet.id: _table(subnet, tables, s3) for subnet in found}


def _table(subnet: Subnet, tables: Sequence[Mapping[str, Any]], s3: Collection[str]) -> Routes | None:
    own = [one for one in tables if any(each.get("SubnetId") == subnet.id for each in one["Associations"])]
    main = [
        one for one in tables if one["VpcId"] == subnet.vpc and any(each.get("Main") for each in one["Associations"])
    ]
    if not (fitting := own or main):
        return None
    table = fitting[0]
    everywhere = _ALL[1] if subnet.ipv6_only else _ALL[0]
    field = "DestinationIpv6CidrBlock" if subnet.ipv6_only else "DestinationCidrBlock"
    default: Mapping[str, Any] = next((one for one in table["Routes"] if one.get(field) == everywhere), {})
    way_out = next((str(default[name]) for name in _TARGETS if default.get(name)), "")
    return Routes(table["RouteTableId"], way_out, default.get("State") != "blackhole", table["RouteTableId"] in s3)


def groups(looker: Looker, ids: Collection[str], vpcs: Collection[str]) -> Sequence[SecurityGroup] | Unseen:
    """Return those of the security groups that exist; without `ids`, the default groups of the VPCs."""
    wanted = [{"Name": "group-id", "Values": sorted(ids)}]
    if not ids:
        wanted = [{"Name": "group-name", "Values": ["default"]}, {"Name": "vpc-id", "Values": sorted(vpcs)}]
        if not vpcs:
            return ()

    def read() -> list[SecurityGroup]:
        return [
            _group(one) for one in looker.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=wanted)
        ]

    return looker.look("the security groups", "ec2:DescribeSecurityGroups", read)


def _group(said: Mapping[str, Any]) -> SecurityGroup:
    out = [rule for rule in said["IpPermissionsEgress"] if _concerns(rule, 443)]
    everywhere = any(address in _ALL for rule in out for address in _addresses(rule))
    pairs = [(rule, pair["GroupId"]) for rule in said["IpPermissions"] for pair in rule.get("UserIdGroupPairs", ())]
    return SecurityGroup(
        id=said["GroupId"],
        vpc=said["VpcId"],
        lets_out=True if everywhere else None if out else False,
        open_to_all=[
            _ports(rule) for rule in said["IpPermissions"] if any(address in _ALL for address in _addresses(rule))
        ],
        trusts_itself=any(id == said["GroupId"] and rule["IpProtocol"] == "-1" for rule, id in pairs),
    )


def _concerns(rule: Mapping[str, Any], port: int) -> bool:
    """Return whether the rule allows TCP connections to the port; protocol -1 is any protocol."""
    if rule["IpProtocol"] == "-1":
        return True
    return rule["IpProtocol"] == "tcp" and port in range(rule.get("FromPort", 0), rule.get("ToPort", 65535) + 1)


def _addresses(rule: Mapping[str, Any]) -> Iterator[str]:
    yield from (one["CidrIp"] for one in rule.get("IpRanges", ()))
    yield from (one["CidrIpv6"] for one in rule.get("Ipv6Ranges", ()))


def _ports(rule: Mapping[str, Any]) -> str:
    if rule["IpProtocol"] == "-1":
        return "all ports"
    first, last = rule.get("FromPort", 0), rule.get("ToPort", 65535)
    return f"{rule['IpProtocol']} {first}" if first == last else f"{rule['IpProtocol']} {first}-{last}"
