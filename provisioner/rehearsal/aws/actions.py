"""Table of the IAM actions that each API call requires, and of the resources of each action.

From the Service Authorization Reference ("Actions, resources, and condition keys for Amazon EC2", and likewise for
Amazon S3, AWS Systems Manager, AWS Secrets Manager, Amazon ECR and IAM) and the EC2 User Guide ("Prerequisites for EC2
Fleet"). EC2 actions that terminate machines, create or delete AMIs and snapshots, or delete placement groups are
evaluated on these resources. All other EC2 actions are evaluated on `*`, so a policy that limits them to some resources
denies them here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class On(Enum):
    """The resource on which an action is evaluated, as a template of its ARN."""

    ANYTHING = "*"
    BUCKET = "arn:aws:s3:::{bucket}"
    OBJECT = "arn:aws:s3:::{bucket}/{key}"
    #: The object that a copy reads.
    SOURCE = "arn:aws:s3:::{source}"
    PARAMETER = "{parameter}"
    SECRET = "{secret}"
    PROFILE = "arn:aws:iam::{account}:instance-profile/{profile}"
    #: Evaluated once for each machine, AMI, snapshot or placement group that the call names.
    INSTANCE = "arn:aws:ec2:{region}:{account}:instance/{id}"
    IMAGE = "arn:aws:ec2:{region}::image/{id}"
    SNAPSHOT = "arn:aws:ec2:{region}::snapshot/{id}"
    GROUP = "arn:aws:ec2:{region}:{account}:placement-group/{id}"
    #: The AMI and the snapshot that the call creates.
    NEW_IMAGE = "arn:aws:ec2:{region}::image/*"
    NEW_SNAPSHOT = "arn:aws:ec2:{region}::snapshot/*"
    #: The role that the launched machines get.
    ROLE = "arn:aws:iam::{account}:role/{role}"


@dataclass(frozen=True)
class Ask:
    action: str
    on: On


def _asks(on: On, *actions: str) -> tuple[Ask, ...]:
    return tuple(Ask(action, on) for action in actions)


_DESCRIBE = (
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
    "GetConsoleOutput",
)

#: The required actions by (service, API call); the double does not implement a call without an entry.
ASKS: Mapping[tuple[str, str], tuple[Ask, ...]] = {
    **{("ec2", name): _asks(On.ANYTHING, f"ec2:{name}") for name in _DESCRIBE},
    # CreateTags is required if the call has tags; the control plane's calls always have tags.
    ("ec2", "CreateLaunchTemplate"): _asks(On.ANYTHING, "ec2:CreateLaunchTemplate", "ec2:CreateTags"),
    ("ec2", "CreatePlacementGroup"): _asks(On.ANYTHING, "ec2:CreatePlacementGroup", "ec2:CreateTags"),
    ("ec2", "DeletePlacementGroup"): _asks(On.GROUP, "ec2:DeletePlacementGroup"),
    ("ec2", "CreateFleet"): (
        *_asks(On.ANYTHING, "ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags"),
        *_asks(On.ROLE, "iam:PassRole"),
    ),
    ("ec2", "TerminateInstances"): _asks(On.INSTANCE, "ec2:TerminateInstances"),
    ("ec2", "CreateImage"): (
        *(Ask("ec2:CreateImage", on) for on in (On.INSTANCE, On.NEW_IMAGE, On.NEW_SNAPSHOT)),
        *_asks(On.ANYTHING, "ec2:CreateTags"),
    ),
    ("ec2", "DeregisterImage"): _asks(On.IMAGE, "ec2:DeregisterImage"),
    ("ec2", "DeleteSnapshot"): _asks(On.SNAPSHOT, "ec2:DeleteSnapshot"),
    ("pricing", "GetProducts"): _asks(On.ANYTHING, "pricing:GetProducts"),
    ("iam", "GetInstanceProfile"): _asks(On.PROFILE, "iam:GetInstanceProfile"),
    ("ssm", "GetParameter"): _asks(On.PARAMETER, "ssm:GetParameter"),
    ("secretsmanager", "GetSecretValue"): _asks(On.SECRET, "secretsmanager:GetSecretValue"),
    ("ecr", "GetAuthorizationToken"): _asks(On.ANYTHING, "ecr:GetAuthorizationToken"),
    # STS answers every caller that has credentials.
    ("sts", "GetCallerIdentity"): (),
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
