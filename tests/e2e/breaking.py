"""Break one thing in an account of the double, for the tests of `check`."""

import json
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import moto.backends
import pytest

from provisioner import wiring
from provisioner.adapters.checks import login
from provisioner.core.check.lines import Line
from provisioner.core.cloud.setup.stack import SPOT_ROLE
from provisioner.rehearsal.aws.account import ID, PROFILE
from provisioner.rehearsal.aws.calls import CONTROL
from provisioner.rehearsal.aws.faults import Effect, Rule
from provisioner.rehearsal.ec2.conditions import Lapse
from tests.e2e.rig import Rig
from tests.rehearsal.conftest import Rig as Clients
from tests.support.fleets import fleet, machines, template
from tests.support.hosts import IdleHost

#: KMS keys of the account.
KEY = f"arn:aws:kms:us-east-1:{ID}:key/1"


class Stage:
    """An installation in an account, and what a test needs to break it."""

    def __init__(self, whole: Rig, patch: pytest.MonkeyPatch) -> None:
        self.whole, self.double, self.patch = whole, whole.double, patch
        self.settings = whole.settings
        self.subnet = whole.settings.subnets[0]

    def backend(self, service: str, region: str = "us-east-1") -> Any:
        return moto.backends.get_backend(service)[ID][region]  # type: ignore[call-overload]

    @property
    def ec2(self) -> Any:
        return self.backend("ec2")

    @property
    def iam(self) -> Any:
        return self.backend("iam", "aws")

    @property
    def s3(self) -> Any:
        return self.backend("s3", "aws")

    @property
    def vpc(self) -> str:
        return str(self.ec2.get_default_vpc().id)

    @property
    def table(self) -> str:
        """The id of the route table of the default VPC."""
        return str(next(one.id for one in self.ec2.describe_route_tables() if one.vpc_id == self.vpc))

    @property
    def group(self) -> str:
        """The id of the default security group."""
        return str(self.ec2.get_default_security_group(self.vpc).id)

    def set(self, **changes: Any) -> None:
        """Change the settings."""
        self.settings = self.settings.model_copy(update=changes)

    def deny(self, action: str, code: str = "AccessDenied") -> None:
        self.double.faults.add(Rule(Effect.ERROR, action=action, principal=CONTROL, code=code, status=403))

    def job(self, **spec: Any) -> None:
        self.whole.start("true", name="train", **spec)

    def clients(self) -> Clients:
        return Clients(self.double, IdleHost())

    def administrator(self) -> Any:
        return self.clients().client("ec2", administrator=True)

    def lines(self) -> list[Line]:
        return list(wiring.check(self.settings))


def lapsed(on: Stage) -> None:
    on.double.change(lapses=(Lapse(0, 1e9),))


def logged_out(on: Stage) -> None:
    on.patch.delenv("AWS_ACCESS_KEY_ID")
    on.patch.delenv("AWS_SECRET_ACCESS_KEY")


def clock_ahead(on: Stage) -> None:
    ahead = SimpleNamespace(time=lambda: time.time() + 600, monotonic=time.monotonic)
    on.patch.setattr(login, "time", ahead)


def bucket_deleted(on: Stage) -> None:
    on.s3.delete_bucket(on.double.bucket)


def bucket_elsewhere(on: Stage) -> None:
    bucket_deleted(on)
    on.s3.create_bucket(on.double.bucket, "eu-west-1")


def writes_unconditional(on: Stage) -> None:
    on.double.faults.add(Rule(Effect.EMPTY, action="PutObject"))


def bucket_with_a_key(on: Stage) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    on.s3.put_bucket_encryption(on.double.bucket, {"Rule": rule})


def logs_expire(on: Stage) -> None:
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": "runs/"}, "Expiration": {"Days": "7"}}
    on.s3.put_bucket_lifecycle(on.double.bucket, [rule])


def profile_deleted(on: Stage) -> None:
    on.iam.remove_role_from_instance_profile(PROFILE, PROFILE)
    on.iam.delete_instance_profile(PROFILE)


def role_for_lambda(on: Stage) -> None:
    on.iam.update_assume_role_policy(PROFILE, json.dumps(trusting({"Service": "lambda.amazonaws.com"})))


def role_for_others(on: Stage) -> None:
    principals = {"Service": "ec2.amazonaws.com", "AWS": "arn:aws:iam::999999999999:root"}
    on.iam.update_assume_role_policy(PROFILE, json.dumps(trusting(principals)))


def trusting(principals: Mapping[str, str]) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principals, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def machines_without_reports(on: Stage) -> None:
    machine = on.double.policies["machine"]
    kept = [one for one in machine["Statement"] if one["Sid"] != "WriteOwnMailbox"]
    on.double.account.set_policy(PROFILE, {**machine, "Statement": kept})


def fleets_denied(on: Stage) -> None:
    template(on.clients())
    on.deny("CreateFleet", "UnauthorizedOperation")


