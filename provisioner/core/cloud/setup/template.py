"""Make the CloudFormation template of an installation.

Types and properties are those of the CloudFormation Template Reference; cfn-lint checks them in a test.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.core.cloud.policies import CONTROL, MACHINE, TRUST, Document
from provisioner.core.cloud.setup.stack import (
    LARGEST,
    SETUP_TAG,
    SPOT_SERVICE,
    Wanted,
    block,
    control_name,
    logical,
)
from provisioner.core.errors import Invalid

#: The name of the inline policy of a machine's role, as in `provision docs rights`.
_POLICY = "provision"
#: The most characters of a managed policy, without white space (IAM User Guide, "IAM and AWS STS quotas").
_POLICY_SIZE = 6_144
#: Addresses of the VPC of a new network; `block` divides them.
_ADDRESSES = "10.64.0.0/16"
#: Days after which the bucket deletes mailboxes that the control plane has not deleted, and parts of lost uploads.
_MAILBOX_DAYS, _UPLOAD_DAYS = 30, 7

#: What keeps the bucket, with its logs, and the account's role for spot when the stack is deleted. If the creation of
#: the stack fails, both are deleted, because they are empty and unused.
_KEPT = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}

#: The names of a stack's outputs, except those of security groups, which are named as their resources.
BUCKET, SUBNETS, CONTROL_PROFILE = "Bucket", "Subnets", "ControlProfile"


def body(template: Mapping[str, Any]) -> str:
    """Return the template as the text that is given to CloudFormation; raises Invalid if it is too large."""
    text = json.dumps(template, separators=(",", ":"))
    if len(text.encode()) > LARGEST:
        raise Invalid(
            f"the template has {len(text.encode())} bytes, and CloudFormation accepts {LARGEST} from a program: let"
            " more owners share an instance profile ([profiles] in the settings), or upload the output of"
            " `provision setup --print` to a bucket and create the stack from there"
        )
    return text


def template(wanted: Wanted) -> dict[str, Any]:
    """Return the template. The same wishes give the same template."""
    resources: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    if wanted.make_bucket:
        resources["Bucket"] = _bucket(wanted)
        outputs[BUCKET] = _output("The installation's bucket", {"Ref": "Bucket"})
    if wanted.network.zones:
        resources |= _network(wanted)
        subnets = [{"Ref": logical("Subnet", zone)} for zone in wanted.network.zones]
        outputs[SUBNETS] = _output("Subnets, one in each zone", {"Fn::Join": [",", subnets]})
    tables = [{"Ref": "RouteTable"}] if wanted.network.zones else list(wanted.network.route_tables)
    if tables:
        resources["S3Endpoint"] = _endpoint(wanted, tables)
    for profile in wanted.groups:
        resources |= _group(wanted, profile)
        outputs[logical("Group", profile)] = _output(
            f"The security group of the instance profile {profile}",
            {"Fn::GetAtt": [logical("Group", profile), "GroupId"]},
        )
    resources |= _machine_roles(wanted)
    resources |= _control(wanted)
    if not wanted.sso_profile:
        outputs[CONTROL_PROFILE] = _output("The instance profile of a control host", {"Ref": "ControlProfile"})
    if wanted.make_spot_role:
        resources["SpotRole"] = {
            "Type": "AWS::IAM::ServiceLinkedRole",
            **_KEPT,
            "Properties": {"AWSServiceName": SPOT_SERVICE},
        }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"The installation {wanted.installation} of provision: see provision docs setup",
        # The zones are named: `Fn::GetAZs` would leave out those without a default subnet (CloudFormation Template
        # Reference), and a subnet must not move when a region gets a zone.
        "Metadata": {"cfn-lint": {"config": {"ignore_checks": ["W3010"]}}},
        "Resources": resources,
        "Outputs": outputs,
    }


def _output(text: str, value: Any) -> dict[str, Any]:
    return {"Description": text, "Value": value}


def _tags(wanted: Wanted, name: str = "") -> list[dict[str, str]]:
    named = [{"Key": "Name", "Value": name}] if name else []
    return [*named, {"Key": SETUP_TAG, "Value": wanted.installation}]


def _bucket(wanted: Wanted) -> dict[str, Any]:
    def expire(prefix: str) -> dict[str, Any]:
        place = f"{wanted.prefix}{prefix}/"
        return {"Id": f"{prefix}-mailboxes", "Status": "Enabled", "Prefix": place, "ExpirationInDays": _MAILBOX_DAYS}

    uploads = {"DaysAfterInitiation": _UPLOAD_DAYS}
    return {
        "Type": "AWS::S3::Bucket",
        **_KEPT,
        "Properties": {
            "BucketName": wanted.bucket,
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}},
                ]
            },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "LifecycleConfiguration": {
                "Rules": [
                    expire("machines"),
                    expire("inbox"),
                    {"Id": "lost-uploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": uploads},
                ]
            },
            "Tags": _tags(wanted),
        },
    }


def _network(wanted: Wanted) -> dict[str, Any]:
    """Return a VPC with a public subnet in each zone; there is no NAT gateway, which would cost money while idle."""
    name = f"provision-{wanted.installation}"
    vpc, table = {"Ref": "Vpc"}, {"Ref": "RouteTable"}
    resources: dict[str, Any] = {
        "Vpc": {
            "Type": "AWS::EC2::VPC",
            "Properties": {
                "CidrBlock": _ADDRESSES,
                "EnableDnsSupport": True,
                "EnableDnsHostnames": True,
                "Tags": _tags(wanted, name),
            },
        },
        "Gateway": {"Type": "AWS::EC2::InternetGateway", "Properties": {"Tags": _tags(wanted, name)}},
        "GatewayAttachment": {
            "Type": "AWS::EC2::VPCGatewayAttachment",
            "Properties": {"VpcId": vpc, "InternetGatewayId": {"Ref": "Gateway"}},
        },
        "RouteTable": {
            "Type": "AWS::EC2::RouteTable",
            "Properties": {"VpcId": vpc, "Tags": _tags(wanted, name)},
        },
        "DefaultRoute": {
            "Type": "AWS::EC2::Route",
            # CloudFormation User Guide, "DependsOn attribute": a route to a gateway needs the gateway's attachment.
            "DependsOn": "GatewayAttachment",
            "Properties": {
                "RouteTableId": table,
                "DestinationCidrBlock": "0.0.0.0/0",
                "GatewayId": {"Ref": "Gateway"},
            },
        },
    }
    for zone in wanted.network.zones:
        subnet = logical("Subnet", zone)
        resources[subnet] = {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": vpc,
                "AvailabilityZone": zone,
                "CidrBlock": block(zone),
                "MapPublicIpOnLaunch": True,
                "Tags": _tags(wanted, f"{name} {zone}"),
            },
        }
        resources[f"{subnet}Routes"] = {
            "Type": "AWS::EC2::SubnetRouteTableAssociation",
            "Properties": {"SubnetId": {"Ref": subnet}, "RouteTableId": table},
        }
    return resources


def _endpoint(wanted: Wanted, tables: Sequence[Any]) -> dict[str, Any]:
    """Return a gateway endpoint: logs and the layers of ECR's images then cost no transfer through a NAT gateway."""
    return {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {
            "VpcEndpointType": "Gateway",
            "ServiceName": f"com.amazonaws.{wanted.region}.s3",
            "VpcId": _vpc(wanted),
            "RouteTableIds": list(tables),
        },
    }


