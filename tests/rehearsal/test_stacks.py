"""CloudFormation in the double: what it refuses, and how it undoes what fails."""

import json
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError

from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.rehearsal.conftest import Raise, Rig

ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "RoleName": "one",
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
            ],
        },
    },
}
PROFILE = {
    "Type": "AWS::IAM::InstanceProfile",
    "Properties": {"InstanceProfileName": "two", "Roles": [{"Ref": "Role"}]},
}
NAMED = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}


@pytest.fixture
def rig(up: Raise) -> Rig:
    return up({"account": "empty"})


def create(rig: Rig, resources: dict[str, Any], **rest: Any) -> Any:
    text = json.dumps({"Resources": resources})
    return rig.client("cloudformation").create_stack(StackName="s", TemplateBody=text, **rest)


def ended(rig: Rig, waiter: str) -> str:
    """Wait for the end of the stack's operation, and return its state."""
    client = rig.client("cloudformation")
    # The waiter fails if the stack ends in another state than the waiter's.
    with suppress(WaiterError):
        client.get_waiter(waiter).wait(StackName="s", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    return str(client.describe_stacks(StackName="s")["Stacks"][0]["StackStatus"])


@pytest.mark.parametrize(
    ("resources", "rest", "told"),
    [
        ({"Queue": {"Type": "AWS::SQS::Queue"}}, {}, r"Unrecognized resource types: \[AWS::SQS::Queue\]"),
        (
            {"Role": {**ROLE, "Properties": {**ROLE["Properties"], "Colour": "red"}}},  # type: ignore[dict-item]
            NAMED,
            "Encountered unsupported property Colour",
        ),
        ({"Role": ROLE}, {}, r"Requires capabilities : \[CAPABILITY_NAMED_IAM\]"),
        ({"Profile": PROFILE}, NAMED, r"Unresolved resource dependencies \['Role'\]"),
        ({}, {}, "At least one Resources member must be defined"),
        ({"Role": {**ROLE, "Properties": {"Description": "x" * 51_200}}}, NAMED, "less than or equal to 51200"),
    ],
    ids=["type", "property", "capability", "reference", "empty", "size"],
)
def test_template_that_cloudformation_would_refuse_is_refused(
    rig: Rig, resources: dict[str, Any], rest: dict[str, Any], told: str
) -> None:
    with pytest.raises(ClientError, match=told):
        create(rig, resources, **rest)
    assert rig.double.calls.unimplemented == []


def test_resources_are_made_in_the_order_of_their_references_and_deleted_in_the_opposite_one(rig: Rig) -> None:
    id = create(rig, {"Profile": PROFILE, "Role": ROLE}, **NAMED)["StackId"]
    assert ended(rig, "stack_create_complete") == "CREATE_COMPLETE"
    assert rig.client("iam").get_instance_profile(InstanceProfileName="two")["InstanceProfile"]["Roles"]
    client = rig.client("cloudformation")
    client.delete_stack(StackName="s")
    client.get_waiter("stack_delete_complete").wait(StackName=id, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    events = client.describe_stack_events(StackName=id)["StackEvents"][::-1]
    ends = [one["LogicalResourceId"] for one in events if one["ResourceStatus"].endswith("_COMPLETE")]
    assert ends == ["Role", "Profile", "s", "Profile", "Role", "s"]


def test_failed_update_gives_a_role_its_policy_back(rig: Rig) -> None:
    create(rig, {"Role": ROLE}, **NAMED)
    ended(rig, "stack_create_complete")
    rig.double.faults.add(Rule(Effect.ERROR, action="CreateInstanceProfile", code="LimitExceeded", message="full"))
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    policy = {"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
    more = {**ROLE, "Properties": {**ROLE["Properties"], "Policies": [policy]}}  # type: ignore[dict-item]
    text = json.dumps({"Resources": {"Role": more, "Profile": PROFILE}})
    rig.client("cloudformation").update_stack(StackName="s", TemplateBody=text, **NAMED)
    assert ended(rig, "stack_update_complete") == "UPDATE_ROLLBACK_COMPLETE"
    assert rig.client("iam").list_role_policies(RoleName="one")["PolicyNames"] == []


def test_stack_acts_with_the_rights_of_its_caller(rig: Rig) -> None:
    stack = {"Effect": "Allow", "Action": "cloudformation:*", "Resource": "*"}
    person = rig.double.person_environment({"Version": "2012-10-17", "Statement": [stack]})
    keys = {"aws_access_key_id": person["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": person["AWS_SECRET_ACCESS_KEY"]}
    make: Any = boto3.Session().client
    client = make("cloudformation", endpoint_url=rig.double.url, region_name=rig.double.region, **keys)
    client.create_stack(StackName="s", TemplateBody=json.dumps({"Resources": {"Role": ROLE}}), **NAMED)
    assert ended(rig, "stack_create_complete") == "ROLLBACK_COMPLETE"
    [reason] = [
        one["ResourceStatusReason"]
        for one in client.describe_stack_events(StackName="s")["StackEvents"]
        if one["ResourceStatus"] == "CREATE_FAILED"
    ]
    assert "not authorized to perform: iam:CreateRole" in reason


def test_stack_in_progress_or_rolled_back_cannot_be_updated(rig: Rig) -> None:
    rig.double.faults.add(Rule(Effect.ERROR, action="CreateRole", code="LimitExceeded", message="full"))
    create(rig, {"Role": ROLE}, **NAMED)
    assert ended(rig, "stack_create_complete") == "ROLLBACK_COMPLETE"
    text = json.dumps({"Resources": {"Role": ROLE}})
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        rig.client("cloudformation").update_stack(StackName="s", TemplateBody=text, **NAMED)
    with pytest.raises(ClientError, match="already exists"):
        create(rig, {"Role": ROLE}, **NAMED)
