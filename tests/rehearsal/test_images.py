"""The double's AMIs as EC2 would have them, seen through boto3: failed, pending, in use."""

import pytest
from botocore.exceptions import ClientError

from tests.rehearsal.conftest import Raise, Rig
from tests.support.fleets import fleet, tags, template

TAGS = [tags(kind, "rehearsal") for kind in ("image", "snapshot")]


def launched(rig: Rig) -> str:
    """Launch a machine; return its id when it runs."""
    template(rig)
    id: str = fleet(rig)["Instances"][0]["InstanceIds"][0]
    rig.client("ec2").get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 0})
    return id


def test_failed_capture_gives_a_failed_ami(up: Raise, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has the reason in EC2's form; the machine keeps running."""
    rig = up()

    def capture(_machine: str, _image: str) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(rig.host, "capture", capture)
    machine, ec2 = launched(rig), rig.client("ec2")
    made = ec2.create_image(InstanceId=machine, Name="first", TagSpecifications=TAGS)["ImageId"]
    while (image := ec2.describe_images(ImageIds=[made])["Images"][0])["State"] == "pending":
        pass
    assert image["State"] == "failed"
    assert image["StateReason"] == {"Code": "Client.InternalError", "Message": "no space left"}
    assert [one.id for one in rig.double.alive()] == [machine]


def test_a_snapshot_lasts_as_long_as_its_image(up: Raise) -> None:
    """A snapshot cannot be deleted while its image exists, and stays after the image is deregistered."""
    rig = up()
    machine, ec2 = launched(rig), rig.client("ec2")
    made = ec2.create_image(InstanceId=machine, Name="first", TagSpecifications=TAGS)["ImageId"]
    [snapshot] = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert snapshot["Description"] == f"Created by CreateImage({machine}) for {made}"
    with pytest.raises(ClientError, match=r"InvalidSnapshot\.InUse"):
        ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
    ec2.deregister_image(ImageId=made)
    with pytest.raises(ClientError, match=r"InvalidAMIID\.Unavailable"):
        ec2.describe_images(ImageIds=[made])
    ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
    assert rig.double.images() == ((), ())


def test_names_and_machines_are_checked(up: Raise) -> None:
    """The errors have EC2's codes."""
    rig = up()
    machine, ec2 = launched(rig), rig.client("ec2")
    ec2.create_image(InstanceId=machine, Name="first", TagSpecifications=TAGS)
    for name, code in (("first", "Duplicate"), ("x" * 129, "Malformed")):
        with pytest.raises(ClientError, match=rf"InvalidAMIName\.{code}"):
            ec2.create_image(InstanceId=machine, Name=name, TagSpecifications=TAGS)
    ec2.terminate_instances(InstanceIds=[machine])
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.create_image(InstanceId=machine, Name="second", TagSpecifications=TAGS)
