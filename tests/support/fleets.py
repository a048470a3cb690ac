"""Launch templates and fleets, made with stock boto3 at a double."""

import base64
from typing import Any

from tests.rehearsal.conftest import Rig


def template(rig: Rig, name: str = "template") -> None:
    rig.client("ec2").create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": rig.double.account.image_id,
            "UserData": base64.b64encode(b"#!/bin/sh\n").decode(),
            "IamInstanceProfile": {"Arn": rig.double.account.profile_arn},
            "InstanceInitiatedShutdownBehavior": "terminate",
        },
    )


def fleet(rig: Rig, token: str = "token", count: int = 1, zones: str = "a", **changes: Any) -> dict[str, Any]:
    subnets = {zone[-1]: subnet for subnet, zone in rig.double.account.subnets.items()}
    request = {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "template", "Version": "1"},
                "Overrides": [{"InstanceType": "g5.xlarge", "SubnetId": subnets[zone]} for zone in zones],
            }
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": "spot"},
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "provision:installation", "Value": token}]}
        ],
    }
    return dict(rig.client("ec2").create_fleet(**request | changes))


def launch(rig: Rig, **changes: Any) -> list[str]:
    template(rig)
    answer = fleet(rig, **changes)
    return [one for group in answer["Instances"] for one in group["InstanceIds"]]
