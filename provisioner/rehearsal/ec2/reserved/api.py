"""Answer EC2's calls about capacity reservations from the model."""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.ec2.conditions import Reserved
from provisioner.rehearsal.ec2.filters import fits
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.ec2.reserved.capacity import Reservations


class ReservationCalls:
    """EC2's calls about capacity reservations: `calls` has a function for each API call."""

    def __init__(
        self,
        reservations: Reservations,
        alive: Callable[[float], Collection[Instance]],
        lock: threading.RLock,
        *,
        now: Callable[[], float],
        account: str,
    ) -> None:
        """`alive(now)` returns the machines that have not terminated."""
        self._reservations, self._alive = reservations, alive
        self._lock, self._now, self._account = lock, now, account
        self.calls: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "DescribeCapacityReservations": self._describe,
            "GetGroupsForCapacityReservation": self._groups,
        }

    def _describe(self, said: Mapping[str, Any]) -> dict[str, Any]:
        filters = said.get("Filters", [])
        if set(said) - {"CapacityReservationIds", "Filters"} or any(item["Name"] != "state" for item in filters):
            raise NotPlayed(f"DescribeCapacityReservations with {sorted(said)}, or with a filter other than state")
        with self._lock:
            shown = self._reservations.shown(said.get("CapacityReservationIds", []))
            found = [self._shown(one) for one in shown]
        return {
            "CapacityReservations": [one for one in found if all(fits(item, [one["State"]]) for item in filters)],
        }

    def _groups(self, said: Mapping[str, Any]) -> dict[str, Any]:
        [one] = self._reservations.shown([said["CapacityReservationId"]])
        groups = [{"GroupArn": one.group, "OwnerId": self._account}] if one.group else []
        return {"CapacityReservationGroups": groups}

    def _shown(self, one: Reserved) -> dict[str, Any]:
        now, reservations = self._now(), self._reservations
        result: dict[str, Any] = {
            "CapacityReservationId": one.id,
            "OwnerId": self._account,
            "InstanceType": one.type,
            "InstancePlatform": "Linux/UNIX",
            "AvailabilityZone": one.zone,
            "Tenancy": "default",
            "TotalInstanceCount": one.machines,
            "AvailableInstanceCount": reservations.available(one, self._alive(now), now),
            "State": reservations.state(one, now),
            "StartDate": reservations.began + one.at,
            "EndDateType": "unlimited" if one.ends is None else "limited",
            "InstanceMatchCriteria": "targeted",
            "ReservationType": "capacity-block" if one.block else "default",
        }
        return result | ({} if one.ends is None else {"EndDate": reservations.began + one.ends})
