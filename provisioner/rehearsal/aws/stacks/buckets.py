"""Create, configure and delete the bucket of a stack."""

from collections.abc import Callable, Mapping
from typing import Any

from provisioner.rehearsal.aws.stacks.services import Services

Properties = Mapping[str, Any]


def create_bucket(api: Services, properties: Properties) -> str:
    name = str(properties["BucketName"])
    region = api.region
    # S3 API, CreateBucket: us-east-1 must not be named.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    api("s3", "create_bucket", Bucket=name, **place)
    configure_bucket(api, name, properties, {})
    return name


def configure_bucket(api: Services, name: str, new: Properties, old: Properties) -> None:
    for key, configure in _CONFIGURE.items():
        if key in new and new[key] != old.get(key):
            configure(api, name, new[key])


def delete_bucket(api: Services, name: str, _: Properties) -> None:
    api("s3", "delete_bucket", Bucket=name)


def bucket_exists(api: Services, name: str, _: Properties) -> Any:
    return api("s3", "head_bucket", Bucket=name)


def _encryption(api: Services, name: str, value: Properties) -> None:
    rules = [
        {"ApplyServerSideEncryptionByDefault": one["ServerSideEncryptionByDefault"]}
        for one in value["ServerSideEncryptionConfiguration"]
    ]
    api("s3", "put_bucket_encryption", Bucket=name, ServerSideEncryptionConfiguration={"Rules": rules})


def _lifecycle(api: Services, name: str, value: Properties) -> None:
    rules = []
    for one in value["Rules"]:
        rule = {"ID": one["Id"], "Status": one["Status"], "Filter": {"Prefix": one.get("Prefix", "")}}
        if "ExpirationInDays" in one:
            rule["Expiration"] = {"Days": one["ExpirationInDays"]}
        if "AbortIncompleteMultipartUpload" in one:
            rule["AbortIncompleteMultipartUpload"] = one["AbortIncompleteMultipartUpload"]
        rules.append(rule)
    api("s3", "put_bucket_lifecycle_configuration", Bucket=name, LifecycleConfiguration={"Rules": rules})


def _public(api: Services, name: str, value: Properties) -> None:
    api("s3", "put_public_access_block", Bucket=name, PublicAccessBlockConfiguration=value)


def _ownership(api: Services, name: str, value: Properties) -> None:
    api("s3", "put_bucket_ownership_controls", Bucket=name, OwnershipControls=value)


def _tags(api: Services, name: str, value: Any) -> None:
    api("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": value})


_CONFIGURE: Mapping[str, Callable[[Services, str, Any], None]] = {
    "BucketEncryption": _encryption,
    "LifecycleConfiguration": _lifecycle,
    "OwnershipControls": _ownership,
    "PublicAccessBlockConfiguration": _public,
    "Tags": _tags,
}
