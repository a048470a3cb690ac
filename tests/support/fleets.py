"""Launch templates and fleets, made with stock boto3 at a double."""

import base64
from typing import Any

from tests.rehearsal.conftest import Rig


def tags(kind: str, installation: str) -> dict[str, Any]:
    """Return a TagSpecification with the tag of an installation."""
    return {"ResourceType": kind, "Tags": [{"Key": "provision:installation", "Value": installation}]}


def template(
    rig: Rig,
    name: str = "template",
    *,
    installation: str = "",
    profile: str = "",
    administrator: bool = False,
    **changes: Any,
) -> None:
    """Create a launch template with the tags of the double's installation, or of another one."""
    own = installation or rig.double.installation
    request = {
        "LaunchTemplateName": name,
        "TagSpecifications": [tags("launch-template", own)],
        "LaunchTemplateData": {
            "ImageId": rig.double.account.image_id,
            "UserData": base64.b64encode(b"#!/bin/sh\n").decode(),
            "IamInstanceProfile": {"Arn": profile or rig.double.account.profile_arn},
            "InstanceInitiatedShutdownBehavior": "terminate",
            "TagSpecifications": [tags("network-interface", own)],
        },
    }
    rig.client("ec2", administrator=administrator).create_launch_template(**request | changes)


def fleet(
    rig: Rig,
    token: str = "token",
    count: int = 1,
    zones: str = "a",
    *,
    template: str = "template",
    administrator: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Launch a fleet with the tags of the double's installation."""
    subnets = {zone[-1]: subnet for subnet, zone in rig.double.account.subnets.items()}
    request = {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "1"},
                "Overrides": [{"InstanceType": "g5.xlarge", "SubnetId": subnets[zone]} for zone in zones],
            }
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": "spot"},
        "TagSpecifications": [tags(kind, rig.double.installation) for kind in ("fleet", "instance", "volume")],
    }
    return dict(rig.client("ec2", administrator=administrator).create_fleet(**request | changes))


def launch(rig: Rig, **changes: Any) -> list[str]:
    template(rig)
    return machines(fleet(rig, **changes))


def machines(answer: dict[str, Any]) -> list[str]:
    """Return the ids of the machines in CreateFleet's answer."""
    return [one for group in answer["Instances"] for one in group["InstanceIds"]]