def launched(on: Stage) -> str:
    """Launch a machine, and return its id."""
    template(on.clients())
    [machine] = machines(fleet(on.clients()))
    return machine


def templates(on: Stage) -> list[str]:
    """Return the names of all launch templates."""
    found = on.administrator().describe_launch_templates()["LaunchTemplates"]
    return [one["LaunchTemplateName"] for one in found]


def terminations_denied(on: Stage) -> None:
    launched(on)
    on.deny("TerminateInstances", "UnauthorizedOperation")


def same_zone(on: Stage) -> None:
    zone = on.double.account.subnets[on.subnet]
    made = on.ec2.create_subnet(on.vpc, "172.31.200.0/24", None, availability_zone=zone)
    made.map_public_ip_on_launch = True
    on.set(subnets=(*on.settings.subnets, made.id))


def two_vpcs(on: Stage) -> None:
    other = on.ec2.create_vpc("10.0.0.0/16")
    subnet = on.ec2.create_subnet(other.id, "10.0.0.0/24", None, availability_zone="us-east-1b")
    on.set(subnets=(on.subnet, subnet.id))


def no_route(on: Stage) -> None:
    on.ec2.delete_route(on.table, "0.0.0.0/0")


def own_table(on: Stage) -> None:
    """Give one subnet a route table of its own, without a default route; the VPC's main table has one."""
    on.ec2.associate_route_table(on.ec2.create_route_table(on.vpc).id, subnet_id=on.subnet)


def s3_only(on: Stage) -> None:
    no_route(on)
    on.ec2.create_vpc_endpoint(on.vpc, "com.amazonaws.us-east-1.s3", "Gateway", None, [on.table])


def dead_route(on: Stage) -> None:
    [gateway] = on.ec2.describe_internet_gateways()
    on.patch.setattr(type(next(iter(on.ec2.get_route_table(on.table).routes))), "state", "blackhole")
    assert gateway.id


def through_nat(on: Stage) -> None:
    made = on.ec2.create_nat_gateway(on.subnet, "", None, "private")
    no_route(on)
    on.ec2.create_route(on.table, "0.0.0.0/0", nat_gateway_id=made.id)


def addresses(on: Stage, number: int) -> None:
    on.patch.setattr(type(on.ec2.get_subnet(on.subnet)), "available_ip_address_count", number)


def egress(on: Stage, *ranges: str) -> None:
    everywhere = [{"CidrIp": "0.0.0.0/0"}]
    on.ec2.revoke_security_group_egress(on.group, "-1", None, None, everywhere, vpc_id=on.vpc)
    if ranges:
        some = [{"CidrIp": one} for one in ranges]
        on.ec2.authorize_security_group_egress(on.group, "tcp", "443", "443", some, vpc_id=on.vpc)


def open_port(on: Stage) -> None:
    everywhere = [{"CidrIp": "0.0.0.0/0"}]
    on.ec2.authorize_security_group_ingress(on.group, "tcp", "22", "22", everywhere, vpc_id=on.vpc)


def group_elsewhere(on: Stage) -> None:
    other = on.ec2.create_vpc("10.0.0.0/16")
    on.set(security_groups=(on.ec2.create_security_group("other", "other", vpc_id=other.id).id,))


def gang_apart(on: Stage) -> None:
    on.set(security_groups=(on.ec2.create_security_group("apart", "apart", vpc_id=on.vpc).id,))
    on.job(scale=2)


def disks_with_a_key(on: Stage) -> None:
    on.ec2.enable_ebs_encryption_by_default()
    on.ec2.default_kms_key_id = KEY


def no_quota(on: Stage) -> None:
    on.whole.double.change(quotas=quota(market="on-demand", type="g*", vcpus=0))


def small_quota(on: Stage) -> None:
    on.whole.double.change(quotas=quota(market="on-demand", type="p4d.24xlarge", vcpus=64))
    on.job(instance_type="p4d.24xlarge")


def quota(**rule: Any) -> Any:
    from provisioner.rehearsal.scenario import parse

    return parse({"quotas": [rule]}).conditions.quotas


def no_spot_role(on: Stage) -> None:
    on.iam.delete_role(SPOT_ROLE)


def no_spot_role_but_spot_jobs(on: Stage) -> None:
    no_spot_role(on)
    on.job(use_spot_instance=True)


def group_of(on: Stage, tags: Mapping[str, str]) -> None:
    """Create a placement group with these tags, as an administrator."""
    given = [{"ResourceType": "placement-group", "Tags": [{"Key": key, "Value": tags[key]} for key in tags]}]
    on.administrator().create_placement_group(GroupName="found", Strategy="cluster", TagSpecifications=given)


def template_without_a_tag(on: Stage) -> None:
    template(on.clients(), f"provision-{'0' * 32}", administrator=True, TagSpecifications=[])
