"""The EC2 adapter's requests for placement groups."""

import dataclasses
from collections.abc import Iterator

import pytest

from provisioner.adapters import aws
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.ec2.codes import translate
from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double

NAME = "provision-launch-1"


@pytest.fixture
def ec2(double: Double) -> Iterator[Ec2]:
    made = Ec2(
        "installation-1",
        aws.Session(double.region),
        list(double.account.subnets)[:1],
        calls=aws.Calls(translate, first_wait=0),
    )
    yield made
    made.close()


@pytest.fixture
def request_(double: Double) -> LaunchRequest:
    subnet, zone = next(iter(double.account.subnets.items()))
    return LaunchRequest(
        token="launch-1",
        template=Template(
            Image(double.account.image_id, "/dev/sda1", "x86_64"), double.account.profile_arn, (), 80, "#!/bin/sh\n"
        ),
        market=Market.ON_DEMAND,
        offers=(Offer(Market.ON_DEMAND, "g5.xlarge", zone),),
        subnets={zone: subnet},
        count=2,
        tags={"provision:owner": "ada"},
        together=True,
        placement_group=NAME,
    )


def fault(double: Double, action: str, effect: Effect = Effect.ERROR, **more: object) -> None:
    double.faults.add(Rule(effect, service="ec2", action=action, **more))  # type: ignore[arg-type]


def actions(double: Double) -> list[str]:
    return [call.action for call in double.calls.every]


def test_group_is_made_before_its_machines_with_their_tags(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """EC2's answer shows that the group is available, so no further call is needed."""
    assert len(ec2.launch(request_).machines) == 2
    assert actions(double) == ["CreateLaunchTemplate", "CreatePlacementGroup", "CreateFleet"]
    (call,) = double.calls.of(action="CreatePlacementGroup")
    assert (call.parameters["GroupName"], call.parameters["Strategy"]) == (NAME, "cluster")
    (given,) = call.parameters["TagSpecifications"]
    assert given["ResourceType"] == "placement-group"
    assert {tag["Key"]: tag["Value"] for tag in given["Tags"]} == {
        "provision:installation": "installation-1",
        "provision:launch": "launch-1",
        "provision:owner": "ada",
    }
    assert {one.group for one in double.alive()} == {NAME}


def test_launch_without_a_group_makes_none(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    ec2.launch(dataclasses.replace(request_, placement_group=""))
    assert actions(double) == ["CreateLaunchTemplate", "CreateFleet"]
    assert {one.group for one in double.alive()} == {""}


def test_group_whose_answer_was_lost_is_found(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """The repeated call is refused because the group exists; a listing then shows that it is available."""
    fault(double, "CreatePlacementGroup", Effect.RESET, when=When.AFTER, times=1)
    assert len(ec2.launch(request_).machines) == 2
    assert actions(double)[1:] == ["CreatePlacementGroup"] * 2 + ["DescribePlacementGroups", "CreateFleet"]


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("PlacementGroupLimitExceeded", errors.QuotaExceeded),
        ("UnauthorizedOperation", errors.Misconfigured),
        ("RequestLimitExceeded", errors.Throttled),
    ],
)
def test_nothing_is_launched_without_the_group(
    double: Double, ec2: Ec2, request_: LaunchRequest, code: str, meaning: type[errors.CloudError]
) -> None:
    fault(double, "CreatePlacementGroup", code=code, status=400)
    with pytest.raises(meaning):
        ec2.launch(request_)
    assert "CreateFleet" not in actions(double)


def test_group_in_use_is_not_deleted_and_the_call_not_repeated(
    double: Double, ec2: Ec2, request_: LaunchRequest
) -> None:
    """The machines take minutes to end, and the pass must not wait for them."""
    ec2.launch(request_)
    assert ec2.delete_placement_group(NAME) is False
    assert len(double.calls.of(action="DeletePlacementGroup")) == 1
    assert [(group.name, group.launch) for group in ec2.placement_groups()] == [(NAME, "launch-1")]
