"""The double over HTTP, used through boto3."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from provisioner.rehearsal.aws.account import IMAGE_PARAMETERS, PROFILE
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.scenario import parse
from tests.polling import until
from tests.rehearsal.conftest import Raise, Rig
from tests.support.fleets import fleet, launch, template
from tests.support.hosts import IdleHost

TAG = "provision:installation"


def described(rig: Rig, **query: Any) -> dict[str, dict[str, Any]]:
    pages = rig.client("ec2").get_paginator("describe_instances").paginate(**query)
    return {one["InstanceId"]: one for page in pages for group in page["Reservations"] for one in group["Instances"]}


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as raised:
        call()
    return str(raised.value.response["Error"]["Code"])


def test_a_machine_from_launch_to_termination(up: Raise) -> None:
    """The machine is launched, described and booted with its user-data; it powers itself off and is terminated."""
    rig = up()
    (one,) = launch(rig)
    until(lambda: one in rig.host.guests, "its boot")
    guest = rig.host.guests[one]
    said = described(rig)[one]
    assert said["State"]["Name"] == "running"
    assert said["Tags"] == [{"Key": TAG, "Value": rig.double.installation}]
    assert (said["InstanceLifecycle"], said["Placement"]["AvailabilityZone"]) == ("spot", "us-east-1a")
    assert (guest.user_data, guest.zone, guest.market) == ("#!/bin/sh\n", "us-east-1a", "spot")
    assert int(guest.launch_time) == said["LaunchTime"].timestamp()
    output = rig.client("ec2").get_console_output(InstanceId=one)["Output"]
    assert output == f"console of {one}\n"
    rig.host.power_off[one]()
    until(lambda: not rig.double.alive(), "the end of all")
    said = described(rig)[one]
    assert said["State"]["Name"] == "terminated"
    assert said["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert [change.state.value for change in rig.double.history()[one]] == [
        "pending",
        "running",
        "shutting-down",
        "terminated",
    ]
    assert rig.double.calls.unimplemented == []


def test_client_tokens_are_kept(up: Raise) -> None:
    """A replay returns the same machines. A new request with the token, or a replay after the end, has EC2's error."""
    rig = up()
    first = launch(rig)
    again = fleet(rig)
    assert [one for group in again["Instances"] for one in group["InstanceIds"]] == first
    assert code_of(lambda: fleet(rig, count=2)) == "IdempotentParameterMismatch"
    rig.client("ec2").terminate_instances(InstanceIds=first)
    until(lambda: not rig.double.alive(), "the end of all")
    assert code_of(lambda: fleet(rig)) == "IdempotentInstanceTerminated"
    assert code_of(lambda: template(rig)) == "InvalidLaunchTemplateName.AlreadyExistsException"


def test_a_dry_offer_is_named_beside_the_machines(up: Raise) -> None:
    """A 200 has the launched machines and an error for each failed offer."""
    rig = up({"capacity": [{"zone": "us-east-1a", "machines": 1}, {"zone": "us-east-1b", "machines": 1}]})
    template(rig)
    answer = fleet(rig, count=3, zones="ab")
    assert sum(len(group["InstanceIds"]) for group in answer["Instances"]) == 2
    subnets = rig.double.account.subnets
    errors = {
        subnets[one["LaunchTemplateAndOverrides"]["Overrides"]["SubnetId"]]: one["ErrorCode"]
        for one in answer["Errors"]
    }
    assert errors == dict.fromkeys(("us-east-1a", "us-east-1b"), "InsufficientInstanceCapacity")


def test_listing_by_filter_and_by_page(up: Raise) -> None:
    """Filters and pages return every matching machine once."""
    rig = up()
    ids = launch(rig, count=12)
    assert set(described(rig, PaginationConfig={"PageSize": 5})) == set(ids)
    named = [
        {"Name": f"tag:{TAG}", "Values": ["rehears*"]},
        {"Name": "availability-zone", "Values": ["us-east-1a"]},
    ]
    assert set(described(rig, Filters=named)) == set(ids)
    assert described(rig, Filters=[{"Name": "instance-state-name", "Values": ["terminated"]}]) == {}
    assert described(rig, Filters=[{"Name": f"tag:{TAG}", "Values": ["other"]}]) == {}
    assert set(described(rig, InstanceIds=ids[:2])) == set(ids[:2])


