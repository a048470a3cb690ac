"""The template of the stack: what it has, and that CloudFormation accepts it."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from cfnlint.api import lint

from provisioner.core.cloud.policies import CONTROL, PolicyValues
from provisioner.core.cloud.setup.rights import setup_policy
from provisioner.core.cloud.setup.stack import Wanted, logical
from provisioner.core.cloud.setup.template import body, policy_names, template
from provisioner.core.errors import Invalid
from provisioner.rehearsal.aws import policy
from provisioner.rehearsal.aws.stacks.kinds import KINDS
from tests.support.accounts import found, planned, wishes

TEAM = {"provision-machine": "provision-machine", "provision-research": "team/research"}
WHOLE = planned(wishes(roles=TEAM), found())

SCHEMAS = Path(cfnlint.__file__).parent / "data" / "schemas"


@cache
def schema(kind: str) -> dict[str, Any]:
    """Return the schema of a type in the CloudFormation registry, of which cfn-lint has a copy."""
    name = json.loads((SCHEMAS / "providers" / "us-east-1.json").read_text())[kind]
    read: dict[str, Any] = json.loads((SCHEMAS / "resources" / f"{name}.json").read_text())
    return read


def resources(wanted: Wanted, kind: str) -> dict[str, Any]:
    return {
        name: one["Properties"] for name, one in template(wanted)["Resources"].items() if one["Type"] == f"AWS::{kind}"
    }


@pytest.mark.parametrize(
    "wanted",
    [
        WHOLE,
        planned(wishes(sso_profile="dev", bucket="mine/jobs"), found(bucket_exists=True, spot_role=True)),
        replace(
            WHOLE,
            network=replace(
                WHOLE.network, zones=(), vpc="vpc-0123456789abcdef0", route_tables=("rtb-0123456789abcdef0",)
            ),
        ),
    ],
    ids=["everything", "sso profile, bucket and spot role", "existing VPC"],
)
def test_cfn_lint_finds_nothing(wanted: Wanted) -> None:
    assert [str(one) for one in lint(body(template(wanted)))] == []


def test_bucket_is_encrypted_and_private_and_deletes_mailboxes_below_the_prefix_after_30_days() -> None:
    [bucket] = resources(planned(wishes(bucket="mine/jobs"), found()), "S3::Bucket").values()
    assert bucket["BucketName"] == "mine"
    [rule] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    rules = {one.get("Prefix", ""): one.get("ExpirationInDays") for one in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules == {"jobs/machines/": 30, "jobs/inbox/": 30, "": None}


def test_each_profile_has_a_security_group_open_between_its_machines_only() -> None:
    groups = set(resources(WHOLE, "EC2::SecurityGroup"))
    assert groups == {logical("Group", profile) for profile in TEAM}
    inward = resources(WHOLE, "EC2::SecurityGroupIngress").values()
    assert {one["GroupId"]["Fn::GetAtt"][0] for one in inward} == groups
    assert all(one["SourceSecurityGroupId"] == one["GroupId"] and one["IpProtocol"] == "-1" for one in inward)


def test_roles_have_the_policies_of_provision_iam_and_the_path_of_the_settings() -> None:
    role = resources(WHOLE, "IAM::Role")[logical("Role", "team/research")]
    assert (role["RoleName"], role["Path"]) == ("research", "/team/")
    assert role["AssumeRolePolicyDocument"] == WHOLE.policies["trust"]
    assert role["Policies"] == [{"PolicyName": "provision", "PolicyDocument": WHOLE.policies["machine"]}]
    documents = [one["PolicyDocument"] for one in resources(WHOLE, "IAM::ManagedPolicy").values()]
    assert [statement for one in documents for statement in one["Statement"]] == WHOLE.policies[CONTROL]["Statement"]


def test_control_policy_over_the_limit_of_iam_is_divided() -> None:
    """A managed policy has at most 6,144 characters (IAM User Guide)."""
    roles = {f"provision-machine-{number}": f"provision-machine-{number}" for number in range(60)}
    wanted = planned(wishes(profile="provision-machine-0", roles=roles), found())
    documents = [one["PolicyDocument"] for one in resources(wanted, "IAM::ManagedPolicy").values()]
    assert len(documents) == len(policy_names(wanted)) == 3
    assert all(len(json.dumps(one, separators=(",", ":"))) <= 6_144 for one in documents)
    assert [statement for one in documents for statement in one["Statement"]] == wanted.policies[CONTROL]["Statement"]


def test_template_over_the_size_of_a_call_is_refused_with_what_to_do() -> None:
    roles = {f"provision-machine-{number}": f"provision-machine-{number}" for number in range(60)}
    wanted = planned(wishes(profile="provision-machine-0", roles=roles), found())
    with pytest.raises(Invalid, match=r"CloudFormation accepts 51200 .* share an instance profile"):
        body(template(wanted))


def test_one_more_profile_changes_no_other_resource() -> None:
    """CloudFormation replaces a resource whose id in the template changes, which fails for a role with a name."""
    before = template(planned(wishes(), found()))["Resources"]
    after = template(WHOLE)["Resources"]
    policies = {name for name in before if name.startswith("ControlPolicy")}
    assert {name: after[name] for name in before.keys() - policies} == {
        name: before[name] for name in before.keys() - policies
    }


#: Rights in the handlers of types of resources that need no right here: parts of them that the template does not use.
UNUSED = {
    *("ec2:CreateVpcEncryptionControl", "ec2:ModifyVpcTenancy", "ec2:AssociateSubnetCidrBlock"),
    *("ec2:DisassociateSubnetCidrBlock", "ec2:AttachVpnGateway", "ec2:DescribeVpnGateways", "ec2:DetachVpnGateway"),
    *("ec2:UpdateSecurityGroupRuleDescriptionsEgress", "ec2:UpdateSecurityGroupRuleDescriptionsIngress"),
    *("vpce:AllowMultiRegion", "iam:AttachGroupPolicy", "iam:AttachUserPolicy", "iam:DetachGroupPolicy"),
    *("iam:DetachUserPolicy", "iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary"),
    # The role of spot machines stays when the stack goes.
    *("iam:DeleteServiceLinkedRole", "iam:GetServiceLinkedRoleDeletionStatus"),
}


def test_rights_of_setup_cover_the_handlers_of_every_type_in_the_template() -> None:
    """CloudFormation acts with the rights of its caller; the registry lists what each type needs."""
    needed: set[str] = set()
    for kind in {one["Type"] for one in template(WHOLE)["Resources"].values()}:
        # Most of what may be created and updated of a bucket is not in the template; the double knows what is.
        changes = () if kind == "AWS::S3::Bucket" else ("create", "update")
        for handler in (*changes, "read", "delete"):
            needed |= set(schema(kind)["handlers"].get(handler, {}).get("permissions", ()))
    needed -= UNUSED
    document = setup_policy(PolicyValues("gpu-jobs", "us-east-1", "", TEAM))
    allowed = {action for statement in document["Statement"] for action in statement["Action"]}
    assert {one for one in needed - allowed if not one.startswith("vpc-lattice:")} == set()
    policy.parse(document)
    # An administrator can give it to the login as one managed policy (IAM quota: 6,144 characters).
    assert len(json.dumps(document, separators=(",", ":"))) <= 6_144


def test_the_double_replaces_a_resource_where_cloudformation_does() -> None:
    """The registry names the properties whose change makes a new resource."""
    for name, kind in KINDS.items():
        if kind.update is None:
            continue
        fixed = {path.removeprefix("/properties/") for path in schema(name)["createOnlyProperties"]}
        assert kind.fixed == fixed & kind.properties, name
