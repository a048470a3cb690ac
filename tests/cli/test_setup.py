"""`provision setup` on the double: from an empty account, with what exists already, and back."""

import ast
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from provisioner import wiring
from provisioner.faces.cli import exits
from provisioner.settings import load
from tests.cli.conftest import BUCKET, Empty, Provision


def test_empty_account_to_a_finished_run_in_three_commands(empty: Empty, provision: Provision, tmp_path: Path) -> None:
    """init, as the fixture has run it, setup and check, which finds nothing wrong; then a run."""
    before = empty.path.read_text()
    done = provision("setup")
    assert done.code == 0, done.err
    assert done.last_line == "next: provision check"
    settings = empty.settings
    assert settings["bucket"] == BUCKET
    assert settings["instance_profile"] == "provision-machine"
    assert len(settings["subnets"]) == len(set(empty.double.account.subnets.values())) == 3
    assert len(settings["security_groups"]) == 1
    # Every character that was there is still there.
    added = [line for line in empty.path.read_text().splitlines() if line not in before.splitlines()]
    assert sorted(done.out.decode().splitlines()) == sorted(added)
    assert "".join(line for line in empty.path.read_text().splitlines(keepends=True) if line.rstrip() not in added) == (
        before
    )
    load(str(empty.path))
    done = provision("check")
    assert (done.code, done.last_line) == (0, "nothing is wrong, 0 warnings"), done.out.decode()
    recipe = tmp_path / "job.yaml"
    spec = {"name": "first", "image": "any", "instance_type": "g5.xlarge", "command": "true", "use_spot_instance": True}
    recipe.write_text(json.dumps({"type": "job", "spec": spec}))
    assert provision("apply", str(recipe)).code == 0
    done = provision("start", "first", "--wait")
    assert done.code == 0, done.err
    assert empty.double.calls.unimplemented == []
    assert {one.split("/")[0] for one in empty.double.account.objects(BUCKET)} >= {"runs"}


def test_setup_makes_what_its_template_says(empty: Empty, provision: Provision) -> None:
    assert provision("setup").code == 0
    s3, ec2, iam = empty.client("s3"), empty.client("ec2"), empty.client("iam")
    [rule] = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    subnets = ec2.describe_subnets(SubnetIds=empty.settings["subnets"])["Subnets"]
    assert {one["MapPublicIpOnLaunch"] for one in subnets} == {True}
    [endpoint] = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-2.s3"
    [group] = ec2.describe_security_groups(GroupIds=empty.settings["security_groups"])["SecurityGroups"]
    assert [pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]] == [
        group["GroupId"]
    ]
    assert iam.get_role(RoleName="AWSServiceRoleForEC2Spot")["Role"]["Path"].startswith("/aws-service-role/")
    done = provision("iam", "--diff", "--role", "provision-control-gpu-jobs")
    assert done.code == 0, done.out


@pytest.mark.usefixtures("empty")
def test_other_commands_before_setup_name_it(provision: Provision) -> None:
    done = provision("runs")
    assert done.code == exits.INVALID
    assert "no `bucket` and `subnets`: run `provision setup`" in done.err


def test_second_setup_changes_nothing_and_finds_no_drift(empty: Empty, provision: Provision) -> None:
    provision("setup")
    before = empty.path.read_text()
    done = provision("setup")
    assert (done.code, done.out, empty.path.read_text()) == (0, b"", before)
    assert "the stack is up to date" in done.err


