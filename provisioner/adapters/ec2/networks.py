"""Read from EC2's answers which subnets need more from a launch than their id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def without_address(subnets: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the subnets that assign no public IPv4 address, although they could.

    A machine in an IPv6-only subnet can have none (VPC User Guide, "Subnets for your VPC").
    """
    return [each for each in subnets if not each.get("MapPublicIpOnLaunch") and not each.get("Ipv6Native")]


def public(subnets: Iterable[Mapping[str, Any]], tables: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the ids of the subnets whose default route leads to an internet gateway.

    A subnet without a table of its own uses the main table of its VPC (VPC User Guide, "Subnet route tables").
    """
    own: dict[str, Mapping[str, Any]] = {}
    main: dict[str, Mapping[str, Any]] = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("Main"):
                main[table["VpcId"]] = table
            elif "SubnetId" in association:
                own[association["SubnetId"]] = table
    return tuple(
        each["SubnetId"] for each in subnets if _leads_out(own.get(each["SubnetId"]) or main.get(each["VpcId"]) or {})
    )


def _leads_out(table: Mapping[str, Any]) -> bool:
    return any(
        route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("GatewayId", "").startswith("igw-")
        for route in table.get("Routes", ())
    )
