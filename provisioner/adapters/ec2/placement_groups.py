"""Build requests for placement groups, and read the groups from EC2's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from provisioner.core.cloud.placement_groups import PlacementGroup
from provisioner.core.errors import Transient

EXISTS = "InvalidPlacementGroup.Duplicate"
IN_USE = "InvalidPlacementGroup.InUse"
UNKNOWN = "InvalidPlacementGroup.Unknown"


def creation(name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return CreatePlacementGroup's parameters. The call has no client token: the name makes it idempotent."""
    tagged = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return {
        "GroupName": name,
        "Strategy": "cluster",
        "TagSpecifications": [{"ResourceType": "placement-group", "Tags": tagged}],
    }


def wait(name: str, groups: list[Mapping[str, Any]]) -> None:
    """Raise Transient unless the group is listed as available: EC2 launches no machines into a pending group."""
    states = [str(each["State"]) for each in groups if each["GroupName"] == name]
    if states != ["available"]:
        raise Transient(f"the placement group {name} is not available, but {', '.join(states) or 'unknown'}", UNKNOWN)


def listed(response: Mapping[str, Any]) -> Iterator[PlacementGroup]:
    """Yield the groups of a DescribePlacementGroups answer, without those that are being deleted."""
    for each in response["PlacementGroups"]:
        if each["State"] in ("pending", "available"):
            yield PlacementGroup(each["GroupName"], {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())})
