"""The EC2 adapter's requests, and how it reports failures on the wire."""

import base64
import dataclasses
import datetime as dt
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from provisioner.adapters import aws
from provisioner.adapters.ec2 import cloud as module
from provisioner.adapters.ec2 import launching, listing
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.ec2.codes import translate
from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double

TYPE = "g5.xlarge"
ZONES = ("us-east-1a", "us-east-1b")


@pytest.fixture
def ec2(double: Double) -> Iterator[Ec2]:
    yield from adapter(double)


def adapter(double: Double, installation: str = "installation-1") -> Iterator[Ec2]:
    subnets = [subnet for subnet, zone in double.account.subnets.items() if zone in ZONES]
    made = Ec2(installation, aws.Session(double.region), subnets, calls=aws.Calls(translate, first_wait=0))
    yield made
    made.close()


@pytest.fixture
def request_(double: Double) -> LaunchRequest:
    return LaunchRequest(
        token="launch-1",
        template=Template(
            image=Image(double.account.image_id, "/dev/xvda", "x86_64"),
            profile_arn=double.account.profile_arn,
            security_groups=("sg-1", "sg-2"),
            disk_gib=80,
            user_data="#!/bin/sh\necho ü\n",
        ),
        market=Market.SPOT,
        offers=tuple(Offer(Market.SPOT, TYPE, zone) for zone in ZONES),
        subnets={zone: subnet for subnet, zone in double.account.subnets.items()},
        count=1,
        tags={"provision:owner": "ada"},
    )


def fault(double: Double, action: str, effect: Effect = Effect.ERROR, **more: object) -> None:
    double.faults.add(Rule(effect, service="ec2", action=action, **more))  # type: ignore[arg-type]


def test_a_launch_is_one_call_once_its_template_is_known(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """The first launch takes two calls and the next takes one; a second process finds the existing template."""

    def cost(cloud: Ec2, token: str) -> list[str]:
        before = len(double.calls.every)
        assert cloud.launch(dataclasses.replace(request_, token=token)).machines
        return [call.action for call in double.calls.every[before:]]

    assert cost(ec2, "launch-1") == ["CreateLaunchTemplate", "CreateFleet"]
    assert cost(ec2, "launch-2") == ["CreateFleet"]
    for other in adapter(double):
        assert cost(other, "launch-3") == ["CreateLaunchTemplate", "CreateFleet"]


@pytest.mark.parametrize(("throughput", "iops"), [(125, 3000), (750, 3000), (751, 3004), (1000, 4000)])
def test_a_fast_disk_has_the_iops_it_needs(
    double: Double, ec2: Ec2, request_: LaunchRequest, throughput: int, iops: int
) -> None:
    """EC2 refuses more than 0.25 MiB/s of throughput for each of gp3's IOPS."""
    template = dataclasses.replace(request_.template, disk_throughput=throughput)
    assert ec2.launch(dataclasses.replace(request_, template=template)).machines
    (call,) = double.calls.of(action="CreateLaunchTemplate")
    (disk,) = call.parameters["LaunchTemplateData"]["BlockDeviceMappings"]
    assert (disk["Ebs"]["Throughput"], disk["Ebs"]["Iops"]) == (throughput, iops)


def test_launch_template_sets_every_field_explicitly(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """Power-off terminates, disks go with their machine, IMDS tokens are required, reservations are not used."""
    ec2.launch(request_)
    (call,) = double.calls.of(action="CreateLaunchTemplate")
    data = call.parameters["LaunchTemplateData"]
    assert call.parameters["LaunchTemplateName"] == request_.template.name
    assert base64.b64decode(data.pop("UserData")).decode() == request_.template.user_data
    assert data == {
        "ImageId": double.account.image_id,
        "IamInstanceProfile": {"Arn": double.account.profile_arn},
        "SecurityGroupIds": ["sg-1", "sg-2"],
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80, "VolumeType": "gp3", "DeleteOnTermination": True}}
        ],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "CapacityReservationSpecification": {"CapacityReservationPreference": "none"},
        "MaintenanceOptions": {"AutoRecovery": "disabled"},
        "TagSpecifications": [
            {
                "ResourceType": "network-interface",
                "Tags": [{"Key": "provision:installation", "Value": "installation-1"}],
            }
        ],
    }


