"""The HTTP statuses that a machine's requests get."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.rehearsal.conftest import Rig

ME, OTHER = "i-0aaaaaaaaaaaaaaa1", "i-0bbbbbbbbbbbbbbb2"


def box(rig: Rig, instance_id: str = ME) -> str:
    return f"{rig.double.account.role_id}:{instance_id}"


def status(call: Callable[[], Any]) -> int:
    """Return 200, or the status of the error."""
    try:
        call()
    except ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return 200


def attempt(rig: Rig, method: str, key: str) -> int:
    """Return the status of the machine's request; for "get" the object exists."""
    bucket = rig.double.bucket
    s3 = rig.client("s3", ME)
    if method == "get":
        rig.client("s3").put_object(Bucket=bucket, Key=key, Body=b"x")
        return status(lambda: s3.get_object(Bucket=bucket, Key=key))
    if method == "put":
        return status(lambda: s3.put_object(Bucket=bucket, Key=key, Body=b"x"))
    return status(lambda: s3.delete_object(Bucket=bucket, Key=key))
