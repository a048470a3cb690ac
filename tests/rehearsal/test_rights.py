"""A machine's rights come from policy files: the project's and the job owner's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.rehearsal.conftest import Raise
from tests.rehearsal.rights import ME, OTHER, attempt, box, status
from tests.support.fleets import fleet, template

POLICIES = Path(__file__).parents[2] / "config" / "iam"


def test_the_owners_own_policy_opens_the_jobs_buckets(up: Raise) -> None:
    """Jobs may use the scenario's buckets unless the scenario has a policy."""
    rig = up({"buckets": {"my-bucket": {"in/x": "text"}}})
    s3 = rig.client("s3", ME)
    assert s3.get_object(Bucket="my-bucket", Key="in/x")["Body"].read() == b"text"
    assert status(lambda: s3.put_object(Bucket="my-bucket", Key="out/x", Body=b"")) == 200
    assert status(lambda: s3.get_object(Bucket="my-bucket", Key="none")) == 404


def test_a_scenario_may_narrow_the_jobs_rights(up: Raise) -> None:
    """The scenario's policy replaces the open one."""
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::my-bucket/in/*"}
    policy = {"Version": "2012-10-17", "Statement": [read]}
    rig = up({"buckets": {"my-bucket": {"in/x": "text"}}, "job_policy": policy})
    s3 = rig.client("s3", ME)
    assert status(lambda: s3.get_object(Bucket="my-bucket", Key="in/x")) == 200
    assert status(lambda: s3.put_object(Bucket="my-bucket", Key="out/x", Body=b"")) == 403


@pytest.mark.parametrize(
    ("sid", "method", "key"),
    [
        ("ReadOwnMailbox", "get", "machines/{other}/work"),
        ("WriteOwnMailbox", "put", "machines/{me}/work"),
        ("FetchAgent", "get", "runs/1/log/output"),
    ],
)
def test_widened_policy_statement_allows_the_request(
    up: Raise, tmp_path: Path, sid: str, method: str, key: str
) -> None:
    """The double reads the rights from the file: a wider statement there allows a request that was refused."""
    for name in ("control.json", "machine.json"):
        shutil.copy(POLICIES / name, tmp_path)
    document = json.loads((tmp_path / "machine.json").read_text())
    (found,) = [one for one in document["Statement"] if one["Sid"] == sid]
    found["Resource"] = "arn:aws:s3:::YOUR-BUCKET/*"
    (tmp_path / "machine.json").write_text(json.dumps(document))
    rig = up(policies=tmp_path)
    assert attempt(rig, method, key.format(me=box(rig), other=box(rig, OTHER))) == 200


def test_a_prefix_is_part_of_the_rights(up: Raise) -> None:
    """With a prefix the same rights hold below it, and none outside it."""
    rig = up(prefix="team/")
    assert attempt(rig, "put", f"team/machines/{box(rig)}/result") == 200
    assert attempt(rig, "put", f"machines/{box(rig)}/result") == 403


def test_the_control_plane_ends_tagged_machines_alone(up: Raise) -> None:
    """A machine without the installation's tag is foreign, and the policy forbids its termination."""
    rig = up()
    template(rig)
    mine = fleet(rig)["Instances"][0]["InstanceIds"]
    other = fleet(rig, "other", TagSpecifications=[])["Instances"][0]["InstanceIds"]
    ec2 = rig.client("ec2")
    assert status(lambda: ec2.terminate_instances(InstanceIds=other)) == 403
    assert status(lambda: ec2.terminate_instances(InstanceIds=mine)) == 200


def test_images_are_made_and_deleted_of_what_is_ours_alone(up: Raise) -> None:
    """Without the installation's tag a machine cannot be imaged, and images and snapshots cannot be deleted."""
    rig = up()
    template(rig)
    mine = fleet(rig)["Instances"][0]["InstanceIds"][0]
    other = fleet(rig, "other", TagSpecifications=[])["Instances"][0]["InstanceIds"][0]
    ec2 = rig.client("ec2")
    tags = [{"Key": "provision:installation", "Value": "x"}]
    tagged = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    assert status(lambda: ec2.create_image(InstanceId=other, Name="other's")) == 403
    ours = ec2.create_image(InstanceId=mine, Name="ours", TagSpecifications=tagged)["ImageId"]
    bare = ec2.create_image(InstanceId=mine, Name="bare")["ImageId"]
    assert status(lambda: ec2.deregister_image(ImageId=bare)) == 403
    assert status(lambda: ec2.deregister_image(ImageId=ours)) == 200
    by_image = {one["Description"].split()[-1]: one["SnapshotId"] for one in _snapshots(ec2)}
    assert status(lambda: ec2.delete_snapshot(SnapshotId=by_image[bare])) == 403
    assert status(lambda: ec2.delete_snapshot(SnapshotId=by_image[ours])) == 200
    assert [one["Description"].split()[-1] for one in _snapshots(ec2)] == [bare]


def _snapshots(ec2: Any) -> list[Any]:
    return list(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"])
