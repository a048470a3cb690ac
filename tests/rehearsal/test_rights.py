"""A machine's rights come from policy files: the project's and the job owner's."""

import json
import shutil
from pathlib import Path

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
    for name in ("control.json", "machine.json", "trust.json"):
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


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_policies_hold_in_other_partitions(up: Raise, region: str) -> None:
    """With `arn:aws:` in its policies, the control plane could do nothing there."""
    rig = up(region=region)
    template(rig)
    assert status(lambda: fleet(rig)) == 200
    assert attempt(rig, "put", f"machines/{box(rig)}/result") == 200
    assert attempt(rig, "put", f"machines/{box(rig, OTHER)}/result") == 403
    assert status(lambda: rig.client("iam").get_instance_profile(InstanceProfileName="provision-machine")) == 200
