"""Find capacity reservations, and read them from EC2's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.adapters import aws
from provisioner.adapters.ec2.pages import pages
from provisioner.core.cloud.reserved.reservations import FUTURE, Reservation

#: Reservations in other states are not listed for a group: they are over.
_LISTED = {"Name": "state", "Values": ["active", *sorted(FUTURE)]}


def reservations_of(reference: str, ec2: Any, calls: aws.Calls) -> tuple[Reservation, ...]:
    """Return the reservation with the id `cr-…`, or those in the group with this ARN that are not over."""
    ask, key = ec2.describe_capacity_reservations, "CapacityReservations"
    if not reference.startswith("arn:"):
        return tuple(map(_reservation, pages(calls, ask, key, CapacityReservationIds=[reference])))
    # The listing has no filter for groups.
    found = map(_reservation, pages(calls, ask, key, Filters=[_LISTED]))
    groups, key = ec2.get_groups_for_capacity_reservation, "CapacityReservationGroups"
    return tuple(
        each
        for each in found
        if any(reference == group["GroupArn"] for group in pages(calls, groups, key, CapacityReservationId=each.id))
    )


def _reservation(each: Mapping[str, Any]) -> Reservation:
    starts, ends = each.get("StartDate"), each.get("EndDate")
    return Reservation(
        id=each["CapacityReservationId"],
        instance_type=each["InstanceType"],
        zone=each["AvailabilityZone"],
        state=each["State"],
        total=each["TotalInstanceCount"],
        available=each["AvailableInstanceCount"],
        block=each.get("ReservationType") == "capacity-block",
        starts_at=starts.timestamp() if starts else None,
        ends_at=ends.timestamp() if ends else None,
        platform=each.get("InstancePlatform", "Linux/UNIX"),
        tenancy=each.get("Tenancy", "default"),
        interruptible=bool(each.get("Interruptible")),
        placement_group=each.get("PlacementGroupArn", ""),
    )
