"""The rights that the login of `provision setup` needs.

CloudFormation acts with the rights of its caller. Those for a type of resource are the `handlers` of its schema in the
CloudFormation registry, as far as the template uses them; a test compares the two.
"""

from typing import Any

from provisioner.core.cloud.partitions import partition
from provisioner.core.cloud.policies import PolicyValues
from provisioner.core.cloud.setup.stack import SPOT_ROLE, SPOT_SERVICE, control_name, stack_name

_STACK = (
    *("CreateStack", "DeleteStack", "DescribeStackEvents", "DescribeStackResourceDrifts", "DescribeStacks"),
    *("DetectStackDrift", "DetectStackResourceDrift", "ListStackResources", "UpdateStack"),
)
#: Rights without a resource of their own (Service Authorization Reference).
_LOOK = (
    "cloudformation:DescribeStackDriftDetectionStatus",
    *(
        f"ec2:Describe{what}"
        for what in (
            *("AvailabilityZones", "Instances", "InternetGateways", "NetworkAcls", "NetworkInterfaces", "RouteTables"),
            *("SecurityGroupRules", "SecurityGroups", "Subnets", "VpcAttribute", "VpcEncryptionControls"),
            *("VpcEndpoints", "Vpcs"),
        )
    ),
)
_NETWORK = (
    *("AssociateRouteTable", "AttachInternetGateway", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"),
    *("CreateInternetGateway", "CreateRoute", "CreateRouteTable", "CreateSecurityGroup", "CreateSubnet", "CreateTags"),
    *("CreateVpc", "CreateVpcEndpoint", "DeleteInternetGateway", "DeleteRoute", "DeleteRouteTable"),
    *("DeleteSecurityGroup", "DeleteSubnet", "DeleteTags", "DeleteVpc", "DeleteVpcEndpoints"),
    *("DetachInternetGateway", "DisassociateRouteTable", "ModifySubnetAttribute", "ModifyVpcAttribute"),
    *("ModifyVpcEndpoint", "ReplaceRoute", "ReplaceRouteTableAssociation", "RevokeSecurityGroupEgress"),
    *("RevokeSecurityGroupIngress",),
)
_ROLE = (
    *("AttachRolePolicy", "CreateRole", "DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "GetRole"),
    *("GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies", "ListRoleTags", "PassRole", "PutRolePolicy"),
    *("TagRole", "UntagRole", "UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription"),
)
_PROFILE = (
    *("AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile"),
    "RemoveRoleFromInstanceProfile",
)
_POLICY = (
    *("CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "GetPolicy", "GetPolicyVersion"),
    *("ListEntitiesForPolicy", "ListPolicyVersions"),
)
_BUCKET = (
    *("CreateBucket", "DeleteBucket", "ListBucket", "ListTagsForResource"),
    # CloudFormation reads the whole configuration of a bucket.
    *("GetAccelerateConfiguration", "GetAnalyticsConfiguration", "GetBucketAbac", "GetBucketCORS", "GetBucketLogging"),
    *("GetBucketMetadataTableConfiguration", "GetBucketNotification", "GetBucketObjectLockConfiguration"),
    *("GetBucketOwnershipControls", "GetBucketPublicAccessBlock", "GetBucketTagging", "GetBucketVersioning"),
    *("GetBucketWebsite", "GetEncryptionConfiguration", "GetIntelligentTieringConfiguration"),
    *("GetInventoryConfiguration", "GetLifecycleConfiguration", "GetMetricsConfiguration"),
    "GetReplicationConfiguration",
    *("PutBucketOwnershipControls", "PutBucketPublicAccessBlock", "PutBucketTagging", "PutEncryptionConfiguration"),
    *("PutLifecycleConfiguration", "TagResource", "UntagResource"),
)


def setup_policy(values: PolicyValues) -> dict[str, Any]:
    """Return the policy for the login that sets up the installation; `values.bucket` may be empty."""
    arn, control = f"arn:{partition(values.region).name}", control_name(values.installation)
    bucket = values.bucket.strip("/").partition("/")[0] or f"provision-{values.installation}"[:54] + "*"
    roles = sorted({*values.roles.values(), control})
    profiles = sorted({*values.roles, control})
    stack = f"{arn}:cloudformation:{values.region}:*:stack/{stack_name(values.installation)}/*"
    spot = f"{arn}:iam::*:role/aws-service-role/{SPOT_SERVICE}/{SPOT_ROLE}"
    statements: list[dict[str, Any]] = [
        _allow("Look", _LOOK, ["*"]),
        _allow("Stack", [f"cloudformation:{one}" for one in _STACK], [stack]),
        _allow("Network", [f"ec2:{one}" for one in _NETWORK], ["*"]),
        _allow("Roles", [f"iam:{one}" for one in _ROLE], [f"{arn}:iam::*:role/{one.lstrip('/')}" for one in roles]),
        _allow(
            "Profiles", [f"iam:{one}" for one in _PROFILE], [f"{arn}:iam::*:instance-profile/{p}" for p in profiles]
        ),
        _allow("Policies", [f"iam:{one}" for one in _POLICY], [f"{arn}:iam::*:policy/{control}*"]),
        _allow("SpotRole", ["iam:CreateServiceLinkedRole", "iam:GetRole"], [spot]),
        _allow("Bucket", [f"s3:{one}" for one in _BUCKET], [f"{arn}:s3:::{bucket}"]),
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(sid: str, actions: Any, resources: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
