"""The IAM policies, filled in for an installation, and the comparison of policies."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from provisioner.adapters.policy_templates import templates
from provisioner.core.cloud.policies import PolicyValues, difference, filled
from provisioner.core.cloud.tags import INSTALLATION_TAG

VALUES = PolicyValues("here", "us-east-1", "bucket", {"provision-machine": "provision-machine"})
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#: How many characters without spaces a managed policy may have (IAM User Guide, "IAM and AWS STS quotas").
MANAGED = 6144


def made(**changes: Any) -> dict[str, dict[str, Any]]:
    return filled(templates(), replace(VALUES, **changes))


def statements(policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["Sid"]: one for one in policy["Statement"]}


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        for below in node.values() if isinstance(node, dict) else node:
            yield from texts(below)


def test_templates_and_policies_have_the_same_statements() -> None:
    """No placeholder is left, and nothing is left out but the parameter that the settings do not name."""
    policies = made(keys=(KEY,))
    assert not [text for text in texts(policies) if "YOUR-" in text]
    for name, template in templates().items():
        for before, after in zip(template["Statement"], policies[name]["Statement"], strict=True):
            assert before.keys() == after.keys()
            assert before.get("Condition", {}).keys() == after.get("Condition", {}).keys()
    assert statements(policies["control"])["FindImages"]["Resource"] == [
        "arn:aws:ssm:us-east-1::parameter/aws/service/*"
    ]


@pytest.mark.parametrize(
    ("bucket", "objects"), [("b", "b/"), ("b/", "b/"), ("b/team", "b/team/"), ("b/x/y/", "b/x/y/")]
)
def test_prefix_is_part_of_the_objects_arns_only(bucket: str, objects: str) -> None:
    policies = made(bucket=bucket)
    control = statements(policies["control"])
    assert control["ListBucket"]["Resource"] == "arn:aws:s3:::b"
    assert control["KeepObjects"]["Resource"] == f"arn:aws:s3:::{objects}*"
    of_machines = [text for text in texts(policies["machine"]) if text.startswith("arn:")]
    assert of_machines
    assert all(re.match(rf"arn:aws:s3:::{objects}(agent|inbox|machines)/", text) for text in of_machines)


def test_listing_is_limited_to_the_prefix() -> None:
    """Without a prefix, the whole bucket is the installation's."""
    assert "Condition" not in statements(made()["control"])["ListBucket"]
    listing = statements(made(bucket="b/team")["control"])["ListBucket"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "team/*"}}


def test_characters_that_policies_interpret_are_escaped() -> None:
    control = statements(made(bucket="b/a*b?${aws:userid}")["control"])
    assert control["KeepObjects"]["Resource"] == "arn:aws:s3:::b/a${*}b${?}${$}{aws:userid}/*"


def test_every_profile_is_readable_and_every_role_may_be_given_to_machines() -> None:
    """The owners' profiles may have roles with other names."""
    control = statements(made(roles={"provision-machine": "provision-machine", "lab": "team/research"})["control"])
    assert control["ReadProfiles"]["Resource"] == [
        "arn:aws:iam::*:instance-profile/provision-machine",
        "arn:aws:iam::*:instance-profile/lab",
    ]
    given = control["GiveMachinesTheirRole"]
    assert given["Resource"] == ["arn:aws:iam::*:role/provision-machine", "arn:aws:iam::*:role/team/research"]
    assert given["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}


def test_own_parameter_with_the_ami_is_readable() -> None:
    found = statements(made(parameters=("/ours/ami-id",))["control"])["FindImages"]["Resource"]
    assert found[1:] == ["arn:aws:ssm:us-east-1:*:parameter/ours/ami-id"]


def test_keys_of_the_settings_are_usable_for_disks_and_objects() -> None:
    """Without a key, the policies have no statement about keys: one without a resource would be rejected."""
    assert not [text for text in texts(made()) if "kms" in text]
    control, machine = (statements(made(keys=(KEY,))[name]) for name in ("control", "machine"))
    assert control["UseKeys"]["Resource"] == control["LetDisksUseKeys"]["Resource"] == [KEY]
    assert control["LetDisksUseKeys"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert machine["UseKeysOfObjects"]["Resource"] == [KEY]
    assert machine["UseKeysOfObjects"]["Condition"] == {"StringLike": {"kms:ViaService": "s3.us-east-1.*"}}
    other = KEY.replace("arn:aws:", "arn:aws-cn:")
    assert statements(made(region="cn-north-1", keys=(other,))["control"])["UseKeys"]["Resource"] == [other]


def test_other_partition_has_its_own_arns_and_name_of_ec2() -> None:
    policies = made(region="cn-north-1")
    assert not [text for text in texts(policies) if text.startswith("arn:aws:")]
    assert statements(policies["control"])["KeepObjects"]["Resource"] == "arn:aws-cn:s3:::bucket/*"
    assert policies["trust"]["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com.cn"}


def test_rights_to_change_ec2_depend_on_the_installations_tag() -> None:
    """Only listings and the resources that a launch uses but does not change need no tag."""
    free = set()
    for name, statement in statements(made()["control"]).items():
        keys = {key: value for each in statement.get("Condition", {}).values() for key, value in each.items()}
        tags = {value for key, value in keys.items() if key.endswith(f"/{INSTALLATION_TAG}")}
        if any(action.startswith("ec2:") for action in texts(statement["Action"])):
            assert tags <= {"here"}
            free |= set() if tags else {name}
    assert free == {"Look", "LaunchWithWhatExists"}


def test_policies_fit_into_a_managed_policy() -> None:
    """With long names, and a profile for each of eight owners."""
    roles = {f"provision-machine-of-owner-{number}": f"provision-machine-of-owner-{number}" for number in range(8)}
    for policy in made(
        installation="i" * 63, bucket="b" * 63 + "/prefix", region="ap-southeast-1", roles=roles, keys=(KEY, KEY)
    ).values():
        assert len(re.sub(r"\s", "", json.dumps(policy))) <= MANAGED


def test_equal_policies_in_another_form_do_not_differ() -> None:
    """AWS keeps a policy as it was written: with single texts or lists, in any order."""
    wanted = {"Statement": [{"Sid": "A", "Effect": "Allow", "Action": ["s3:Get", "s3:Put"], "Resource": "x"}]}
    found = {"Statement": {"Resource": ["x"], "Action": ["s3:Put", "s3:Get"], "Effect": "Allow", "Sid": "A"}}
    assert difference(wanted, [found], whole=True) == []


def test_missing_and_superfluous_statements_differ() -> None:
    wanted = {"Statement": [{"Sid": "A", "Effect": "Allow", "Action": "s3:Get", "Resource": "x"}]}
    other = {"Statement": [{"Sid": "B", "Effect": "Allow", "Action": "s3:Put", "Resource": "x"}]}
    both = difference(wanted, [other], whole=True)
    assert [line for line in both if "Sid" in line] == ['+  "Sid": "A",', '-  "Sid": "B",']
    assert [line for line in difference(wanted, [other], whole=False) if "Sid" in line] == ['+  "Sid": "A",']
