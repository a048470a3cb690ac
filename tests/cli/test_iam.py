"""The command `iam`: the policies for the settings, and how the account's differ."""

import json

import boto3
import pytest

from provisioner.rehearsal.aws.account import CONTROL_ROLE, PROFILE
from tests.cli.conftest import HERE, Provision
from tests.e2e.rig import Rig

pytestmark = [HERE, pytest.mark.usefixtures("whole")]


@pytest.fixture
def administrator(whole: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test the administrator's login."""
    for name, value in whole.double.administrator_environment().items():
        monkeypatch.setenv(name, value)


def test_iam_prints_the_policies_that_the_double_enforces(whole: Rig, provision: Provision) -> None:
    """One policy alone can be given to AWS as it is."""
    done = provision("iam")
    assert (done.code, json.loads(done.out)) == (0, whole.double.policies)
    for name, policy in whole.double.policies.items():
        assert json.loads(provision("iam", name).out) == policy


@pytest.mark.usefixtures("administrator")
def test_iam_diff_of_an_account_as_it_should_be_ends_with_0(provision: Provision) -> None:
    done = provision("iam", "--diff", "--role", CONTROL_ROLE)
    assert done.code == 0
    assert done.out.decode().splitlines() == [
        f"control: role {CONTROL_ROLE}: as the settings need it",
        f"machine: role {PROFILE}: as the settings need it",
        f"trust: role {PROFILE}: as the settings need it",
    ]


@pytest.mark.usefixtures("administrator")
def test_iam_diff_reports_resources_of_another_installation(provision: Provision) -> None:
    """They stay when the policies are applied, because the control plane may not delete them."""
    # Not the default session, which may have the credentials of another test.
    ec2 = boto3.Session().client("ec2")
    tagged = [{"ResourceType": "placement-group", "Tags": [{"Key": "provision:installation", "Value": "old"}]}]
    ec2.create_placement_group(GroupName="old", Strategy="cluster", TagSpecifications=tagged)  # type: ignore[arg-type]
    done = provision("iam", "trust", "--diff")
    ec2.delete_placement_group(GroupName="old")
    assert done.code == 0
    assert "may not delete resources of the installation 'old': 1 placement-group" in done.err


@pytest.mark.usefixtures("administrator")
def test_iam_diff_shows_what_differs_and_ends_with_1(whole: Rig, provision: Provision) -> None:
    machine = whole.double.policies["machine"]
    statements = [one for one in machine["Statement"] if one["Sid"] != "FetchAgent"]
    whole.double.account.set_policy(PROFILE, {**machine, "Statement": statements})
    try:
        done = provision("iam", "machine", "--diff")
        [found] = json.loads(provision("iam", "machine", "--diff", "--json").out)
    finally:
        whole.double.account.set_policy(PROFILE, machine)
    assert done.code == 1
    assert done.out.decode().splitlines()[:4] == [
        f"machine: role {PROFILE}",
        "+{",
        '+  "Sid": "FetchAgent",',
        '+  "Action": [',
    ]
    assert (found["policy"], found["role"]) == ("machine", PROFILE)
    assert found["lines"] == done.out.decode().splitlines()[1:]


def test_iam_role_without_diff_is_a_usage_error(provision: Provision) -> None:
    done = provision("iam", "--role", "x")
    assert done.code != 0
    assert "is only for --diff" in done.err