def test_terminating_with_one_bad_id_ends_nobody(up: Raise) -> None:
    """A call with one unknown id fails completely. Without that id the call succeeds, also when it is repeated."""
    rig = up()
    ids = launch(rig, count=2)
    ec2 = rig.client("ec2")
    bad = [*ids, "i-0123456789abcdef0"]
    assert code_of(lambda: ec2.terminate_instances(InstanceIds=bad)) == "InvalidInstanceID.NotFound"
    assert len(rig.double.alive()) == 2
    for _ in range(2):
        answer = ec2.terminate_instances(InstanceIds=ids)
        assert {one["InstanceId"] for one in answer["TerminatingInstances"]} == set(ids)
    until(lambda: sorted(rig.host.ended) == sorted(ids), "their ends")


def test_a_new_machine_lags(up: Raise) -> None:
    """During the lag a new machine is in no list and NotFound by its id, though it runs."""
    rig = up({"lag": "1h"})
    (one,) = launch(rig)
    assert described(rig) == {}
    assert code_of(lambda: described(rig, InstanceIds=[one])) == "InvalidInstanceID.NotFound"
    assert [each.id for each in rig.double.alive()] == [one]


def test_an_interruption_is_noticed_and_done(up: Raise) -> None:
    """The spot machine ends by itself with the spot reason."""
    rig = up()
    (one,) = launch(rig)
    until(lambda: one in rig.host.guests, "its boot")
    rig.double.interrupt(one, notice=0.1)
    until(lambda: not rig.double.alive(), "the end of all")
    assert described(rig)[one]["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_spot_prices_come_from_the_scenario(up: Raise) -> None:
    """Only offers with a configured price have one."""
    rig = up({"prices": [{"market": "spot", "type": "g5.*", "zone": "us-east-1a", "dollars": 0.4321}]})
    ec2 = rig.client("ec2")
    history = ec2.describe_spot_price_history(InstanceTypes=["g5.xlarge", "g6.xlarge"])["SpotPriceHistory"]
    assert [(one["InstanceType"], one["AvailabilityZone"], one["SpotPrice"]) for one in history] == [
        ("g5.xlarge", "us-east-1a", "0.432100")
    ]


def test_ami_profile_types_and_subnets_exist(up: Raise) -> None:
    """moto provides image, profile, types, offerings and subnets."""
    rig = up()
    ec2 = rig.client("ec2")
    image = rig.client("ssm").get_parameter(Name=IMAGE_PARAMETERS[0])["Parameter"]["Value"]
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["RootDeviceName"]
    profile = rig.client("iam").get_instance_profile(InstanceProfileName=PROFILE)["InstanceProfile"]
    assert profile["Roles"][0]["RoleId"] == rig.double.account.role_id
    assert ec2.describe_instance_types(InstanceTypes=["g5.xlarge"])["InstanceTypes"][0]["GpuInfo"]
    assert len(ec2.describe_subnets()["Subnets"]) == len(rig.double.account.subnets)
    wanted = [{"Name": "instance-type", "Values": ["g5.xlarge"]}]
    offered = ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=wanted)
    assert offered["InstanceTypeOfferings"]
    missing = ec2.get_paginator("describe_instance_types").paginate(
        Filters=[{"Name": "instance-type", "Values": ["g99.xlarge"]}]
    )
    assert [one for page in missing for one in page["InstanceTypes"]] == []


@pytest.mark.parametrize(
    "call",
    [
        lambda rig: rig.client("ec2").stop_instances(InstanceIds=["i-0123456789abcdef0"]),
        lambda rig: rig.client("ec2").describe_nat_gateways(),
        lambda rig: rig.client("pricing").describe_services(),
        lambda rig: rig.client("s3").put_bucket_versioning(
            Bucket="any-bucket", VersioningConfiguration={"Status": "Enabled"}
        ),
        lambda rig: described(rig, Filters=[{"Name": "client-token", "Values": ["x"]}, {"Name": "vpc-id"}]),
    ],
)
def test_unsupported_call_is_an_error_and_recorded(up: Raise, call: Callable[[Rig], Any]) -> None:
    """An unsupported call is an error that names it, and is recorded."""
    rig = up()
    launch(rig)
    assert code_of(lambda: call(rig)) == "NotImplemented"
    assert len(rig.double.calls.unimplemented) == 1


