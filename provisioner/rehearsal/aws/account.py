"""Set up the double's AWS account in moto, and define the parts that moto lacks.

Moto's backends are global to the process, so there is one account in a process.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import moto.backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.moto_api._internal.models import moto_api_backend

from provisioner.core.cloud.offers import InstanceType

#: Moto's default account.
ID = "123456789012"
PROFILE = "provision-machine"
#: Canonical and Amazon publish the ids of their AMIs in such public SSM parameters; moto lacks this one.
IMAGE_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
IMAGE_NAME = "rehearsal-gpu-ubuntu-22.04"
#: About the size of the real AMI.
IMAGE_GIB = 45
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


class Account:
    """A new account in moto: subnets, an AMI, an instance profile, buckets, parameters and secrets."""

    def __init__(
        self,
        region: str,
        buckets: Mapping[str, Mapping[str, bytes]],
        parameters: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        moto_api_backend.reset()
        self.region = region
        ec2 = _backend("ec2", region)
        #: Zones by subnet id; the default network has one subnet in each zone.
        self.subnets: dict[str, str] = {
            one.id: one.availability_zone for one in ec2.describe_subnets() if one.default_for_az
        }
        self.image_id = str(ec2.register_image(IMAGE_NAME, "Stands for the Deep Learning Base AMI").id)
        iam = _backend("iam", "aws")
        role = iam.create_role(PROFILE, json.dumps(_TRUST), "/", None, None, [], None)
        profile = iam.create_instance_profile(PROFILE, "/", [])
        iam.add_role_to_instance_profile(PROFILE, PROFILE)
        self.role_id, self.profile_arn = str(role.id), str(profile.arn)
        s3 = _backend("s3", "aws")
        for bucket, objects in buckets.items():
            s3.create_bucket(bucket, region)
            for key, data in objects.items():
                s3.put_object(bucket, key, data)
        ssm, manager = _backend("ssm", region), _backend("secretsmanager", region)
        for name, value in parameters.items():
            ssm.put_parameter(name, "", value, "SecureString", "", "", False, [], "text", None, None)
        for name, value in secrets.items():
            manager.create_secret(name, value, None, None, None, None, None, [], False)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the content of every object of a bucket, by key."""
        s3 = _backend("s3", "aws")
        return {key.name: key.value for key in s3.list_objects(s3.get_bucket(bucket), None, None, None, None)[0]}

    def close(self) -> None:
        moto_api_backend.reset()

    @cached_property
    def _zones(self) -> dict[str, set[str]]:
        """The zones that offer an instance type and have a subnet, by type."""
        zones: dict[str, set[str]] = {}
        for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(self.region, ()):
            if offering["Location"] in self.subnets.values():
                zones.setdefault(offering["InstanceType"], set()).add(offering["Location"])
        return zones

    def instance_type(self, name: str) -> InstanceType | None:
        """Return the properties of an instance type that affect a launch; None if the region does not offer it."""
        if name not in self._zones or name not in INSTANCE_TYPES:
            return None
        said = INSTANCE_TYPES[name]
        return InstanceType(
            name,
            "x86_64" if "x86_64" in said["ProcessorInfo"]["SupportedArchitectures"] else "arm64",
            sum(gpu.get("Count", 0) for gpu in said.get("GpuInfo", {}).get("Gpus", ())),
            said["VCpuInfo"]["DefaultVCpus"],
            said["MemoryInfo"]["SizeInMiB"],
            tuple(sorted(self._zones[name])),
            "spot" in said.get("SupportedUsageClasses", ()),
            "cluster" in said["PlacementGroupInfo"]["SupportedStrategies"],
        )


def _backend(service: str, region: str) -> Any:
    return moto.backends.get_backend(service)[ID][region]  # type: ignore[call-overload]
