"""A Machine from EC2's description of an instance."""

import datetime as dt
from typing import Any

import pytest

from provisioner.adapters.ec2.listing import machine
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Market

LAUNCHED = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


def instance(**fields: Any) -> dict[str, Any]:
    """Return one instance as DescribeInstances describes it (EC2 API, "Instance")."""
    return {
        "InstanceId": "i-1",
        "InstanceType": "g5.xlarge",
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "LaunchTime": LAUNCHED,
        "State": {"Name": "running"},
    } | fields


def test_the_time_of_a_transition_is_utc_wherever_the_control_host_stands() -> None:
    """EC2 writes GMT. The tests run in another time zone, so a local reading would be hours off."""
    ended = instance(State={"Name": "terminated"}, StateTransitionReason="User initiated (2026-11-24 16:00:00 GMT)")
    assert machine(ended).transition_at == LAUNCHED.timestamp() + 3600


def test_machine_whose_disk_has_a_key_that_is_denied_says_what_to_do() -> None:
    """EC2's message names no key (EC2 User Guide, "Instance terminates immediately")."""
    said = {"Code": "Client.InternalError", "Message": "Client.InternalError: Client error on launch"}
    ended = machine(instance(State={"Name": "terminated"}, StateReason=said))
    assert ended.ending is Ending.MISCONFIGURED
    assert ended.reason.startswith("Client.InternalError: Client error on launch; if the account encrypts disks with")
    assert "`kms_keys`" in ended.reason


def test_machine_in_an_ipv6_only_subnet_has_its_ipv6_address() -> None:
    """EC2 lists no private IPv4 address for it; another machine's IPv4 address has precedence."""
    assert machine(instance(Ipv6Address="2600:1f18::7")).address == "2600:1f18::7"
    assert machine(instance(Ipv6Address="2600:1f18::7", PrivateIpAddress="10.0.0.7")).address == "10.0.0.7"


@pytest.mark.parametrize("reason", ["", "User initiated", "(2026-13-45 99:00:00 GMT)", "Server.InternalError"])
def test_a_transition_without_a_readable_time_has_none(reason: str) -> None:
    """An unknown time stays unknown: the receipt's bounds must not rest on a guess."""
    assert machine(instance(StateTransitionReason=reason)).transition_at is None


@pytest.mark.parametrize(
    ("fields", "market"),
    [
        ({"InstanceLifecycle": "spot"}, Market.SPOT),
        ({}, Market.ON_DEMAND),
        ({"CapacityReservationId": "cr-1"}, Market.RESERVED),
        ({"CapacityReservationId": "cr-1", "InstanceLifecycle": "capacity-block"}, Market.RESERVED),
    ],
)
def test_the_market_of_a_machine_is_its_lifecycle(fields: dict[str, str], market: Market) -> None:
    """EC2 returns no lifecycle for on-demand machines, even if they use a reservation."""
    found = machine(instance(**fields))
    assert (found.offer.market, found.reservation) == (market, fields.get("CapacityReservationId", ""))


@pytest.mark.parametrize(
    ("state", "ending"),
    [("running", None), ("shutting-down", Ending.INTERRUPTED), ("terminated", Ending.INTERRUPTED)],
)
def test_a_machine_that_has_ended_has_a_cause(state: str, ending: Ending | None) -> None:
    """The cause decides whether the machine was interrupted or lost."""
    reason = {"Code": "Server.SpotInstanceTermination", "Message": "taken"}
    found = machine(instance(State={"Name": state}, StateReason=reason))
    assert (found.state, found.ending) == (MachineState(state), ending)
