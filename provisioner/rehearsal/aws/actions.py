"""Table of the IAM actions that each API call requires, and of the resources of each action.

From the Service Authorization Reference ("Actions, resources, and condition keys for Amazon EC2", and likewise for
Amazon S3, AWS Systems Manager, AWS Secrets Manager, Amazon ECR and IAM) and the EC2 User Guide ("Prerequisites for EC2
Fleet", "Grant permission to tag Amazon EC2 resources during creation"). EC2's own calls are evaluated on each resource
that they name, use or make; EC2's listings have no resources, so they are evaluated on `*`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class On(Enum):
    """The resource on which an action is evaluated, as a template of its ARN."""

    ANYTHING = "*"
    BUCKET = "arn:{partition}:s3:::{bucket}"
    OBJECT = "arn:{partition}:s3:::{bucket}/{key}"
    #: The object that a copy reads.
    SOURCE = "arn:{partition}:s3:::{source}"
    PARAMETER = "{parameter}"
    SECRET = "{secret}"
    PROFILE = "arn:{partition}:iam::{account}:instance-profile/{profile}"
    #: The role that the launched machines get.
    ROLE = "arn:{partition}:iam::{account}:role/{role}"
    #: The role, or the managed policy, that the call reads.
    READ_ROLE = "arn:{partition}:iam::{account}:role/{read}"
    READ_POLICY = "{policy}"
    #: The role that an instance profile gets.
    GIVEN_ROLE = "arn:{partition}:iam::{account}:role/{given}"
    STACK = "{stack}"
    SERVICE_ROLE = "arn:{partition}:iam::{account}:role/{service_role}"
    #: The role whose rights are simulated.
    PRINCIPAL = "{principal}"


@dataclass(frozen=True)
class Ask:
    action: str
    on: On


@dataclass(frozen=True)
class Ec2Resource:
    """A resource that a call of EC2 names, uses or makes."""

    #: The resource type, as in ARNs and TagSpecifications.
    kind: str
    #: `*` for a resource whose id the call does not decide.
    id: str = "*"
    #: The tags that it has: condition keys `aws:ResourceTag/KEY`.
    tags: Mapping[str, str] = field(default_factory=dict)
    #: The tags that the call gives it: condition keys `aws:RequestTag/KEY`. A call that does not make the resource
    #: gives it no tags, so these keys are absent for images, subnets and security groups of a launch.
    new_tags: Mapping[str, str] = field(default_factory=dict)
    made: bool = False

    def arn(self, partition: str, region: str, account: str) -> str:
        # AMIs and snapshots have no account in their ARNs.
        owner = "" if self.kind in ("image", "snapshot") else account
        return f"arn:{partition}:ec2:{region}:{owner}:{self.kind}/{self.id}"


def _asks(on: On, *actions: str) -> tuple[Ask, ...]:
    return tuple(Ask(action, on) for action in actions)


_DESCRIBE = (
    "DescribeCapacityReservations",
    "DescribeImages",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstanceStatus",
    "DescribeInstances",
    "DescribeLaunchTemplates",
    "DescribePlacementGroups",
    "DescribeSnapshots",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
    "DescribeTags",
    "GetEbsDefaultKmsKeyId",
    "GetEbsEncryptionByDefault",
    "GetGroupsForCapacityReservation",
)
#: EC2's calls about networks, which moto answers. They are evaluated on `*` instead of on their resources: only the
#: login of `provision setup` may make them, and its policy does not limit their resources.
_NETWORKS = (
    *("AssociateRouteTable", "AttachInternetGateway", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"),
    *("CreateInternetGateway", "CreateRoute", "CreateRouteTable", "CreateSecurityGroup", "CreateSubnet", "CreateVpc"),
    *("CreateVpcEndpoint", "DeleteInternetGateway", "DeleteRoute", "DeleteRouteTable", "DeleteSecurityGroup"),
    *("DeleteSubnet", "DeleteVpc", "DeleteVpcEndpoints", "DescribeAvailabilityZones", "DescribeInternetGateways"),
    *("DescribeRouteTables", "DescribeSecurityGroups", "DescribeVpcEndpoints", "DescribeVpcs"),
    *("DetachInternetGateway", "DisassociateRouteTable", "ModifySubnetAttribute", "ModifyVpcAttribute"),
    *("ModifyVpcEndpoint", "RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress"),
)
#: Those of them that give their new resource tags.
_TAGGED = ("CreateInternetGateway", "CreateRouteTable", "CreateSecurityGroup", "CreateSubnet", "CreateVpc")
_ROLES = (
    *("AttachRolePolicy", "CreateRole", "DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "GetRole"),
    *("GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies", "PutRolePolicy", "UpdateAssumeRolePolicy"),
)
_PROFILES = (
    *("AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile"),
    "RemoveRoleFromInstanceProfile",
)
_POLICIES = (
    *("CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "GetPolicy", "GetPolicyVersion"),
    "ListPolicyVersions",
)
_STACKS = (
    *("CreateStack", "DeleteStack", "DescribeStackEvents", "DescribeStackResourceDrifts", "DescribeStacks"),
    *("DetectStackDrift", "ListStackResources", "UpdateStack"),
)
#: The right for each call of S3 about a bucket's configuration: their names differ (Service Authorization Reference).
_BUCKETS = {
    "CreateBucket": "CreateBucket",
    "DeleteBucket": "DeleteBucket",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketOwnershipControls": "GetBucketOwnershipControls",
    "GetBucketTagging": "GetBucketTagging",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketOwnershipControls": "PutBucketOwnershipControls",
    "PutBucketTagging": "PutBucketTagging",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
#: EC2's calls that are evaluated on each of their resources. Some are here only to be denied: the double does not
#: implement them.
_ON_RESOURCES = (
    "CreateImage",
    "CreateLaunchTemplate",
    "CreatePlacementGroup",
    "CreateTags",
    "DeleteLaunchTemplate",
    "DeletePlacementGroup",
    "DeleteSnapshot",
    "DeleteTags",
    "DeregisterImage",
    "GetConsoleOutput",
    "TerminateInstances",
)
#: EC2's calls that only an administrator makes, to build and to break a network.
_BY_ADMINISTRATOR = ("DeleteRoute", "ModifySubnetAttribute")
#: EC2's calls that launch machines with a role.
_LAUNCHES = ("CreateFleet", "RunInstances")

#: The required actions by (service, API call), besides those on EC2's resources; the double does not implement a call
#: without an entry.
ASKS: Mapping[tuple[str, str], tuple[Ask, ...]] = {
    **{("ec2", name): _asks(On.ANYTHING, f"ec2:{name}") for name in (*_DESCRIBE, *_BY_ADMINISTRATOR)},
    **{("ec2", name): () for name in _ON_RESOURCES},
    **{("ec2", name): _asks(On.ROLE, "iam:PassRole") for name in _LAUNCHES},
    ("pricing", "GetProducts"): _asks(On.ANYTHING, "pricing:GetProducts"),
    **{("ec2", name): _asks(On.ANYTHING, f"ec2:{name}") for name in _NETWORKS},
    **{("ec2", name): _asks(On.ANYTHING, f"ec2:{name}", "ec2:CreateTags") for name in _TAGGED},
    **{("iam", name): _asks(On.PROFILE, f"iam:{name}") for name in _PROFILES},
    **{("iam", name): _asks(On.READ_ROLE, f"iam:{name}") for name in _ROLES},
    **{("iam", name): _asks(On.READ_POLICY, f"iam:{name}") for name in _POLICIES},
    ("iam", "SimulatePrincipalPolicy"): _asks(On.PRINCIPAL, "iam:SimulatePrincipalPolicy"),
    ("iam", "CreateRole"): _asks(On.READ_ROLE, "iam:CreateRole", "iam:TagRole"),
    ("iam", "AddRoleToInstanceProfile"): (
        *_asks(On.PROFILE, "iam:AddRoleToInstanceProfile"),
        *_asks(On.GIVEN_ROLE, "iam:PassRole"),
    ),
    ("iam", "CreateServiceLinkedRole"): _asks(On.SERVICE_ROLE, "iam:CreateServiceLinkedRole"),
    ("iam", "DeleteServiceLinkedRole"): _asks(On.READ_ROLE, "iam:DeleteServiceLinkedRole"),
    **{("cloudformation", name): _asks(On.STACK, f"cloudformation:{name}") for name in _STACKS},
    ("cloudformation", "DescribeStackDriftDetectionStatus"): _asks(
        On.ANYTHING, "cloudformation:DescribeStackDriftDetectionStatus"
    ),
    **{("s3", name): _asks(On.BUCKET, f"s3:{right}") for name, right in _BUCKETS.items()},
    ("ssm", "GetParameter"): _asks(On.PARAMETER, "ssm:GetParameter"),
    ("secretsmanager", "GetSecretValue"): _asks(On.SECRET, "secretsmanager:GetSecretValue"),
    ("ecr", "GetAuthorizationToken"): _asks(On.ANYTHING, "ecr:GetAuthorizationToken"),
    # STS answers every caller that has credentials.
    ("sts", "GetCallerIdentity"): (),
    ("sts", "DecodeAuthorizationMessage"): _asks(On.ANYTHING, "sts:DecodeAuthorizationMessage"),
    ("servicequotas", "GetServiceQuota"): _asks(On.ANYTHING, "servicequotas:GetServiceQuota"),
    ("s3", "GetObject"): _asks(On.OBJECT, "s3:GetObject"),
    ("s3", "HeadObject"): _asks(On.OBJECT, "s3:GetObject"),
    ("s3", "PutObject"): _asks(On.OBJECT, "s3:PutObject"),
    ("s3", "CopyObject"): (*_asks(On.SOURCE, "s3:GetObject"), *_asks(On.OBJECT, "s3:PutObject")),
    ("s3", "CreateMultipartUpload"): _asks(On.OBJECT, "s3:PutObject"),
    ("s3", "UploadPart"): _asks(On.OBJECT, "s3:PutObject"),
    ("s3", "UploadPartCopy"): (*_asks(On.SOURCE, "s3:GetObject"), *_asks(On.OBJECT, "s3:PutObject")),
    ("s3", "CompleteMultipartUpload"): _asks(On.OBJECT, "s3:PutObject"),
    ("s3", "AbortMultipartUpload"): _asks(On.OBJECT, "s3:AbortMultipartUpload"),
    ("s3", "DeleteObject"): _asks(On.OBJECT, "s3:DeleteObject"),
    # Evaluated once for each key of the request.
    ("s3", "DeleteObjects"): _asks(On.OBJECT, "s3:DeleteObject"),
    ("s3", "ListObjects"): _asks(On.BUCKET, "s3:ListBucket"),
    ("s3", "ListObjectsV2"): _asks(On.BUCKET, "s3:ListBucket"),
    ("s3", "HeadBucket"): _asks(On.BUCKET, "s3:ListBucket"),
    ("s3", "ListBuckets"): _asks(On.ANYTHING, "s3:ListAllMyBuckets"),
    ("s3", "GetBucketLocation"): _asks(On.BUCKET, "s3:GetBucketLocation"),
}

#: The types of resources that CreateFleet makes by way of RunInstances.
_BY_RUNNING = ("instance", "network-interface", "volume")


def on_resource(call: str, resource: Ec2Resource) -> list[tuple[str, Mapping[str, str]]]:
    """Return the actions that an EC2 call requires on one of its resources, each with its condition keys.

    The tags of a launch template count as tags of the launch (Karpenter's policy requires them so of network
    interfaces). Whether EC2 checks the tags of a fleet's machines with the `ec2:CreateAction` CreateFleet or
    RunInstances is not documented, so both are checked here (assumed).
    """
    keys = {f"aws:ResourceTag/{key}": value for key, value in resource.tags.items()}
    keys |= {f"aws:RequestTag/{key}": value for key, value in resource.new_tags.items()}
    running = call == "CreateFleet" and resource.kind != "fleet"
    asked: list[tuple[str, Mapping[str, str]]] = [
        (f"ec2:{name}", keys) for name in (call, *(["RunInstances"] if running else []))
    ]
    if resource.made and resource.new_tags:
        both = call == "CreateFleet" and resource.kind in _BY_RUNNING
        causes = (call, *(["RunInstances"] if both else []))
        asked += [("ec2:CreateTags", keys | {"ec2:CreateAction": cause}) for cause in causes]
    return asked
