"""Placement groups of the EC2 model."""

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Content, FleetRequest
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.fakes.catalogue import TYPES
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.rehearsal.conftest import Raise, Rig
from tests.support.fleets import tags

T0 = 1_000_000.0
A, B = (Offer(Market.SPOT, "g5.xlarge", f"us-east-1{zone}") for zone in "ab")
#: The code that stands beside the true error of a spot launch.
BESIDE = "UnfulfillableCapacity"
SUBNETS = {"subnet-a": "us-east-1a", "subnet-b": "us-east-1b"}


def model(**conditions: Any) -> Model:
    made = Model(Conditions(**conditions), began=T0, types=TYPES.get, subnets=SUBNETS, new_id=CountingIds().new)
    made.templates.create("t", Content("ami-1", on_power_off="terminate"), T0)
    return made


def codes(ec2: Model, token: str, *offers: Offer, group: str = "g", now: float = T0) -> list[str]:
    """Launch two machines together; return the code of each offer's error."""
    overrides = tuple((one, f"subnet-{one.zone[-1]}") for one in offers)
    request = FleetRequest(token, "t", overrides, 2, {}, together=True, group=group)
    return [error.code for error in ec2.create_fleet(request, now).errors]


def code(call: Any) -> str:
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.code


def test_names_are_unique_and_limited() -> None:
    ec2 = model(placement_groups=2)
    ec2.groups.create("g", {}, T0)
    assert code(lambda: ec2.groups.create("g", {}, T0)) == "InvalidPlacementGroup.Duplicate"
    ec2.groups.create("h", {}, T0)
    assert code(lambda: ec2.groups.create("i", {}, T0)) == "PlacementGroupLimitExceeded"
    ec2.groups.delete("g", ())
    ec2.groups.create("i", {}, T0)
    assert code(lambda: ec2.groups.delete("g", ())) == "InvalidPlacementGroup.Unknown"


def test_launch_needs_an_available_group() -> None:
    ec2 = model(group_lag=5.0)
    assert codes(ec2, "1", A) == ["InvalidPlacementGroup.Unknown", BESIDE]
    ec2.groups.create("g", {}, T0)
    assert codes(ec2, "2", A) == ["InvalidPlacementGroup.Unknown", BESIDE]
    assert codes(ec2, "3", A, now=T0 + 5) == []


def test_group_is_bound_to_the_zone_of_its_machines() -> None:
    """It is free again when they are terminated."""
    ec2 = model()
    ec2.groups.create("g", {}, T0)
    assert codes(ec2, "1", A) == []
    assert codes(ec2, "2", B) == ["InvalidPlacementGroup.InUse", BESIDE]
    assert codes(ec2, "3", A) == []
    assert code(lambda: ec2.groups.delete("g", ec2.alive(T0))) == "InvalidPlacementGroup.InUse"
    machines = [one.id for one in ec2.alive(T0)]
    ec2.terminate(machines, T0)
    for one in machines:
        ec2.gone(one, T0)
    assert codes(ec2, "4", B) == []


def test_type_without_cluster_groups_is_refused() -> None:
    ec2 = model()
    ec2.groups.create("g", {}, T0)
    assert codes(ec2, "1", replace(A, instance_type="t3.small"), A) == ["InvalidParameterCombination", BESIDE]
    assert codes(ec2, "2", replace(A, instance_type="t3.small"), group="") == []


def created(rig: Rig, name: str, installation: str) -> None:
    administrator = rig.client("ec2", administrator=True)
    tagged = [tags("placement-group", installation)]
    administrator.create_placement_group(GroupName=name, Strategy="cluster", TagSpecifications=tagged)


def test_groups_are_described_by_tag_and_name(up: Raise) -> None:
    rig = up()
    created(rig, "ours", "x")
    created(rig, "another", "y")
    ec2 = rig.client("ec2")
    tagged = {"Name": "tag:provision:installation", "Values": ["x"]}
    (found,) = ec2.describe_placement_groups(Filters=[tagged])["PlacementGroups"]
    assert (found["GroupName"], found["State"], found["Strategy"]) == ("ours", "available", "cluster")
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"provision:installation": "x"}
    (found,) = ec2.describe_placement_groups(GroupNames=["another"])["PlacementGroups"]
    assert found["GroupName"] == "another"
    with pytest.raises(ClientError, match=r"InvalidPlacementGroup\.Unknown"):
        ec2.describe_placement_groups(GroupNames=["unknown"])
    assert rig.double.placement_groups() == ("ours", "another")
