"""What the stack makes for which settings and accounts."""

from typing import Any

import pytest

from provisioner.core.cloud.setup.plan import entries, made, wanted
from provisioner.core.cloud.setup.stack import (
    SETUP_TAG,
    RouteTable,
    Subnet,
    block,
    bucket_name,
    control_name,
    logical,
)
from provisioner.core.errors import Conflict, Invalid
from tests.support.accounts import ACCOUNT, found, wishes

GROUP = logical("Group", "provision-machine")


def subnet(id: str, zone: str = "us-east-1a", **changes: Any) -> Subnet:
    return Subnet(**{"id": id, "vpc": "vpc-1", "zone": zone, "free": 100, "public": False, **changes})


def table(id: str = "rtb-1", **changes: Any) -> RouteTable:
    return RouteTable(**{"id": id, "main": True, "subnets": (), "outward": True, "s3": False, **changes})


def test_empty_account_gets_everything() -> None:
    plan = wanted(wishes(), found(), {})
    assert plan.make_bucket
    assert plan.bucket == f"provision-gpu-jobs-{ACCOUNT}-us-east-1"
    assert plan.network.zones == ["us-east-1a", "us-east-1b"]
    assert (plan.profiles, plan.roles) == ({"provision-machine": "provision-machine"}, ["provision-machine"])
    assert plan.groups == ["provision-machine"]
    assert plan.make_spot_role
    assert plan.sso_profile == ""


def test_what_exists_already_is_not_made() -> None:
    has = found(
        bucket_exists=True,
        subnets=[subnet("subnet-1")],
        route_tables=[table(s3=True)],
        profiles={"provision-machine": "mine"},
        roles={"provision-machine": {}},
        spot_role=True,
    )
    plan = wanted(wishes(bucket="mine", subnets=("subnet-1",), security_groups=("sg-1",)), has, {})
    assert (plan.make_bucket, plan.make_spot_role) == (False, False)
    assert (plan.profiles, plan.roles, plan.groups) == ({}, [], [])
    assert (plan.network.zones, plan.network.vpc, plan.network.route_tables) == ((), "vpc-1", [])


def test_what_the_stack_itself_has_made_stays_in_it() -> None:
    """Without it in the template, CloudFormation would delete it."""
    resources = {
        "Bucket": "bucket-1",
        "SubnetA": "subnet-1",
        "SubnetB": "subnet-2",
        "Group": "sg-1",
        "Role": "provision-machine",
        "Profile": "provision-machine",
        "SpotRole": "AWSServiceRoleForEC2Spot",
    }
    asked = wishes(bucket="bucket-1", subnets=("subnet-2", "subnet-1"), security_groups=("sg-1",))
    has = found(
        bucket_exists=True,
        profiles={"provision-machine": "provision-machine"},
        roles={"provision-machine": {SETUP_TAG: "gpu-jobs"}},
        spot_role=True,
        resources=resources,
    )
    plan = wanted(asked, has, {})
    assert plan.make_bucket
    assert plan.make_spot_role
    assert plan.network.zones == ["us-east-1a", "us-east-1b"]
    assert (list(plan.profiles), plan.roles, plan.groups) == (["provision-machine"],) * 3


@pytest.mark.parametrize("role", ["provision-machine", "provision-control-gpu-jobs"])
def test_role_of_another_stack_is_a_conflict(role: str) -> None:
    with pytest.raises(Conflict, match=f"the role {role} belongs to the stack of the installation 'other'"):
        wanted(wishes(), found(roles={role: {SETUP_TAG: "other"}}), {})


def test_control_role_of_another_stack_is_no_conflict_with_an_sso_profile() -> None:
    has = found(roles={"provision-control-gpu-jobs": {SETUP_TAG: "other"}})
    assert wanted(wishes(sso_profile="dev"), has, {}).sso_profile == "dev"


def test_sso_profile_of_the_stack_stays_until_another_is_given() -> None:
    assert wanted(wishes(), found(sso_profile="dev"), {}).sso_profile == "dev"
    assert wanted(wishes(sso_profile=""), found(sso_profile="dev"), {}).sso_profile == ""


def test_vpc_gives_one_subnet_in_each_zone_best_one_that_assigns_public_addresses() -> None:
    subnets = [
        subnet("subnet-1", free=900),
        subnet("subnet-2", public=True),
        subnet("subnet-3", "us-east-1b"),
        subnet("subnet-4", "us-east-1b", free=200),
        subnet("subnet-5", "us-east-1c", public=True),
    ]
    tables = [table(), table("rtb-2", main=False, subnets=["subnet-5"], outward=False)]
    plan = wanted(wishes(vpc="vpc-1"), found(subnets=subnets, route_tables=tables), {})
    # The zone of subnet-5 has no route to the internet.
    assert plan.network.subnets == ["subnet-2", "subnet-4"]
    assert plan.network.route_tables == ["rtb-1"]


@pytest.mark.parametrize(
    ("asked", "subnets", "told"),
    [
        (wishes(subnets=("subnet-9",)), [], "subnet-9 not found in us-east-1"),
        (wishes(subnets=("subnet-1", "subnet-2")), [subnet("subnet-1"), subnet("subnet-2", vpc="vpc-2")], "one VPC"),
        (wishes(subnets=("subnet-1",), vpc="vpc-2"), [subnet("subnet-1")], "remove that line to use another VPC"),
        (wishes(vpc="vpc-1"), [], "no subnet has a route to the internet"),
    ],
)
def test_network_that_cannot_be_used_is_refused(asked: Any, subnets: list[Subnet], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        wanted(asked, found(subnets=subnets, route_tables=[table()]), {})


def test_settings_name_what_was_made_and_what_is_used() -> None:
    asked = wishes(bucket="mine/jobs", roles={"provision-machine": "provision-machine", "research": "research"})
    plan = wanted(asked, found(), {})
    outputs = {"Bucket": "mine", "Subnets": "subnet-1,subnet-2", GROUP: "sg-1", logical("Group", "research"): "sg-2"}
    resources = {
        ("bucket",): "mine/jobs",
        ("subnets",): ["subnet-1", "subnet-2"],
        ("security_groups",): ["sg-1"],
        ("profile_security_groups", "research"): ["sg-2"],
    }
    assert made(asked, outputs) == resources
    assert entries(asked, plan, outputs) == resources | {("instance_profile",): "provision-machine"}


def test_long_names_are_cut_and_stay_different() -> None:
    """A role has at most 64 characters, and a bucket 63 (IAM and S3 quotas)."""
    names = ["a" * 62 + "b", "a" * 62 + "c"]
    assert {len(control_name(name)) for name in names} == {64}
    assert {len(bucket_name(name, ACCOUNT, "us-east-1")) for name in names} == {63}
    assert len({control_name(name) for name in names}) == 2


def test_profiles_with_similar_names_have_resources_of_their_own() -> None:
    assert len({logical("Group", name) for name in ("a-b", "a.b", "ab", "AB")}) == 4


def test_zone_keeps_its_addresses_when_the_region_gets_another_zone() -> None:
    assert [block(f"us-east-1{letter}") for letter in "acp"] == ["10.64.0.0/20", "10.64.32.0/20", "10.64.240.0/20"]
    with pytest.raises(Invalid, match="ends in a letter from a to p"):
        block("us-east-1q")
