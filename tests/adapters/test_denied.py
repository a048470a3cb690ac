"""Errors for missing rights and missing things name the right or the setting."""

import botocore.exceptions
import pytest

from provisioner.adapters import aws, s3
from provisioner.adapters.ec2 import codes
from provisioner.core import errors


def _failed(
    operation: str, code: str, translate: aws.Translate, where: str = "", message: str = "Access Denied"
) -> errors.CloudError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = botocore.exceptions.ClientError(answer, operation)  # type: ignore[arg-type]
    return aws.failure(error, translate, lost=errors.Transient, where=where)


@pytest.mark.parametrize(
    ("operation", "code", "right"),
    [
        ("ListObjectsV2", "AccessDenied", "s3:ListBucket"),
        ("CopyObject", "AccessDenied", "s3:GetObject and s3:PutObject"),
        ("GetInstanceProfile", "AccessDenied", "iam:GetInstanceProfile"),
        ("CreateFleet", "UnauthorizedOperation", "ec2:CreateFleet"),
        ("CreatePlacementGroup", "UnauthorizedOperation", "ec2:CreatePlacementGroup"),
    ],
)
def test_denied_call_names_the_right_to_add(operation: str, code: str, right: str) -> None:
    error = _failed(operation, code, s3.translate, " on bucket b")
    assert isinstance(error, errors.Misconfigured)
    assert f"{operation} on bucket b is denied: the control plane's role needs {right}" in str(error)


def test_denied_key_of_the_bucket_is_named() -> None:
    """The right of S3 itself is not missing. The message has the form of AWS's."""
    message = (
        "User: arn:aws:sts::123456789012:assumed-role/provision-control/i-1 is not authorized to perform: "
        "kms:GenerateDataKey on resource: arn:aws:kms:us-east-1:123456789012:key/1 because no identity-based policy "
        "allows the kms:GenerateDataKey action"
    )
    text = str(_failed("PutObject", "AccessDenied", s3.translate, " on bucket b", message))
    assert "role needs kms:GenerateDataKey, see `provision iam control` and `kms_keys` in the settings" in text


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        ("InvalidAMIID.NotFound", "image"),
        ("InvalidSubnetID.NotFound", "subnets"),
        ("InvalidGroup.NotFound", "security_groups"),
    ],
)
def test_missing_thing_names_its_setting(code: str, setting: str) -> None:
    assert f"correct `{setting}` in the settings" in str(codes.translate(code, "it does not exist"))


def test_unreachable_endpoint_is_named() -> None:
    error = botocore.exceptions.EndpointConnectionError(
        endpoint_url="https://ec2.example.com/", error=OSError("refused")
    )
    told = aws.failure(error, codes.translate, lost=errors.Transient)
    assert "cannot reach AWS at https://ec2.example.com/" in str(told)