def _vpc(wanted: Wanted) -> Any:
    return {"Ref": "Vpc"} if wanted.network.zones else wanted.network.vpc


def _group(wanted: Wanted, profile: str) -> dict[str, Any]:
    """Return a security group: everything out, and everything in between the machines of one profile.

    EFA also needs a rule for traffic out to the group itself (EC2 User Guide, "Prepare an EFA-enabled security group").
    """
    name = logical("Group", profile)
    group = {"Fn::GetAtt": [name, "GroupId"]}
    return {
        name: {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": f"Machines of provision {wanted.installation} with the profile {profile}"[:255],
                "VpcId": _vpc(wanted),
                "SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}],
                "Tags": _tags(wanted, f"provision-{wanted.installation} {profile}"),
            },
        },
        f"{name}In": {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {"GroupId": group, "IpProtocol": "-1", "SourceSecurityGroupId": group},
        },
        f"{name}Out": {
            "Type": "AWS::EC2::SecurityGroupEgress",
            "Properties": {"GroupId": group, "IpProtocol": "-1", "DestinationSecurityGroupId": group},
        },
    }


def _machine_roles(wanted: Wanted) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    for role in wanted.roles:
        path, _, name = f"/{role.lstrip('/')}".rpartition("/")
        resources[logical("Role", role)] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": name,
                "Path": f"{path}/",
                "Description": f"Machines of provision {wanted.installation}",
                "AssumeRolePolicyDocument": wanted.policies[TRUST],
                "Policies": [{"PolicyName": _POLICY, "PolicyDocument": wanted.policies[MACHINE]}],
                "Tags": _tags(wanted),
            },
        }
    for profile, role in wanted.profiles.items():
        known: Any = {"Ref": logical("Role", role)} if role in wanted.roles else role.rpartition("/")[2]
        resources[logical("Profile", profile)] = {
            "Type": "AWS::IAM::InstanceProfile",
            "Properties": {"InstanceProfileName": profile, "Roles": [known]},
        }
    return resources


