"""The resources of EC2's calls, on which the double evaluates the policies."""

import threading
from typing import Any

from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.actions import Ec2Resource, on_resource
from provisioner.rehearsal.aws.calls import CONTROL, Call
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.ec2.instance import Content
from provisioner.rehearsal.ec2.model import Model
from provisioner.rehearsal.ec2.resources import Resources
from provisioner.rehearsal.fakes.catalogue import TYPES
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.support.fleets import tags

T0 = 1_000_000.0
SPOT = Offer(Market.SPOT, "g5.xlarge", "us-east-1a")


def used(action: str, said: dict[str, Any]) -> dict[str, list[Ec2Resource]]:
    """Return the resources of a call by their type; the launch template `t` exists."""
    subnets = {"subnet-a": "us-east-1a"}
    model = Model(Conditions(), began=T0, types=TYPES.get, subnets=subnets, new_id=CountingIds().new)
    own = {"network-interface": {"provision:installation": "x"}}
    content = Content("ami-1", "", "role", groups=("sg-1",), tags={"provision:installation": "x"}, new_tags=own)
    model.templates.create("t", content, T0)
    found: dict[str, list[Ec2Resource]] = {}
    for resource in Resources(model, threading.RLock(), lambda: T0).used_by(Call("ec2", action, said, CONTROL, "", T0)):
        found.setdefault(resource.kind, []).append(resource)
    return found


def fleet(name: str = "t") -> dict[str, Any]:
    override = {"InstanceType": "g5.xlarge", "SubnetId": "subnet-a", "Placement": {"GroupName": "g"}}
    config = {"LaunchTemplateSpecification": {"LaunchTemplateName": name}, "Overrides": [override, override]}
    return {
        "LaunchTemplateConfigs": [config],
        "TargetCapacitySpecification": {"DefaultTargetCapacityType": "spot"},
        "TagSpecifications": [tags(kind, "x") for kind in ("fleet", "instance", "volume")],
    }


def test_launch_gives_tags_to_what_it_makes_alone() -> None:
    """aws:RequestTag is absent for images and subnets: one statement with it for all would deny every launch."""
    found = used("CreateFleet", fleet())
    assert {kind for kind, [each, *_] in found.items() if each.new_tags} == {
        "fleet",
        "instance",
        "network-interface",
        "volume",
    }
    assert {kind: [one.id for one in each] for kind, each in found.items() if not each[0].new_tags} == {
        "image": ["ami-1"],
        "launch-template": [found["launch-template"][0].id],
        "placement-group": ["g"],
        "security-group": ["sg-1"],
        "snapshot": ["*"],
        "spot-instances-request": ["*"],
        "subnet": ["subnet-a"],
    }
    assert found["launch-template"][0].tags == {"provision:installation": "x"}


def test_launch_with_an_unknown_template_uses_nothing() -> None:
    """EC2 reports the unknown template, not a missing right."""
    assert used("CreateFleet", fleet("unknown")) == {}


def test_new_image_has_its_own_tags_and_the_machine_none() -> None:
    """With tags of the request on the machine, a role could make AMIs of any machine."""
    found = used("CreateImage", {"InstanceId": "i-1", "Name": "n", "TagSpecifications": [tags("image", "x")]})
    assert [one.new_tags for one in found["image"]] == [{"provision:installation": "x"}]
    assert [one.new_tags for one in found["snapshot"]] == [{}]
    assert "instance" not in found


def test_tags_of_a_launch_need_the_right_to_create_tags() -> None:
    """By whichever of the two calls EC2 counts them; without tags the right is not needed."""
    own = {"provision:installation": "x"}
    machine = on_resource("CreateFleet", Ec2Resource("instance", new_tags=own, made=True))
    key = {"aws:RequestTag/provision:installation": "x"}
    assert machine == [
        ("ec2:CreateFleet", key),
        ("ec2:RunInstances", key),
        ("ec2:CreateTags", {**key, "ec2:CreateAction": "CreateFleet"}),
        ("ec2:CreateTags", {**key, "ec2:CreateAction": "RunInstances"}),
    ]
    assert on_resource("CreateFleet", Ec2Resource("instance", made=True)) == [
        ("ec2:CreateFleet", {}),
        ("ec2:RunInstances", {}),
    ]