def test_create_fleet_tags_all_that_it_makes(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """The collectors find machines by their tags, and without the tags the call is denied."""
    ec2.launch(request_)
    (call,) = double.calls.of(action="CreateFleet")
    specifications = {one["ResourceType"]: one["Tags"] for one in call.parameters["TagSpecifications"]}
    assert specifications.keys() == {"fleet", "instance", "volume"}
    wanted = {"provision:installation": "installation-1", "provision:launch": "launch-1", "provision:owner": "ada"}
    for tags in specifications.values():
        assert {tag["Key"]: tag["Value"] for tag in tags} == wanted


def test_listing_omits_machines_of_other_installations(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """Machines of another installation in the same account are not listed, even with a launch of the same name."""
    ec2.launch(request_)
    for other in adapter(double, "installation-2"):
        assert other.machines().machines == other.machines_of("launch-1") == ()
    assert len(ec2.machines().machines) == len(ec2.machines_of("launch-1")) == 1
    assert ec2.machines().machines[0].tags[INSTALLATION_TAG] == "installation-1"


AFTER = {"when": When.AFTER}


@pytest.mark.parametrize(
    ("rule", "meaning"),
    [
        ({"effect": Effect.RESET}, errors.NoAnswer),
        ({"effect": Effect.RESET, **AFTER}, errors.NoAnswer),
        ({"effect": Effect.HANG, "seconds": 3600.0, **AFTER}, errors.NoAnswer),
        ({"effect": Effect.EMPTY}, errors.NoAnswer),
        ({"effect": Effect.EMPTY, **AFTER}, errors.NoAnswer),
        ({"code": "InternalError", "status": 500}, errors.NoAnswer),
        ({"code": "InternalError", "status": 500, **AFTER}, errors.NoAnswer),
        ({"code": "Unavailable", "status": 503}, errors.NoAnswer),
        ({"code": "NeverHeardOf", "status": 502}, errors.NoAnswer),
        ({"code": "InsufficientInstanceCapacity", "status": 500}, errors.NoCapacity),
        ({"code": "RequestLimitExceeded", "status": 503}, errors.Throttled),
        ({"code": "NeverHeardOf", "status": 429}, errors.Throttled),
        ({"code": "MaxSpotInstanceCountExceeded", "status": 400}, errors.QuotaExceeded),
        ({"code": "UnauthorizedOperation", "status": 403}, errors.Misconfigured),
        ({"code": "NeverHeardOf", "status": 400}, errors.Misconfigured),
        ({"code": "IdempotentParameterMismatch", "status": 400}, errors.Conflict),
        ({"code": "IdempotentInstanceTerminated", "status": 400}, errors.Conflict),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value.__name__,
)
def test_failed_launch_is_not_retried_and_raises_its_error_class(
    double: Double,
    ec2: Ec2,
    request_: LaunchRequest,
    monkeypatch: pytest.MonkeyPatch,
    rule: dict[str, object],
    meaning: type[errors.ProvisionError],
) -> None:
    """The adapter never repeats a launch. If machines may exist, it raises NoAnswer, and a replay finds them."""
    if rule.get("effect") is Effect.HANG:
        monkeypatch.setattr(module, "LAUNCH_TIMEOUT", 4.0)
    fault(double, "CreateFleet", times=1, **rule)  # type: ignore[arg-type]
    with pytest.raises(errors.ProvisionError) as raised:
        ec2.launch(request_)
    assert type(raised.value) is meaning
    assert len(double.calls.of(action="CreateFleet")) == 1
    done = len(double.alive())
    assert done == (rule.get("when") is When.AFTER)
    assert len(ec2.launch(request_).machines) == len(double.alive()) == 1


def test_a_deleted_template_is_made_again(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """A deleted template fails one launch, not every launch until a restart."""
    ec2.launch(request_)
    fault(double, "CreateFleet", code="InvalidLaunchTemplateName.NotFoundException", status=400, times=1)
    other = dataclasses.replace(request_, token="launch-2")
    with pytest.raises(errors.Transient):
        ec2.launch(other)
    assert ec2.launch(other).machines
    assert len(double.calls.of(action="CreateLaunchTemplate")) == 2


def test_nothing_is_launched_when_the_template_cannot_be_made(
    double: Double, ec2: Ec2, request_: LaunchRequest
) -> None:
    """Nothing was launched yet, so a lost answer about the template is Transient, not NoAnswer."""
    fault(double, "CreateLaunchTemplate", Effect.RESET)
    with pytest.raises(errors.Transient):
        ec2.launch(request_)
    assert not double.calls.of(action="CreateFleet")


def test_reading_outlasts_a_passing_fault(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """Throttling and broken connections are retried, with at most five tries in all."""
    ec2.launch(request_)
    fault(double, "DescribeInstances", Effect.RESET, times=1)
    fault(double, "DescribeInstances", code="RequestLimitExceeded", status=503, times=2)
    assert len(ec2.machines().machines) == 1
    assert len(double.calls.of(action="DescribeInstances")) == 4
    double.faults.clear()
    fault(double, "DescribeInstances", code="RequestLimitExceeded", status=503)
    with pytest.raises(errors.Throttled):
        ec2.machines()
    assert len(double.calls.of(action="DescribeInstances")) == 9


def test_a_partial_listing_is_an_error(
    double: Double, ec2: Ec2, request_: LaunchRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing has all pages or is an error, because a machine on a page that failed would look gone."""
    monkeypatch.setattr(module, "PAGE", 5)
    ec2.launch(dataclasses.replace(request_, count=12))
    assert len({machine.id for machine in ec2.machines().machines}) == 12
    assert len(double.calls.of(action="DescribeInstances")) == 3
    fault(double, "DescribeInstances", skip=2)
    with pytest.raises(errors.Transient):
        ec2.machines()


def test_empty_answer_is_an_error_and_no_empty_listing(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """An empty 200 must not make live machines look gone, and must not crash the parser."""
    (machine,) = ec2.launch(request_).machines
    fault(double, "*", Effect.EMPTY)
    for ask in (
        ec2.machines,
        lambda: ec2.machines_of(request_.token),
        lambda: ec2.machines_known([machine.instance_id]),
        lambda: ec2.impaired([machine.instance_id]),
        lambda: ec2.catalog([TYPE]),
        lambda: ec2.image(double.account.image_id),
        ec2.amis,
        ec2.placement_groups,
        lambda: ec2.delete_ami("ami-1"),
        lambda: ec2.create_ami(machine.instance_id, "name", {}),
    ):
        with pytest.raises(errors.Transient) as raised:
            ask()
        assert raised.value.code == aws.UNREADABLE


@pytest.mark.parametrize("missing", ["State", "InstanceId", "Placement", "LaunchTime"])
def test_machine_without_a_required_field_is_an_error(missing: str) -> None:
    """An incomplete answer raises a named error, not a KeyError."""
    instance = {
        "InstanceId": "i-1",
        "State": {"Name": "running"},
        "InstanceType": TYPE,
        "Placement": {"AvailabilityZone": ZONES[0]},
        "LaunchTime": dt.datetime.now(dt.UTC),
    }
    del instance[missing]
    with pytest.raises(errors.Transient), aws.reading("DescribeInstances"):
        list(listing.machines({"Reservations": [{"Instances": [instance]}]}))


@pytest.mark.parametrize(
    "response",
    [{}, {"FleetId": "fleet-1"}, {"Instances": [], "Errors": []}, {"Instances": [{}]}, {"Reservations": []}],
)
def test_unreadable_fleet_answer_raises_no_answer(request_: LaunchRequest, response: dict[str, Any]) -> None:
    """It is unknown whether machines exist, so the launch stays open and no lack of capacity is recorded."""
    with pytest.raises(errors.NoAnswer), aws.reading("CreateFleet", errors.NoAnswer):
        launching.answer(request_, response)


def test_error_without_a_code_refuses_no_run(request_: LaunchRequest) -> None:
    """A missing error code says nothing about the recipe."""
    (refusal,) = launching.answer(request_, {"Errors": [{"ErrorMessage": "?"}]}).refusals
    assert isinstance(refusal.error, errors.Transient)


def test_machines_of_other_zones_are_listed_while_one_zone_fails(
    double: Double, ec2: Ec2, request_: LaunchRequest
) -> None:
    """While calls that touch one zone fail, machines of the other zones are listed and terminated."""
    for place, offer in enumerate(request_.offers):
        ec2.launch(dataclasses.replace(request_, token=f"launch-{place}", offers=(offer,), count=2))
    zone = {machine.id: machine.offer.zone for machine in ec2.machines().machines}
    healthy = {one for one in zone if zone[one] == ZONES[1]}
    for one in zone.keys() - healthy:
        fault(double, "*Instances", code="InternalError", status=500, resource=f"*{one}*")
    # While a zone is broken, a call that names no machine fails too.
    fault(double, "DescribeInstances", code="InternalError", status=500, resource="")
    with pytest.raises(errors.Transient):
        ec2.machines()
    assert {machine.id for machine in ec2.machines_known(zone).machines} == healthy
    refused = ec2.terminate(zone)
    assert refused.keys() == zone.keys() - healthy
    assert {type(error) for error in refused.values()} == {errors.Transient}
    with pytest.raises(errors.Transient):
        ec2.machines_known(zone.keys() - healthy)


def test_an_older_machine_has_no_latest_console(double: Double, ec2: Ec2, request_: LaunchRequest) -> None:
    """If EC2 has no latest output for the instance type, the output from the boot is returned."""
    (machine,) = ec2.launch(request_).machines
    fault(double, "GetConsoleOutput", code="UnsupportedOperation", status=400, times=1)
    assert ec2.console(machine.instance_id) == "booted\n"


def test_an_image_by_parameter(double: Double, ec2: Ec2) -> None:
    """`ssm:` with the path of a public parameter resolves to the AMI that the parameter names today."""
    path = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    assert ec2.image(f"ssm:{path}").id == double.account.image_id


def test_missing_ami_parameter_or_profile_raises_ec2s_code(ec2: Ec2) -> None:
    """A wrong AMI, parameter or profile is permanent; the error has EC2's code."""
    for ask, name in ((ec2.image, "ami-0123456789abcdef0"), (ec2.image, "ssm:/no/such"), (ec2.profile, "nobody")):
        with pytest.raises(errors.Misconfigured) as raised:
            ask(name)
        assert raised.value.code


def test_one_subnet_a_zone(double: Double) -> None:
    """Two subnets in one zone are refused when the settings' subnets are read, not at every fleet."""
    subnet = next(iter(double.account.subnets))
    with pytest.raises(errors.Misconfigured):
        Ec2("installation-1", aws.Session(double.region), [subnet, subnet]).catalog([TYPE])


def test_threads_share_the_adapter(ec2: Ec2, request_: LaunchRequest) -> None:
    """The first calls may come from many threads at once."""

    def launch(place: int) -> int:
        return len(ec2.launch(dataclasses.replace(request_, token=f"launch-{place}")).machines)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(launch, range(16))) == [1] * 16
    assert len(ec2.machines().machines) == 16


def test_launch_without_a_connection_is_transient(request_: LaunchRequest) -> None:
    """Without a connection nothing can have been launched."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        cloud = Ec2("i", aws.Session("us-east-1", url), ["subnet-1"], calls=aws.Calls(translate, attempts=1))
        cloud.known_templates.add(request_.template.name)
        with pytest.raises(errors.Transient) as raised:
            cloud.launch(request_)
    assert raised.value.code == "EndpointConnectionError"


def test_missing_credentials_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the error names the ways to provide them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(errors.NeedsOperator, match="AWS_PROFILE"):
        Ec2("i", aws.Session("us-east-1", "http://127.0.0.1:9"), ["subnet-1"]).machines()


@pytest.mark.parametrize("endpoint", ["http://my_minio:9000", "http://a b"])
def test_endpoint_that_the_sdk_does_not_take_is_named(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Container names may have a `_`; the SDK rejects it with an exception of its own, "Invalid endpoint"."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with pytest.raises(errors.Invalid, match=endpoint):
        Ec2("i", aws.Session("us-east-1", endpoint), ["subnet-1"]).machines()


def test_parameter_validation_error_is_misconfigured(ec2: Ec2, request_: LaunchRequest) -> None:
    """A request that botocore rejects before sending is shown and not retried."""
    with pytest.raises(errors.Misconfigured, match="ParamValidationError"):
        ec2.launch(dataclasses.replace(request_, count="many"))  # type: ignore[arg-type]