def policy_names(wanted: Wanted) -> list[str]:
    """Return the names of the control plane's policies; a large one is divided."""
    name = control_name(wanted.installation)
    return [f"{name}-{number}" if number else name for number, _ in enumerate(_parts(wanted.policies[CONTROL]))]


def _control(wanted: Wanted) -> dict[str, Any]:
    """Return the control plane's policies, and without an SSO profile a role for a control host on EC2."""
    name, resources = control_name(wanted.installation), {}
    parts = _parts(wanted.policies[CONTROL])
    for number, (policy, document) in enumerate(zip(policy_names(wanted), parts, strict=True), 1):
        resources[f"ControlPolicy{number}"] = {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {
                "ManagedPolicyName": policy,
                "Description": f"The control plane of provision {wanted.installation}",
                "PolicyDocument": document,
            },
        }
    if not wanted.sso_profile:
        resources["ControlRole"] = {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": name,
                "Description": f"The control plane of provision {wanted.installation}",
                "AssumeRolePolicyDocument": wanted.policies[TRUST],
                "ManagedPolicyArns": [{"Ref": f"ControlPolicy{number}"} for number, _ in enumerate(parts, 1)],
                "Tags": _tags(wanted),
            },
        }
        resources["ControlProfile"] = {
            "Type": "AWS::IAM::InstanceProfile",
            "Properties": {"InstanceProfileName": name, "Roles": [{"Ref": "ControlRole"}]},
        }
    return resources


def _parts(policy: Document) -> list[dict[str, Any]]:
    """Divide a policy between as few managed policies as its size requires; raises Invalid for a large statement."""
    parts: list[dict[str, Any]] = []
    for statement in policy["Statement"]:
        if parts and _size(grown := {**parts[-1], "Statement": [*parts[-1]["Statement"], statement]}) <= _POLICY_SIZE:
            parts[-1] = grown
            continue
        parts.append({"Version": policy["Version"], "Statement": [statement]})
        if _size(parts[-1]) > _POLICY_SIZE:
            raise Invalid(
                f"the statement {statement.get('Sid')} has over {_POLICY_SIZE} characters, which is all that IAM"
                " accepts: let more owners share an instance profile ([profiles] in the settings)"
            )
    return parts


def _size(document: Mapping[str, Any]) -> int:
    return len(json.dumps(document, separators=(",", ":")))