def test_setup_with_the_printed_rights_alone_makes_updates_and_deletes_everything(
    empty: Empty, provision: Provision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the command, and of CloudFormation on behalf of its login, is allowed."""
    document = json.loads(provision("setup", "--print-policy").out)
    for name, value in empty.double.person_environment(document).items():
        monkeypatch.setenv(name, value)
    assert "this region has no such VPC" in provision("setup", "--vpc", "default").err
    assert provision("setup").code == 0
    empty.put("[profiles]\nresearch = 'provision-research'\n")
    document = json.loads(provision("setup", "--print-policy").out)
    for name, value in empty.double.person_environment(document).items():
        monkeypatch.setenv(name, value)
    for words in ((), (), ("--delete", "--yes")):
        done = provision("setup", *words)
        assert done.code == 0, done.err
    made = {(call.service, xform_name(call.action)) for call in empty.double.calls.every}
    assert adapters_calls() - made == set()


def adapters_calls() -> set[tuple[str, str]]:
    """Return the service and operation of every AWS call of setup's adapters, from their syntax trees."""
    found = set()
    for path in (Path(wiring.__file__).parent / "adapters" / "stack").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            words = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if ast.unparse(node.func) == "self._call":
                found.add(("cloudformation", str(words[0])))
            elif len(words) > 1 and words[0] in ("cloudformation", "ec2", "iam", "s3", "sts"):
                found.add((str(words[0]), str(words[1])))
    return found


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("iam", "create_role", {"RoleName": "other", "AssumeRolePolicyDocument": "{}"}),
        ("iam", "put_role_policy", {"RoleName": "other", "PolicyName": "p", "PolicyDocument": "{}"}),
        ("iam", "create_policy", {"PolicyName": "other", "PolicyDocument": "{}"}),
        ("iam", "create_service_linked_role", {"AWSServiceName": "ecs.amazonaws.com"}),
        ("s3", "delete_bucket", {"Bucket": "other"}),
        ("s3", "put_object", {"Bucket": BUCKET, "Key": "x"}),
        ("cloudformation", "delete_stack", {"StackName": "other"}),
        ("ec2", "create_placement_group", {"GroupName": "other", "Strategy": "cluster"}),
    ],
)
def test_printed_rights_allow_nothing_else(
    empty: Empty,
    provision: Provision,
    monkeypatch: pytest.MonkeyPatch,
    service: str,
    operation: str,
    parameters: dict[str, Any],
) -> None:
    document = json.loads(provision("setup", "--print-policy").out)
    for name, value in empty.double.person_environment(document).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClientError, match=r"AccessDenied|UnauthorizedOperation"):
        getattr(empty.client(service), operation)(**parameters)


def test_denied_call_names_the_policy_that_allows_it(
    empty: Empty, provision: Provision, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"Version": "2012-10-17", "Statement": []}
    for name, value in empty.double.person_environment(nothing).items():
        monkeypatch.setenv(name, value)
    done = provision("setup")
    assert done.code == exits.CLOUD
    assert "cloudformation describe_stacks is denied" in done.err
    assert "provision setup --print-policy" in done.err


def test_values_that_the_user_set_are_kept_and_reported(empty: Empty, provision: Provision) -> None:
    empty.put("security_groups = []\ninstance_profile = 'mine'\n")
    done = provision("setup")
    assert done.code == 0
    assert empty.settings["security_groups"] == []
    assert empty.settings["instance_profile"] == "mine"
    assert "security_groups stays as it is set; the stack has security_groups = [" in done.err
    assert empty.client("iam").get_instance_profile(InstanceProfileName="mine")


def test_new_profile_of_an_owner_gets_a_role_and_a_group_in_the_next_setup(empty: Empty, provision: Provision) -> None:
    provision("setup")
    empty.put("[profiles]\nresearch = 'provision-research'\n[profile_roles]\nprovision-research = 'team/research'\n")
    done = provision("setup")
    assert done.code == 0, done.err
    [group] = empty.settings["profile_security_groups"]["provision-research"]
    assert group not in empty.settings["security_groups"]
    assert empty.client("iam").get_role(RoleName="research")["Role"]["Path"] == "/team/"
    assert empty.status() == "UPDATE_COMPLETE"
    # The role of the others is the same as before.
    assert "AWS::S3::Bucket" not in empty.events("UPDATE_COMPLETE")


def test_existing_vpc_and_bucket_are_used_and_left_alone(empty: Empty, provision: Provision) -> None:
    ec2 = empty.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ids = []
    for number, zone in enumerate("aab"):
        block = f"10.0.{number}.0/24" if number else "10.0.16.0/20"
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=f"us-east-2{zone}")["Subnet"]
        ids.append(subnet["SubnetId"])
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet["SubnetId"])
    # This one has no route to the internet.
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.9.0/24", AvailabilityZone="us-east-2c")
    empty.client("s3").create_bucket(Bucket="ours", CreateBucketConfiguration={"LocationConstraint": "us-east-2"})
    empty.put("bucket = 'ours/jobs'\n")
    done = provision("setup", "--vpc", vpc)
    assert done.code == 0, done.err
    # One subnet in each zone, the one with more addresses.
    assert empty.settings["subnets"] == [ids[0], ids[2]]
    assert empty.settings["bucket"] == "ours/jobs"
    [endpoint] = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["RouteTableIds"] == [table]
    # The endpoint is the stack's own, so the next setup keeps it.
    assert "up to date" in provision("setup").err
    assert provision("setup", "--delete", "--yes").code == 0
    assert len(ec2.describe_subnets()["Subnets"]) == 4
    assert "subnets" in empty.settings
    empty.client("s3").head_bucket(Bucket="ours")


