"""A machine may do exactly what `config/iam/machine.json` allows."""

from collections.abc import Iterator

import pytest

from provisioner.rehearsal.double import Double
from provisioner.rehearsal.scenario import Scenario
from tests.rehearsal.conftest import Rig
from tests.rehearsal.rights import ME, OTHER, attempt, box, status
from tests.support.fleets import launch
from tests.support.hosts import IdleHost

#: A machine whose mailbox stays empty.
NEW = "i-0cccccccccccccccc3"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """Yield one double for all tests here; no test leaves data that another test could see."""
    host = IdleHost()
    with Double(Scenario(), host) as double:
        yield Rig(double, host)


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("get", "machines/{me}/work"),
        ("get", "machines/{me}/orders"),
        ("get", "machines/{me}/peers"),
        ("get", "machines/{me}/started"),
        ("put", "machines/{me}/started"),
        ("put", "machines/{me}/result"),
        ("put", "machines/{me}/log/output/000000000000000"),
        ("put", "inbox/{me}/0000000001"),
        ("get", "agent/abc.zip"),
        # Keys that no version uses yet: a policy that an operator installs now need not change with the next versions.
        ("get", "machines/{me}/work/2"),
        ("get", "machines/{me}/orders/2"),
        ("get", "machines/{me}/started/2"),
        ("get", "machines/{me}/chunks/7"),
        ("get", "machines/{me}/workdir"),
        ("put", "machines/{me}/started/2"),
        ("put", "machines/{me}/result/2"),
        ("put", "machines/{me}/log/2/output/000000000000000"),
        ("put", "machines/{me}/outputs/2/report.html"),
    ],
)
def test_a_machine_may_do_its_work(rig: Rig, method: str, key: str) -> None:
    """Every request of an agent is allowed, also those that later versions will make."""
    assert attempt(rig, method, key.format(me=box(rig))) == 200


@pytest.mark.parametrize(
    ("method", "key"),
    [
        ("get", "machines/{other}/work"),
        ("get", "machines/{me}/log/output/000000000000000"),
        ("get", "inbox/{me}/0000000001"),
        ("get", "runs/1/log/output"),
        ("get", "installation.json"),
        ("get", "uploads/1/000000"),
        ("put", "uploads/1/000000"),
        ("put", "machines/{me}/work"),
        ("put", "machines/{me}/orders"),
        ("put", "machines/{me}/work/2"),
        ("put", "machines/{me}/chunks/7"),
        ("put", "machines/{me}/workdir"),
        ("put", "machines/{me}/peers"),
        ("get", "machines/{other}/work/2"),
        ("put", "machines/{other}/outputs/2/report.html"),
        ("put", "machines/{other}/result"),
        ("put", "machines/{other}/log/output/000000000000000"),
        ("put", "inbox/{other}/0000000001"),
        ("put", "agent/abc.zip"),
        ("put", "runs/1/log/output"),
        ("delete", "machines/{me}/work"),
    ],
)
def test_a_machine_may_do_nothing_else(rig: Rig, method: str, key: str) -> None:
    """Access to another machine's objects and to the archive, and writes to the machine's own orders, are refused."""
    assert attempt(rig, method, key.format(me=box(rig), other=box(rig, OTHER))) == 403


def test_a_machine_lists_nothing_and_rents_nothing(rig: Rig) -> None:
    """Listings, copies of unreadable objects, and EC2 calls are refused."""
    bucket, s3 = rig.double.bucket, rig.client("s3", ME)
    rig.client("s3").put_object(Bucket=bucket, Key="runs/1/x", Body=b"x")
    target = f"machines/{box(rig)}/result"
    source = {"Bucket": bucket, "Key": "runs/1/x"}
    assert status(lambda: s3.list_objects_v2(Bucket=bucket)) == 403
    assert status(lambda: s3.copy_object(Bucket=bucket, Key=target, CopySource=source)) == 403
    assert status(lambda: rig.client("ec2", ME).describe_instances()) == 403
    (other,) = launch(rig)
    assert status(lambda: rig.client("ec2", ME).terminate_instances(InstanceIds=[other])) == 403


def test_missing_key_is_403_without_the_right_to_list(rig: Rig) -> None:
    """For a missing key a machine gets 403; the control plane, which may list, gets 404."""
    call = {"Bucket": rig.double.bucket, "Key": f"machines/{box(rig, NEW)}/work"}
    assert status(lambda: rig.client("s3", NEW).get_object(**call)) == 403
    assert status(lambda: rig.client("s3").get_object(**call)) == 404
