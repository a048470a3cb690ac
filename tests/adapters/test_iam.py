"""The policies of roles, read from the account and compared with those of the settings."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import moto.backends
import pytest

from provisioner.adapters import aws
from provisioner.adapters.iam import Iam
from provisioner.core.errors import Misconfigured
from provisioner.rehearsal.aws.account import CONTROL_ROLE, ID, PROFILE
from provisioner.rehearsal.double import Double

ROLES = {PROFILE: PROFILE}
OPEN = {"Sid": "KeepObjects", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}
STRANGE = {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}


@pytest.fixture
def account(double: Double, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return moto's IAM; the tests' login is the administrator's."""
    for name, value in double.administrator_environment().items():
        monkeypatch.setenv(name, value)
    return moto.backends.get_backend("iam")[ID]["aws"]


Differences = Callable[..., dict[tuple[str, str], list[str]]]


@pytest.fixture
def differences(double: Double) -> Iterator[Differences]:
    """Yield a function that returns the lines of each policy and role that differ."""
    session = aws.Session(double.region)
    iam = Iam(session, calls=aws.Calls(lambda code, message: Misconfigured(message, code), first_wait=0))

    def found(*names: str, control: str = CONTROL_ROLE, roles: dict[str, str] = ROLES) -> Any:
        wanted = {name: double.policies[name] for name in names or double.policies}
        return {(one.policy, one.role): list(one.lines) for one in iam.differences(wanted, roles, control) if one.lines}

    yield found
    session.close()


@pytest.mark.usefixtures("account")
def test_account_with_the_printed_policies_differs_in_nothing(differences: Differences) -> None:
    assert differences() == {}


def test_policy_of_an_earlier_version_differs_by_its_statements(
    double: Double, account: Any, differences: Differences
) -> None:
    """The lines show what a statement has beyond the settings' policy, and what it lacks."""
    document = double.policies["control"]
    kept = [one for one in document["Statement"] if one["Sid"] not in ("KeepObjects", "ListBucket")]
    account.put_role_policy(CONTROL_ROLE, "provision", json.dumps({**document, "Statement": [*kept, OPEN]}))
    lines = differences()[("control", CONTROL_ROLE)]
    assert '-    "s3:*"' in lines
    assert '+    "s3:GetObject",' in lines
    assert '+  "Sid": "ListBucket",' in lines


def test_right_from_another_policy_of_the_control_plane_is_shown(account: Any, differences: Differences) -> None:
    """Rights add up: with another policy beside it, the printed one limits nothing."""
    policy = account.create_policy("", "/", json.dumps({"Version": "2012-10-17", "Statement": STRANGE}), "wide", [])
    account.attach_role_policy(policy.arn, CONTROL_ROLE)
    assert '-    "ec2:*"' in differences()[("control", CONTROL_ROLE)]


def test_rights_of_jobs_are_no_difference(account: Any, differences: Differences) -> None:
    account.put_role_policy(PROFILE, "jobs", json.dumps({"Version": "2012-10-17", "Statement": [STRANGE]}))
    assert differences() == {}


def test_other_principal_that_may_assume_a_machines_role_is_shown(account: Any, differences: Differences) -> None:
    statement = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    account.update_assume_role_policy(PROFILE, json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    lines = differences("trust")[("trust", PROFILE)]
    assert '-      "lambda.amazonaws.com"' in lines
    assert '+      "ec2.amazonaws.com"' in lines


@pytest.mark.usefixtures("account")
def test_profile_with_another_role_names_the_setting(differences: Differences) -> None:
    with pytest.raises(Misconfigured, match=f'write `"{PROFILE}" = "{PROFILE}"` below \\[profile_roles\\]'):
        differences("machine", roles={PROFILE: "path/other"})


@pytest.mark.usefixtures("account")
def test_login_that_is_no_role_must_name_the_control_planes(differences: Differences) -> None:
    with pytest.raises(Misconfigured, match="is no role: name the control plane's role with --role"):
        differences("control", control="")


def test_control_planes_own_login_may_not_read_policies(differences: Differences) -> None:
    with pytest.raises(Misconfigured, match="comparing policies needs a login that may read IAM"):
        differences()


@pytest.mark.usefixtures("account")
def test_resources_of_another_installation_are_counted(double: Double) -> None:
    """Resources of this installation, and those without the tag, are not."""
    session = aws.Session(double.region)
    ec2 = session.client("ec2")
    for name, installation in (("a", "old"), ("b", "old"), ("c", double.installation)):
        tagged = [{"Key": "provision:installation", "Value": installation}]
        ec2.create_placement_group(
            GroupName=name,
            Strategy="cluster",
            TagSpecifications=[{"ResourceType": "placement-group", "Tags": tagged}],
        )
    assert Iam(session).of_others(double.installation) == {"old": {"placement-group": 2}}
    session.close()
