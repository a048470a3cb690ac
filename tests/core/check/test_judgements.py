"""Test the judgements of `core.check` that the tests with a double's account do not reach."""

import dataclasses
from collections.abc import Iterable

from provisioner.core.check import ami, bucket, caps, login, network, objects, quotas, roles
from provisioner.core.check.lines import Group, Level, Line, Unseen, named, unseen
from provisioner.core.cloud.caps.budget import Budget
from provisioner.core.cloud.offers import Market

SUBNET = network.Subnet("subnet-1", "us-east-1a", "vpc-1", 100, gives_public=True)
OUT = network.Routes("rtb-1", "igw-1", works=True, s3=True)
AMI = ami.Ami("ami-1", "base", "available", "x86_64", 45)
BUCKET = bucket.Bucket("us-east-1", conditional=True, private=True, key=None, expiries=())


def levels(lines: Iterable[Line]) -> list[Level]:
    return [line.level for line in lines]


def subnet(one: network.Subnet, routes: network.Routes) -> list[Level]:
    return levels(network.subnets([one], {one.id: routes}, [one.id], "us-east-1"))


def test_root_login_is_a_warning() -> None:
    [_, line] = login.login(login.Identity("1", "arn:aws:iam::1:root", 0.0), "us-east-1")
    assert (line.level, line.fix) == (Level.WARNING, "use a role with the rights of `provision iam control`")


def test_clock_within_the_tolerance_is_right() -> None:
    assert levels(login.clock(login.Identity("1", "arn", 4.0))) == [Level.OK]
    assert levels(login.clock(login.Identity("1", "arn", -6.0))) == [Level.WRONG]


def test_fact_that_runs_need_is_wrong_without_its_right() -> None:
    for needed, level in ((True, Level.WRONG), (False, Level.WARNING)):
        line = unseen(Group.BUCKET, Unseen("the bucket", "AccessDenied", "s3:ListBucket", needed))
        assert (line.level, line.text) == (level, "the bucket cannot be read: s3:ListBucket is denied")


def test_lifecycle_rule_of_another_prefix_is_no_fault() -> None:
    """Mailboxes of lost machines may be deleted after 30 days, other files never."""
    for prefix, days, folders in (
        ("team/runs/old", 400, "runs/"),
        ("other/", 1, ""),
        ("runs/", 1, ""),
        ("", 1, "agent/, inbox/, machines/, runs/"),
        ("team/machines/", 30, ""),
        ("team/machines/", 29, "machines/"),
        ("team/", 30, "agent/, runs/"),
    ):
        found = dataclasses.replace(BUCKET, expiries=[bucket.Expiry("r", prefix, days)])
        texts = [line.text for line in bucket.bucket(found, "b/team", "us-east-1") if line.level is Level.WARNING]
        assert texts == ([f"the lifecycle rule r deletes {folders} after {days} days"] if folders else []), prefix


def test_public_subnet_without_addresses_says_that_launches_ask_for_them() -> None:
    for gives in (True, False):
        one = dataclasses.replace(SUBNET, gives_public=gives)
        [line] = network.subnets([one], {one.id: OUT}, [one.id], "us-east-1")
        assert (line.level, "that launches ask for" in line.text) == (Level.OK, not gives)


def test_subnet_with_ipv6_only_needs_no_public_ipv4_address() -> None:
    v6 = dataclasses.replace(SUBNET, gives_public=False, ipv6_only=True, free=0)
    assert subnet(v6, dataclasses.replace(OUT, way_out="eigw-1")) == [Level.OK]


def test_nat_with_an_s3_endpoint_is_right_and_shows_its_price() -> None:
    nat = dataclasses.replace(OUT, way_out="nat-1")
    [line] = network.subnets([SUBNET], {SUBNET.id: nat}, [SUBNET.id], "us-east-1")
    assert (line.level, "a NAT gateway (about 0.045 $ a GB)" in line.text) == (Level.OK, True)


def test_default_route_to_a_transit_gateway_is_right() -> None:
    assert subnet(SUBNET, dataclasses.replace(OUT, way_out="tgw-1")) == [Level.OK]


def test_one_group_that_trusts_itself_is_enough_for_gangs() -> None:
    """A machine has all groups."""
    apart, own = (
        network.SecurityGroup(f"sg-{one}", "vpc-1", lets_out=True, trusts_itself=one) for one in (False, True)
    )
    assert levels(network.groups([apart, own], [], ["vpc-1"], ["o/gang"])) == [Level.OK] * 2
    assert levels(network.groups([apart], [], ["vpc-1"], ["o/gang"])) == [Level.OK, Level.WRONG]
    assert levels(network.groups([apart], [], ["vpc-1"], [])) == [Level.OK]


