"""Read the facts about the installation's bucket. One object is written twice, and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from provisioner.adapters.checks.looking import Looker
from provisioner.adapters.checks.simulation import missing
from provisioner.core.check.bucket import Bucket, Expiry
from provisioner.core.check.keys import FOR_OBJECTS, Key
from provisioner.core.errors import CloudError

#: Codes of a GET for a configuration that was never set (S3 API Reference, "Error responses").
_UNSET = frozenset(
    {
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)


def bucket(looker: Looker, where: str, roles: dict[str, str]) -> Bucket:
    """Return the facts; `roles` has the ARN of each role of machines, by name."""
    name, _, prefix = where.strip("/").partition("/")
    region = looker.look(f"the bucket {name}", "s3:ListBucket", lambda: _region(looker, name), needed=True)
    if region == "":
        return Bucket("", False, False, None, ())
    key = f"{prefix}/check" if prefix else "check"
    return Bucket(
        region=region,
        conditional=looker.look(
            f"the answer to a write to {name}",
            "s3:PutObject or s3:DeleteObject",
            lambda: _conditional(looker, name, f"{key}/{uuid.uuid4().hex}"),
            needed=True,
        ),
        private=looker.look(
            f"whether public access to {name} is blocked",
            "s3:GetBucketPublicAccessBlock",
            lambda: _private(_configuration(looker, name, "get_public_access_block")),
        ),
        key=looker.look(
            f"the encryption of {name}",
            "s3:GetEncryptionConfiguration",
            lambda: _key(looker, _configuration(looker, name, "get_bucket_encryption"), roles),
        ),
        expiries=looker.look(
            f"the lifecycle rules of {name}",
            "s3:GetLifecycleConfiguration",
            lambda: _expiries(_configuration(looker, name, "get_bucket_lifecycle_configuration")),
        ),
    )


def _region(looker: Looker, name: str) -> str:
    """Return the bucket's region, or "" if it does not exist.

    S3 names the region in its answer also if the caller may not list the bucket, or asked in another region (API
    Reference, "HeadBucket").
    """
    from botocore.exceptions import ClientError

    def head() -> Any:
        try:
            return looker.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            if _header(error.response):
                return error.response
            raise

    try:
        return _header(looker.calls.repeat(head)) or looker.session.region
    except CloudError as error:
        if error.code in ("404", "NoSuchBucket"):
            return ""
        raise


def _header(answer: Any) -> str:
    said = answer["ResponseMetadata"]
    found = said.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    return str(found) if said.get("HTTPStatusCode") != 404 else ""


def _conditional(looker: Looker, name: str, key: str) -> bool:
    """Write an empty object twice under the condition that it does not exist; return whether the second is refused."""
    put: Callable[[], Any] = lambda: looker.ask("s3", "put_object", Bucket=name, Key=key, Body=b"", IfNoneMatch="*")  # noqa: E731
    put()
    try:
        put()
    except CloudError as error:
        if error.code != "PreconditionFailed":
            raise
        return True
    finally:
        looker.ask("s3", "delete_objects", Bucket=name, Delete={"Objects": [{"Key": key}], "Quiet": True})
    return False


def _configuration(looker: Looker, name: str, operation: str) -> Any:
    """Return a part of the bucket's configuration; {} if it was never set."""
    try:
        return looker.ask("s3", operation, Bucket=name)
    except CloudError as error:
        if error.code in _UNSET:
            return {}
        raise


def _private(said: Any) -> bool:
    blocked = said.get("PublicAccessBlockConfiguration", {})
    parts = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return all(blocked.get(part) for part in parts)


def _key(looker: Looker, said: Any, roles: dict[str, str]) -> Key | None:
    rules = said.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    found = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID", "") for rule in rules]
    own = next((id for id in found if id and not id.endswith("alias/aws/s3")), None)
    return Key(own, missing(looker, roles, FOR_OBJECTS, own)) if own else None


def _expiries(said: Any) -> tuple[Expiry, ...]:
    found = []
    for rule in said.get("Rules", []):
        limit = rule.get("Filter", {})
        prefix = limit.get("Prefix") or limit.get("And", {}).get("Prefix") or rule.get("Prefix") or ""
        days = rule.get("Expiration", {}).get("Days")
        if rule["Status"] == "Enabled" and days:
            found.append(Expiry(rule.get("ID", "without a name"), prefix, days))
    return tuple(found)
