"""Read machines and the time from EC2's answers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from provisioner.adapters.ec2.codes import advised, ending
from provisioner.core.cloud.machines import ENDING, Machine, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.errors import Misconfigured

#: A date as in `User initiated (2026-11-24 16:00:00 GMT)` (EC2 API, "Instance", stateTransitionReason).
_DATED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


def machines(response: Mapping[str, Any]) -> Iterator[Machine]:
    """Yield the machines of one DescribeInstances answer; raises KeyError for an answer without a list of machines."""
    for reservation in response["Reservations"]:
        yield from map(machine, reservation["Instances"])


def machine(instance: Mapping[str, Any]) -> Machine:
    state = MachineState(instance["State"]["Name"])
    reason = instance.get("StateReason", {})
    code, message = reason.get("Code", ""), reason.get("Message", "")
    transition = instance.get("StateTransitionReason", "")
    texts = dict.fromkeys((advised(code, message), transition))
    return Machine(
        id=instance["InstanceId"],
        state=state,
        offer=Offer(
            _market(instance),
            instance["InstanceType"],
            instance["Placement"]["AvailabilityZone"],
        ),
        launch_time=instance["LaunchTime"].timestamp(),
        tags={tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())},
        reason_code=code,
        reason="; ".join(filter(None, texts)),
        ending=ending(code, message) if state in ENDING else None,
        # A machine in an IPv6-only subnet has no other address (EC2 API Reference, "Instance").
        address=instance.get("PrivateIpAddress") or instance.get("Ipv6Address", ""),
        public_address=instance.get("PublicIpAddress", ""),
        image=instance.get("ImageId", ""),
        transition_at=_dated(transition),
        reservation=instance.get("CapacityReservationId", ""),
    )


def _market(instance: Mapping[str, Any]) -> Market:
    """Return the machine's market; machines of a reservation have the lifecycle `capacity-block`, or none."""
    lifecycle = instance.get("InstanceLifecycle")
    if lifecycle == "spot":
        return Market.SPOT
    reserved = lifecycle == "capacity-block" or "CapacityReservationId" in instance
    return Market.RESERVED if reserved else Market.ON_DEMAND


def _dated(transition: str) -> float | None:
    found = _DATED.search(transition)
    try:
        return dt.datetime.fromisoformat(f"{found[1]}Z").timestamp() if found else None
    except ValueError:
        return None


def date(response: Mapping[str, Any]) -> float:
    """Return the Unix seconds of the answer's Date header, from the service's clock; raises Misconfigured without it.

    HTTP requires the header in every answer.
    """
    text = response["ResponseMetadata"].get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError as error:
        raise Misconfigured(
            f"the answer's Date header {text!r} is not an HTTP date: check for a proxy between this computer and AWS"
        ) from error