def test_ami_that_is_not_available_is_wrong() -> None:
    assert levels(ami.ami(dataclasses.replace(AMI, state="pending"), "ami-1", 200, 0.0)) == [Level.WRONG]


def test_ami_is_deprecated_from_its_date_on() -> None:
    old = dataclasses.replace(AMI, deprecated_at=1000.0)
    assert levels(ami.ami(old, "ami-1", 200, 999.0)) == [Level.OK]
    [_, line] = ami.ami(old, "ami-1", 200, 1000.0)
    assert (line.level, "since 1970-01-01" in line.text) == (Level.WARNING, True)


def test_cap_shows_what_is_left_of_it() -> None:
    day = 86400.0
    assert levels(caps.caps(None)) == [Level.WARNING]
    [line] = caps.caps(Budget(200.0, 10 * day, spent=41.2, committed={10: 96.5, 11: 500.0}))
    text = "max_dollars_a_day: $41.20 spent today (UTC), $96.50 committed of $200.00"
    assert (line.level, line.text) == (Level.OK, text)
    assert levels(caps.caps(Budget(200.0, 10 * day, spent=50.0, committed={10: 150.0}))) == [Level.WARNING]


BOTH = quotas.Need("o/job", ("p4d.24xlarge", "g5.xlarge"), (Market.SPOT, Market.ON_DEMAND))
VCPUS = {"p4d.24xlarge": 96, "g5.xlarge": 4}
#: P and G quotas, on-demand and spot, with room for one g5.xlarge on-demand.
SMALL = {"L-417A185B": 0, "L-7212CCBC": 0, "L-DB2E81BA": 4, "L-3819A6DF": 0}


def test_one_offer_with_room_is_enough() -> None:
    assert quotas.too_small(BOTH, SMALL, VCPUS) is None
    assert quotas.too_small(dataclasses.replace(BOTH, markets=(Market.SPOT,)), SMALL, VCPUS) is not None


def test_quota_must_have_room_for_all_machines_of_a_gang() -> None:
    found = quotas.too_small(dataclasses.replace(BOTH, machines=2), SMALL, VCPUS)
    assert found is not None
    assert "2 machines of p4d.24xlarge need 192 vCPUs" in found[0]


def test_unknown_quota_or_type_may_be_enough() -> None:
    assert quotas.too_small(BOTH, {**SMALL, "L-DB2E81BA": 3}, VCPUS) is not None
    assert quotas.too_small(BOTH, {name: 0 for name in SMALL if name != "L-3819A6DF"}, VCPUS) is None
    assert quotas.too_small(BOTH, dict.fromkeys(SMALL, 0), {"p4d.24xlarge": 96}) is None


def test_without_jobs_the_quotas_of_small_gpu_types_are_read() -> None:
    assert set(quotas.concerned([])) == {"L-DB2E81BA", "L-3819A6DF"}


def test_installation_with_a_similar_name_is_another_one() -> None:
    found = [objects.Object("image", "ami-1", {"provision:installation": "gpu-jobs-test"})]
    [_, line] = objects.objects(found, "gpu-jobs")
    assert line.text == "1 image of the installation 'gpu-jobs-test': ami-1"
    assert "create-tags" not in line.fix


def test_many_objects_are_counted_and_some_are_named() -> None:
    found = [objects.Object("image", f"ami-{one}", {}) for one in range(30)]
    [_, line] = objects.objects(found, "gpu-jobs")
    assert line.text.startswith("30 image with no such tag")
    assert line.text.endswith("ami-4 and 25 more")
    assert "ami-19 …" in line.fix


def test_principals_of_a_trust_policy_may_be_texts_lists_or_everybody() -> None:
    trust = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", "ssm.amazonaws.com"], "AWS": "1"}},
            {"Effect": "Deny", "Principal": {"AWS": "2"}},
            {"Effect": "Allow", "Principal": "*"},
        ]
    }
    assert roles.trusted(trust) == ("*", "1", "ec2.amazonaws.com", "ssm.amazonaws.com")
    assert roles.trusted({"Statement": trust["Statement"][0]}) == ("1", "ec2.amazonaws.com", "ssm.amazonaws.com")


def test_rights_of_machines_are_asked_for_one_machine() -> None:
    policy = {
        "Statement": [
            {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/agent/*"},
            {"Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::b/machines/${aws:userid}/log*"]},
        ]
    }
    assert list(roles.asked(policy, "AROA:i-1")) == [
        (["s3:GetObject"], ["arn:aws:s3:::b/agent/x"]),
        (["s3:PutObject"], ["arn:aws:s3:::b/machines/AROA:i-1/logx"]),
    ]


def test_names_beyond_the_most_are_counted() -> None:
    assert named("abc", 3) == "a, b, c"
    assert named("abcd", 3) == "a, b, c and 1 more"