def test_vpc_that_does_not_exist_or_has_no_way_out_is_refused(empty: Empty, provision: Provision) -> None:
    done = provision("setup", "--vpc", "default")
    assert (done.code, "--vpc default: this region has no such VPC" in done.err) == (exits.CLOUD, True)
    vpc = empty.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    empty.client("ec2").create_subnet(VpcId=vpc, CidrBlock="10.0.9.0/24")
    done = provision("setup", "--vpc", vpc)
    assert (done.code, "no subnet has a route to the internet" in done.err) == (exits.INVALID, True)


def test_sso_profile_gets_a_policy_in_place_of_a_role_and_is_remembered(
    empty: Empty, provision: Provision, home: Path
) -> None:
    done = provision("setup", "--sso-profile", "dev")
    assert (done.code, "profiles: none" in done.err) == (exits.INVALID, True)
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text("[profile dev]\nsso_role_name = Engineer\nsso_account_id = 123456789012\n")
    done = provision("setup", "--sso-profile", "dev")
    assert done.code == 0, done.err
    assert "policy provision-control-gpu-jobs to the permission set Engineer" in done.err
    with pytest.raises(Exception, match="NoSuchEntity"):
        empty.client("iam").get_role(RoleName="provision-control-gpu-jobs")
    assert "up to date" in provision("setup").err


def test_delete_gives_everything_back_and_setup_can_be_run_again(empty: Empty, provision: Provision) -> None:
    before = empty.settings
    provision("setup")
    done = provision("setup", "--delete", "--yes")
    assert done.code == 0, done.err
    assert empty.settings == {**before, "instance_profile": "provision-machine"}
    assert empty.double.account.subnets == {}
    with pytest.raises(Exception, match="404"):
        empty.client("s3").head_bucket(Bucket=BUCKET)
    # The account's role for spot machines stays.
    assert empty.client("iam").get_role(RoleName="AWSServiceRoleForEC2Spot")
    assert provision("setup", "--delete", "--yes").last_line == "there is no stack of this installation"
    assert provision("setup").code == 0


def test_delete_keeps_a_bucket_that_is_not_empty(empty: Empty, provision: Provision) -> None:
    provision("setup")
    empty.client("s3").put_object(Bucket=BUCKET, Key="runs/1/log", Body=b"x")
    done = provision("setup", "--delete", "--yes")
    assert done.code == 0
    assert f"the bucket {BUCKET} is not empty: it is kept" in done.err
    assert empty.settings["bucket"] == BUCKET
    assert provision("setup").code == 0
    assert empty.double.account.objects(BUCKET) == {"runs/1/log": b"x"}


def test_delete_is_refused_while_a_machine_is_alive(empty: Empty, provision: Provision, tmp_path: Path) -> None:
    provision("setup")
    recipe = tmp_path / "job.yaml"
    spec = {"name": "long", "image": "any", "instance_type": "g5.xlarge", "command": "true"}
    recipe.write_text(json.dumps({"type": "job", "spec": spec}))
    provision("apply", str(recipe))
    provision("start", "long", "--detach")
    with closing(wiring.service(load(str(empty.path)))) as service:
        service.operator.drive(lambda: bool(empty.double.alive()))
    done = provision("setup", "--delete", "--yes")
    assert done.code == exits.CONFLICT
    assert "the installation is in use: machine i-" in done.err
    assert "runs that are not done" in done.err
    # Another computer does not have the store.
    empty.path.write_text(empty.path.read_text().replace("store.db", "other.db"))
    done = provision("setup", "--delete", "--yes")
    assert (done.code, "machine i-" in done.err) == (exits.CONFLICT, True)
    assert empty.status() == "CREATE_COMPLETE"


@pytest.mark.usefixtures("empty")
def test_delete_asks_first(provision: Provision) -> None:
    provision("setup")
    done = provision("setup", "--delete")
    assert done.code == exits.INVALID
    assert "add --yes" in done.err