def test_a_forged_signature_is_refused(up: Raise) -> None:
    """A request signed with a wrong secret key is rejected by every service."""
    rig = up()

    for service, call in (("s3", "list_buckets"), ("ec2", "describe_instances")):
        client = rig.client(service, secret="wrong")
        assert code_of(getattr(client, call)) == "SignatureDoesNotMatch"


def test_s3_objects_round_trip(up: Raise) -> None:
    """Covers odd keys, binary bodies, conditions, copies and listings."""
    rig = up({"buckets": {"my-bucket": {"in/demo.json": "text"}}})
    s3, bucket = rig.client("s3"), rig.double.bucket
    body = bytes(range(256)) * 5000
    s3.put_object(Bucket=bucket, Key="a b/ü+&:1", Body=body, IfNoneMatch="*")
    again = lambda: s3.put_object(Bucket=bucket, Key="a b/ü+&:1", Body=b"", IfNoneMatch="*")  # noqa: E731
    assert code_of(again) == "PreconditionFailed"
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/ü+&:1"})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body
    assert s3.head_object(Bucket=bucket, Key="copy")["ContentLength"] == len(body)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü+&:1", "copy"]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}, {"Key": "none"}]})
    assert code_of(lambda: s3.get_object(Bucket=bucket, Key="copy")) == "NoSuchKey"


def test_faults_before_and_after_the_deed(up: Raise) -> None:
    """A fault before the call prevents its effect; a fault after it loses only the answer. Then calls work again."""
    rig = up()
    template(rig)
    add = rig.double.faults.add
    add(Rule(Effect.ERROR, action="CreateFleet", code="InsufficientInstanceCapacity", times=1))
    assert code_of(lambda: fleet(rig)) == "InsufficientInstanceCapacity"
    add(Rule(Effect.RESET, action="CreateFleet", times=1))
    with pytest.raises(ConnectionClosedError):
        fleet(rig)
    assert rig.double.alive() == []
    add(Rule(Effect.RESET, When.AFTER, action="CreateFleet", times=1))
    with pytest.raises(ConnectionClosedError):
        fleet(rig)
    assert len(rig.double.alive()) == 1
    add(Rule(Effect.HANG, service="s3", resource="*/slow", seconds=20, times=1))
    with pytest.raises(ReadTimeoutError):
        rig.client("s3", patience=0.5).put_object(Bucket=rig.double.bucket, Key="slow", Body=b"")
    assert len(fleet(rig)["Instances"]) == 1, "the replay of the lost answer"
    assert len(rig.double.alive()) == 1


def test_a_lost_refusal(up: Raise) -> None:
    """An error answer can be lost too."""
    rig = up()
    rig.double.faults.add(Rule(Effect.RESET, When.AFTER, action="GetObject", times=1))
    call = {"Bucket": rig.double.bucket, "Key": "none"}
    with pytest.raises(ConnectionClosedError):
        rig.client("s3").get_object(**call)
    assert code_of(lambda: rig.client("s3").get_object(**call)) == "NoSuchKey"


def test_the_log_of_calls(up: Raise) -> None:
    """Each call is logged with its principal and its subject."""
    rig = up()
    launch(rig)
    rig.client("s3").put_object(Bucket=rig.double.bucket, Key="x", Body=b"")
    log = [(call.principal, str(call)) for call in rig.double.calls.every]
    assert log == [
        ("control", "ec2:CreateLaunchTemplate template"),
        ("control", "ec2:CreateFleet token"),
        ("control", f"s3:PutObject {rig.double.bucket}/x"),
    ]
    assert rig.double.calls.of(action="CreateFleet")[0].parameters["Type"] == "instant"


def test_a_taken_port_is_an_error(up: Raise) -> None:
    """A port in use is an error, and everything started before is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        up(port=taken.getsockname()[1])
    up()


def test_nothing_is_left_after_the_double() -> None:
    """No thread and no open port is left."""
    before = set(threading.enumerate())
    with Double(parse({}), IdleHost()) as double:
        port = int(double.url.rpartition(":")[2])
    until(lambda: set(threading.enumerate()) <= before, "the end of all threads")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_only_one_double_a_process(up: Raise) -> None:
    """A second double in a process is an error with a remedy, since both would change the same account."""
    up()
    with pytest.raises(RuntimeError, match="start this one in a separate process"):
        up()
