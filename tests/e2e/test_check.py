"""The command `check`: each thing that it looks for is broken once in an account, and named with its fix."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner import wiring
from provisioner.core.check.lines import Group, Level, failed
from provisioner.rehearsal.aws.account import PROFILE
from tests.e2e import breaking
from tests.e2e.breaking import KEY, Stage
from tests.e2e.rig import rig
from tests.support.hosts import IdleHost

WRONG, WARNING, OK = Level.WRONG, Level.WARNING, Level.OK
LOGIN, CLOCK, BUCKET, ROLES, NETWORK = Group.LOGIN, Group.CLOCK, Group.BUCKET, Group.ROLES, Group.NETWORK
AMI, QUOTAS, SPOT, OBJECTS = Group.AMI, Group.QUOTAS, Group.SPOT, Group.OBJECTS


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with rig(tmp_path, monkeypatch, host=IdleHost()) as whole:
        yield Stage(whole, monkeypatch)


@dataclass(frozen=True)
class Row:
    """What is broken, and the line that must report it: its group, its level, and parts of its text and fix."""

    name: str
    broken: Callable[[Stage], None]
    group: Group
    level: Level
    text: str
    fix: str


ROWS = [
    Row("login has expired", breaking.lapsed, LOGIN, WRONG, "is expired", "log in"),
    Row("no login", breaking.logged_out, LOGIN, WRONG, "Unable to locate credentials", "log in"),
    Row("clock ahead", breaking.clock_ahead, CLOCK, WRONG, "10 min ahead of EC2's", "timedatectl"),
    Row(
        "bucket does not exist",
        breaking.bucket_deleted,
        BUCKET,
        WRONG,
        "the bucket provision-rehearsal does not exist",
        "`provision setup`",
    ),
    Row(
        "bucket in another region",
        breaking.bucket_elsewhere,
        BUCKET,
        WRONG,
        "provision-rehearsal is in eu-west-1, but the settings have the region us-east-1",
        "name a bucket of the same region",
    ),
    Row("writes denied", lambda on: on.deny("PutObject"), BUCKET, WRONG, "PutObject", "allow s3:PutObject"),
    Row(
        "conditional writes ignored",
        breaking.writes_unconditional,
        BUCKET,
        WRONG,
        "ignores If-None-Match",
        "use a bucket of Amazon S3",
    ),
    Row(
        "bucket is public",
        lambda on: on.s3.delete_public_access_block(on.double.bucket),
        BUCKET,
        WARNING,
        "public access to the bucket provision-rehearsal is not blocked",
        "aws s3api put-public-access-block --bucket provision-rehearsal",
    ),
    Row(
        "bucket with an own key",
        breaking.bucket_with_a_key,
        BUCKET,
        WARNING,
        f"{KEY}, but the policies of provision-machine lack kms:Decrypt, kms:GenerateDataKey",
        "name the key in `kms_keys` of the settings",
    ),
    Row(
        "logs expire",
        breaking.logs_expire,
        BUCKET,
        WARNING,
        "the lifecycle rule tidy deletes runs/ after 7 days",
        "limit it to machines/ and inbox/",
    ),
    Row(
        "profile does not exist",
        breaking.profile_deleted,
        ROLES,
        WRONG,
        "the instance profile provision-machine does not exist",
        "`provision setup`",
    ),
    Row(
        "profile may not be read",
        lambda on: on.set(profiles={"research": "provision-research"}),
        ROLES,
        WRONG,
        "the instance profile provision-research cannot be read: iam:GetInstanceProfile is denied",
        "`provision iam control`",
    ),
    Row(
        "profile has no role",
        lambda on: on.iam.remove_role_from_instance_profile(PROFILE, PROFILE),
        ROLES,
        WRONG,
        "the instance profile provision-machine has no role",
        "aws iam add-role-to-instance-profile --instance-profile-name provision-machine --role-name provision-machine",
    ),
    Row(
        "profile has another role",
        lambda on: on.set(profile_roles={PROFILE: "/team/machines"}),
        ROLES,
        WRONG,
        "has the role provision-machine, but the policies are made for /team/machines",
        '`"provision-machine" = "provision-machine"` below [profile_roles]',
    ),
    Row(
        "role not for EC2",
        breaking.role_for_lambda,
        ROLES,
        WRONG,
        "ec2.amazonaws.com may not assume the role provision-machine",
        "aws iam update-assume-role-policy --role-name provision-machine",
    ),
    Row(
        "role for others, too",
        breaking.role_for_others,
        ROLES,
        WARNING,
        "others than machines may assume the role provision-machine: arn:aws:iam::999999999999:root",
        "`provision iam trust > trust.json`",
    ),
    Row(
        "machines lack rights",
        breaking.machines_without_reports,
        ROLES,
        WRONG,
        "machines with the role provision-machine lack 5 rights: s3:PutObject on",
        "aws iam put-role-policy --role-name provision-machine",
    ),
    Row(
        "launches denied",
        lambda on: on.deny("RunInstances", "UnauthorizedOperation"),
        ROLES,
        WRONG,
        "RunInstances is denied",
        "`provision iam control`",
    ),
    Row(
        "launch templates denied",
        lambda on: on.deny("CreateLaunchTemplate", "UnauthorizedOperation"),
        ROLES,
        WRONG,
        "CreateLaunchTemplate is denied",
        "`provision iam control`",
    ),
    Row("fleets denied", breaking.fleets_denied, ROLES, WRONG, "CreateFleet is denied", "`provision iam control`"),
    Row(
        "terminations denied",
        breaking.terminations_denied,
        ROLES,
        WRONG,
        "TerminateInstances is denied",
        "`provision iam control`",
    ),
    Row(
        "subnet does not exist",
        lambda on: on.set(subnets=(on.subnet, "subnet-0123456789abcdef0")),
        NETWORK,
        WRONG,
        "the subnet subnet-0123456789abcdef0 does not exist in us-east-1",
        "correct `subnets`",
    ),
    Row("two subnets in a zone", breaking.same_zone, NETWORK, WRONG, "are all in us-east-1", "keep one of them"),
    Row("subnets in two VPCs", breaking.two_vpcs, NETWORK, WRONG, "the subnets are in 2 VPCs", "subnets of one VPC"),
    Row("no default route", breaking.no_route, NETWORK, WRONG, "has no default route", "add a route for 0.0.0.0/0"),
    Row("own table without a route", breaking.own_table, NETWORK, WRONG, "has no default route", "add a route for"),
    Row("only S3 reachable", breaking.s3_only, NETWORK, WARNING, "reaches S3, but has no default route", "add a route"),
    Row("dead default route", breaking.dead_route, NETWORK, WRONG, "does not exist any more", "replace the route"),
    Row(
        "S3 through NAT",
        breaking.through_nat,
        NETWORK,
        WARNING,
        "costs 0.45 $",
        "--service-name com.amazonaws.us-east-1.s3 --route-table-ids rtb-",
    ),
    Row(
        "no free address", lambda on: breaking.addresses(on, 0), NETWORK, WRONG, "has no free address", "delete unused"
    ),
    Row(
        "few addresses",
        lambda on: breaking.addresses(on, 5),
        NETWORK,
        WARNING,
        "only 5 free addresses",
        "a larger subnet",
    ),
    Row(
        "security group does not exist",
        lambda on: on.set(security_groups=("sg-0123456789abcdef0",)),
        NETWORK,
        WRONG,
        "the security group sg-0123456789abcdef0 does not exist",
        "correct `security_groups`",
    ),
    Row(
        "security group of another VPC",
        breaking.group_elsewhere,
        NETWORK,
        WRONG,
        "but the subnets are in vpc-",
        "name groups of the subnets' VPC",
    ),
    Row(
        "no connections out",
        breaking.egress,
        NETWORK,
        WRONG,
        "lets machines open no HTTPS connections",
        "aws ec2 authorize-security-group-egress --group-id sg-",
    ),
    Row(
        "few connections out",
        lambda on: breaking.egress(on, "10.0.0.0/8"),
        NETWORK,
        WARNING,
        "to some addresses only",
        "unless S3 and the jobs' registries are among them",
    ),
    Row("open to the internet", breaking.open_port, NETWORK, WARNING, "the whole internet: tcp 22", "limit them"),
    Row(
        "gang cannot connect",
        breaking.gang_apart,
        NETWORK,
        WRONG,
        "accepts connections of its own machines, which tester/train needs",
        "--protocol all --source-group sg-",
    ),
    Row(
        "AMI does not exist",
        lambda on: on.set(image="ami-0123456789abcdef0"),
        AMI,
        WRONG,
        "there is no AMI ami-0123456789abcdef0",
        "correct `image`",
    ),
    Row(
        "AMI's parameter does not exist",
        lambda on: on.set(image="ssm:/aws/service/absent"),
        AMI,
        WRONG,
        "there is no AMI ssm:/aws/service/absent",
        "`provision ami use`",
    ),
    Row(
        "disk smaller than the AMI's",
        lambda on: on.set(disk_gib=20),
        AMI,
        WARNING,
        "disk_gib is 20, but the AMI",
        "set disk_gib to more than 45",
    ),
    Row(
        "disks with an own key",
        breaking.disks_with_a_key,
        AMI,
        WARNING,
        f"disks are encrypted with {KEY}; whether provision-control may use it cannot be read",
        "apply the policies of `provision iam`; it needs kms:CreateGrant, kms:Decrypt",
    ),
    Row(
        "quota is 0",
        breaking.no_quota,
        QUOTAS,
        WARNING,
        "(L-DB2E81BA) is 0 vCPUs, as in a new account",
        "ask for more at",
    ),
    Row(
        "quota too small for a job",
        breaking.small_quota,
        QUOTAS,
        WRONG,
        "job tester/train: p4d.24xlarge needs 96 vCPUs, but the quota",
        "ask for more at https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-417A185B",
    ),
    Row(
        "no role for spot",
        breaking.no_spot_role,
        SPOT,
        WARNING,
        "AWSServiceRoleForEC2Spot does not exist",
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    Row(
        "no role for spot jobs",
        breaking.no_spot_role_but_spot_jobs,
        SPOT,
        WRONG,
        "so spot launches fail: tester/train",
        "aws iam create-service-linked-role",
    ),
    Row(
        "object of another installation",
        lambda on: breaking.group_of(on, {"provision:installation": "old"}),
        OBJECTS,
        WARNING,
        "1 placement-group of the installation 'old'",
        "delete them as an administrator",
    ),
    Row(
        "object with a misspelt tag",
        lambda on: breaking.group_of(on, {"provision:installation": "Test"}),
        OBJECTS,
        WARNING,
        "1 placement-group with a misspelt one",
        "--tags Key=provision:installation,Value=test",
    ),
    Row(
        "object without the tag",
        lambda on: breaking.group_of(on, {"provision:launch": "1"}),
        OBJECTS,
        WARNING,
        "1 placement-group with no such tag",
        "aws ec2 create-tags --resources pg-",
    ),
    Row(
        "template without the tag",
        breaking.template_without_a_tag,
        OBJECTS,
        WARNING,
        "1 launch-template with no such tag",
        "aws ec2 create-tags --resources lt-",
    ),
    Row(
        "a look is denied",
        lambda on: on.deny("DescribeRouteTables", "UnauthorizedOperation"),
        NETWORK,
        WARNING,
        "the route tables cannot be read: ec2:DescribeRouteTables is denied",
        "allow ec2:DescribeRouteTables to this login",
    ),
]


def test_account_as_it_should_be_has_no_warning(stage: Stage) -> None:
    lines = stage.lines()
    assert [line for line in lines if line.level is not OK] == []
    assert {line.group for line in lines} == {*Group} - {Group.MACHINE, Group.CAPS}
    assert stage.double.calls.unimplemented == []
    assert stage.double.rights.denied == []
    assert stage.double.account.objects(stage.double.bucket) == {}
    assert stage.double.history() == {}


def test_check_launches_and_ends_nothing(stage: Stage) -> None:
    """All calls of a launch are tried, because the installation has a template and a machine."""
    machine, templates = breaking.launched(stage), breaking.templates(stage)
    [line] = [line.text for line in stage.lines() if "may make" in line.text]
    assert line.startswith("this login may make RunInstances, CreateLaunchTemplate, CreateFleet, TerminateInstances")
    assert [one.id for one in stage.double.alive()] == [machine]
    assert breaking.templates(stage) == templates


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_broken_is_named_with_its_fix(stage: Stage, row: Row) -> None:
    row.broken(stage)
    lines = stage.lines()
    assert [
        line
        for line in lines
        if (line.group, line.level) == (row.group, row.level) and row.text in line.text and row.fix in line.fix
    ], [line for line in lines if line.level is not OK]
    assert failed(lines) or row.level is WARNING
    assert all(line.fix for line in lines if line.level is not OK)
    assert stage.double.calls.unimplemented == []


def test_key_that_the_settings_name_is_right_once_the_policies_are_applied(stage: Stage) -> None:
    """The machine policy allows keys only by way of S3, and the simulation of rights must say so."""
    breaking.bucket_with_a_key(stage)
    stage.set(kms_keys=(KEY,))
    texts = [line.text for line in stage.lines() if KEY in line.text]
    assert any("lack kms:Decrypt, kms:GenerateDataKey" in text for text in texts)
    stage.double.account.set_policy(PROFILE, wiring.policies(stage.settings)["machine"])
    [line] = [line for line in stage.lines() if KEY in line.text]
    text = f"objects of provision-rehearsal are encrypted with {KEY}, which the roles may use"
    assert (line.level, line.text) == (OK, text)
