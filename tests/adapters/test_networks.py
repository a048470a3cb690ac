"""Which subnets need a public address for their machines."""

from typing import Any

import pytest

from provisioner.adapters.ec2.networks import public, without_address

INTERNET = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1"}
NAT = {"DestinationCidrBlock": "0.0.0.0/0", "NatGatewayId": "nat-1"}
LOCAL = {"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}
ENDPOINT = {"DestinationPrefixListId": "pl-1", "GatewayId": "vpce-1"}


def subnet(id: str, **fields: Any) -> dict[str, Any]:
    return {"SubnetId": id, "VpcId": "vpc-1", "MapPublicIpOnLaunch": False, "Ipv6Native": False} | fields


def table(*routes: dict[str, str], **association: Any) -> dict[str, Any]:
    return {"VpcId": "vpc-1", "Routes": [LOCAL, *routes], "Associations": [{"Main": False, **association}]}


def test_subnets_that_assign_addresses_or_have_no_ipv4_need_none() -> None:
    subnets = [subnet("subnet-a"), subnet("subnet-b", MapPublicIpOnLaunch=True), subnet("subnet-c", Ipv6Native=True)]
    assert [each["SubnetId"] for each in without_address(subnets)] == ["subnet-a"]


@pytest.mark.parametrize(
    ("tables", "found"),
    [
        ([table(INTERNET, Main=True)], ("subnet-a", "subnet-b")),
        ([table(INTERNET, Main=True), table(NAT, SubnetId="subnet-a")], ("subnet-b",)),
        ([table(NAT, Main=True), table(ENDPOINT, INTERNET, SubnetId="subnet-a")], ("subnet-a",)),
        ([table(Main=True), table(ENDPOINT, SubnetId="subnet-a")], ()),
        ([table(INTERNET, Main=True) | {"VpcId": "vpc-2"}], ()),
        ([table(INTERNET, SubnetId="subnet-c"), table(INTERNET, GatewayId="igw-9")], ()),
        ([], ()),
    ],
)
def test_public_subnet_has_a_default_route_to_an_internet_gateway(
    tables: list[dict[str, Any]], found: tuple[str, ...]
) -> None:
    """A subnet without a table of its own has the VPC's main table."""
    assert public([subnet("subnet-a"), subnet("subnet-b")], tables) == found
