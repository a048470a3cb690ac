"""Set up the double's AWS account in moto, and define the parts that moto lacks.

Moto's backends are global to the process, so there is one account in a process.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import moto.backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.moto_api._internal.models import moto_api_backend

from provisioner.core.cloud.offers import InstanceType
from provisioner.core.cloud.partitions import partition
from provisioner.core.cloud.setup.stack import SPOT_ROLE, SPOT_SERVICE
from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.aws.simulation import documents

#: Moto's default account.
ID = "123456789012"
PROFILE = "provision-machine"
#: Amazon publishes the ids of its AMIs in such public SSM parameters; moto lacks these. Both have the same AMI here.
IMAGE_PARAMETERS = tuple(
    f"/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-{version}/latest/ami-id"
    for version in ("24.04", "22.04")
)
IMAGE_NAME = "rehearsal-gpu-ubuntu-24.04"
#: About the size of the real AMI.
IMAGE_GIB = 45
#: The role of the control plane.
CONTROL_ROLE = "provision-control"
#: The parts of a bucket's "Block Public Access".
PUBLIC_ACCESS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
#: The name of the inline policy that a role has from `provision iam`.
POLICY = "provision"


class Account:
    """A new account in moto: subnets, an AMI, roles with their policies, buckets, parameters and secrets."""

    def __init__(
        self,
        region: str,
        buckets: Mapping[str, Mapping[str, bytes]],
        parameters: Mapping[str, str],
        secrets: Mapping[str, str],
        policies: Mapping[str, Mapping[str, Any]],
        profiles: Sequence[str] = (PROFILE,),
        *,
        empty: bool = False,
    ) -> None:
        """`policies` are those of `provision iam`; each instance profile has a role with its own name.

        An empty account has no network and no roles; it gets them from `provision setup`.
        """
        moto_api_backend.reset()
        self.region = region
        ec2 = _backend("ec2", region)
        #: Zones by subnet id; the default network has one subnet in each zone.
        self.subnets: dict[str, str] = {}
        if empty:
            self._delete_default_network()
        else:
            self._lead_out(ec2)
        self.note_subnets()
        self.image_id = str(ec2.register_image(IMAGE_NAME, "Stands for the Deep Learning Base AMI").id)
        #: The unique id of each instance profile's role, and the profile's ARN, by the profile's name.
        self.role_ids: dict[str, str] = {}
        self.profile_arns: dict[str, str] = {}
        self._first, self.profile_arn = "", ""
        if not empty:
            for profile in profiles:
                self.add_profile(profile, policies["trust"], policies["machine"])
            self._first, self.profile_arn = profiles[0], self.profile_arns[profiles[0]]
            self.add_role(CONTROL_ROLE, policies["trust"], policies["control"])
            # Exists as soon as an account has used spot machines.
            self.add_service_role(SPOT_SERVICE)
        s3 = _backend("s3", partition(self.region).name)
        for bucket, objects in buckets.items():
            s3.create_bucket(bucket, region)
            # As of a new bucket since 2023-04 (S3 User Guide, "Block Public Access").
            s3.put_public_access_block(bucket, dict.fromkeys(PUBLIC_ACCESS, "true"))
            for key, data in objects.items():
                s3.put_object(bucket, key, data)
        ssm, manager = _backend("ssm", region), _backend("secretsmanager", region)
        for name, value in parameters.items():
            ssm.put_parameter(name, "", value, "SecureString", "", "", False, [], "text", None, None)
        for name, value in secrets.items():
            manager.create_secret(name, value, None, None, None, None, None, [], False)

    def _lead_out(self, ec2: Any) -> None:
        """Give the default network what it has on AWS: a default route, and a group that accepts its own machines.

        VPC User Guide, "Default VPCs" and "Default security groups".
        """
        gateway = ec2.create_internet_gateway()
        for table in ec2.describe_route_tables():
            ec2.attach_internet_gateway(gateway.id, table.vpc_id)
            ec2.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
            group = ec2.get_default_security_group(table.vpc_id).id
            itself = [{"GroupId": group}]
            ec2.authorize_security_group_ingress(group, "-1", None, None, [], source_groups=itself, vpc_id=table.vpc_id)

    def add_role(self, name: str, trust: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
        """Create a role with an inline policy; return its unique id."""
        iam = _backend("iam", partition(self.region).name)
        role = iam.create_role(name, json.dumps(trust), "/", None, None, [], None)
        self.set_policy(name, policy)
        return str(role.id)

    def add_profile(self, name: str, trust: Mapping[str, Any], policy: Mapping[str, Any]) -> None:
        """Create an instance profile, and its role with the same name."""
        iam = _backend("iam", partition(self.region).name)
        self.role_ids[name] = self.add_role(name, trust, policy)
        self.profile_arns[name] = str(iam.create_instance_profile(name, "/", []).arn)
        iam.add_role_to_instance_profile(name, name)

    @property
    def role_id(self) -> str:
        """The unique id of the first instance profile's role."""
        return self.role_ids.get(self._first, "")

    def remake_role(self, profile: str) -> str:
        """Delete the profile's role and make it anew, with the same name and policies; return its new unique id.

        IAM gives the new role another unique id (IAM User Guide, "IAM identifiers").
        """
        iam = _backend("iam", partition(self.region).name)
        old = iam.get_role(profile)
        trust, policies = json.loads(old.assume_role_policy_document), dict(old.policies)
        iam.remove_role_from_instance_profile(profile, profile)
        for name in policies:
            iam.delete_role_policy(profile, name)
        iam.delete_role(profile)
        self.role_ids[profile] = self.add_role(profile, trust, json.loads(policies[POLICY]))
        iam.add_role_to_instance_profile(profile, profile)
        return self.role_ids[profile]

    def assigns_addresses(self, subnet: str) -> bool:
        """Return whether the subnet gives each of its machines a public address."""
        return str(_backend("ec2", self.region).get_subnet(subnet).map_public_ip_on_launch).lower() == "true"

    def add_service_role(self, service: str) -> dict[str, Any]:
        """Create EC2's role for spot machines, and return it as IAM does; moto would give it another name.

        Raises Refused if it exists, as IAM would, and NotPlayed for another service.
        """
        if service != SPOT_SERVICE:
            raise NotPlayed(f"a service-linked role of {service}")
        iam = _backend("iam", partition(self.region).name)
        if any(role.name == SPOT_ROLE for role in iam.roles.values()):
            message = f"Service role name {SPOT_ROLE} has been taken in this account, please try a different suffix."
            raise Refused("InvalidInput", message)
        trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": SPOT_SERVICE}, "Action": "sts:AssumeRole"}]}
        path = f"/aws-service-role/{SPOT_SERVICE}/"
        role = iam.create_role(SPOT_ROLE, json.dumps(trust), path, None, None, [], None)
        return {
            "Role": {"Path": path, "RoleName": SPOT_ROLE, "RoleId": role.id, "Arn": role.arn, "CreateDate": 0.0},
        }

    def role_id_of(self, profile: str) -> str:
        """Return the unique id of the role of an instance profile that was made after the start, or ""."""
        found = _backend("iam", partition(self.region).name).instance_profiles
        roles = [role for one in found.values() if one.name == profile for role in one.roles]
        return str(roles[0].id) if roles else ""

    def rights_of(self, role_id: str) -> list[dict[str, Any]]:
        """Return the policies of the role with this unique id: its own, and those attached to it."""
        iam = _backend("iam", partition(self.region).name)
        for role in list(iam.roles.values()):
            if role.id == role_id:
                attached = [
                    version.document
                    for one in role.managed_policies.values()
                    for version in one.versions
                    if version.version_id == one.default_version_id
                ]
                return [
                    json.loads(one) if isinstance(one, str) else one for one in [*role.policies.values(), *attached]
                ]
        return []

    def note_subnets(self) -> None:
        """Tell the model of EC2 which subnets there are: in a new account, those of the default network."""
        found = {one.id: one.availability_zone for one in _backend("ec2", self.region).describe_subnets()}
        for id in self.subnets.keys() - found.keys():
            del self.subnets[id]
        self.subnets.update(found)

    def _delete_default_network(self) -> None:
        ec2 = _backend("ec2", self.region)
        for subnet in ec2.describe_subnets():
            ec2.delete_subnet(subnet.id)
        for vpc in ec2.describe_vpcs():
            ec2.delete_vpc(vpc.id)

    def set_policy(self, role: str, policy: Mapping[str, Any], name: str = POLICY) -> None:
        """Give the role an inline policy. It is only shown: what calls are allowed was decided at the start."""
        _backend("iam", partition(self.region).name).put_role_policy(role, name, json.dumps(policy))

    def policies_of(self, role: str) -> list[Mapping[str, Any]] | None:
        """Return the policies that a role has now, or None for an unknown role."""
        found = _backend("iam", partition(self.region).name).roles.values()
        return next((documents(one) for one in found if one.name == role), None)

    @property
    def disk_key(self) -> str:
        """The KMS key with which new disks are encrypted, if they are: AWS's own, or the account's default key."""
        own = _backend("ec2", self.region).default_kms_key_id
        return own or f"arn:{partition(self.region).name}:kms:{self.region}:{ID}:alias/aws/ebs"

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the content of every object of a bucket, by key."""
        s3 = _backend("s3", partition(self.region).name)
        return {key.name: key.value for key in s3.list_objects(s3.get_bucket(bucket), None, None, None, None)[0]}

    def close(self) -> None:
        moto_api_backend.reset()

    @property
    def _zones(self) -> dict[str, set[str]]:
        """The zones that offer an instance type and have a subnet, by type."""
        return _offered(self.region, frozenset(self.subnets.values()))

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The names of the instance types that the region offers."""
        return tuple(self._zones)

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


@functools.cache
def _offered(region: str, zones: frozenset[str]) -> dict[str, set[str]]:
    """Return the zones among these that offer an instance type, by type."""
    offered: dict[str, set[str]] = {}
    for offering in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, ()):
        if offering["Location"] in zones:
            offered.setdefault(offering["InstanceType"], set()).add(offering["Location"])
    return offered


def _backend(service: str, region: str) -> Any:
    return moto.backends.get_backend(service)[ID][region]  # type: ignore[call-overload]
