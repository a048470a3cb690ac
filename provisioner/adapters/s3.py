"""Implement the `Bucket` port on Amazon S3, or on a server with the same protocol. Thread-safe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from provisioner.adapters import aws, credentials
from provisioner.core import errors
from provisioner.core.errors import CloudError
from provisioner.ports.bucket import Entry

#: S3's error codes (S3 API Reference, "Error responses"); a code that is not in this table is `Misconfigured`.
CODES: Mapping[str, type[CloudError]] = {
    **aws.PASSING,
    # Another conditional request for this key is under way: S3 asks clients to retry.
    "ConditionalRequestConflict": errors.Transient,
    "OperationAborted": errors.Transient,
}

#: Maximum number of keys that one DeleteObjects call accepts.
BATCH = 1000
#: Bytes per read of content that is discarded.
BLOCK = 1 << 20


def translate(code: str, message: str) -> CloudError:
    return credentials.rejected(code, message) or CODES.get(code, errors.Misconfigured)(message, code)


class S3:
    def __init__(
        self,
        bucket: str,
        session: aws.Session,
        *,
        calls: aws.Calls | None = None,
        page: int = 1000,
    ) -> None:
        """`bucket` is `name` or `name/prefix`; `page` is how many entries one call lists, at most S3's 1,000."""
        self._page = page
        self._name, _, prefix = bucket.strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._calls = calls or aws.Calls(translate, where=f" on bucket {self._name}", session=session)
        self._session = session

    def close(self) -> None:
        self._session.close()

    @property
    def _s3(self) -> Any:
        return self._session.client("s3")

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            self._calls.repeat(self._s3.put_object, Bucket=self._name, Key=self._prefix + key, Body=data, **condition)
        except CloudError as error:
            if error.code != "PreconditionFailed":
                raise
            return False
        return True

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        try:
            return self._calls.repeat(self._read, self._prefix + key, start, length)
        except CloudError as error:
            if error.code == "InvalidRange":
                # S3 answers 416 to a range that begins at or after the end of the object, also of an empty object.
                return b""
            # Not every 404 is a missing object: the bucket itself may be missing.
            if error.code != "NoSuchKey":
                raise
            return None

    def _read(self, key: str, start: int, length: int | None) -> bytes:
        wanted: dict[str, str] = {}
        if start or length is not None:
            wanted["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        answer = self._s3.get_object(Bucket=self._name, Key=key, **wanted)
        with answer["Body"] as body:
            # Every object has an ETag (API Reference, "GetObject"), so an answer without an ETag is no object, not even
            # an empty one.
            with aws.reading("GetObject"):
                _ = answer["ETag"]
            # A server may ignore Range (RFC 9110, section 14.2) and send the object from its beginning: skip these
            # bytes in blocks, so that a large object does not fill the memory.
            if start and "ContentRange" not in answer:
                for skipped in range(0, start, BLOCK):
                    body.read(min(BLOCK, start - skipped))
            return bytes(body.read(length))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        page: dict[str, Any] = {"MaxKeys": self._page}
        if after:
            page["StartAfter"] = self._prefix + after
        while True:
            answer = self._calls.repeat(
                self._s3.list_objects_v2, Bucket=self._name, Prefix=self._prefix + prefix, **page
            )
            with aws.reading("ListObjectsV2"):
                entries = [
                    Entry(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"].timestamp())
                    for item in answer.get("Contents", ())
                ]
                following = answer["NextContinuationToken"] if answer["IsTruncated"] else None
            yield from entries
            if following is None:
                return
            page["ContinuationToken"] = following

    def copy(self, source: str, target: str) -> None:
        try:
            self._calls.repeat(
                self._s3.copy_object,
                Bucket=self._name,
                Key=self._prefix + target,
                CopySource={"Bucket": self._name, "Key": self._prefix + source},
            )
        except CloudError as error:
            if error.code != "NoSuchKey":
                raise
            raise errors.NotFound(f"{source} is not in the bucket, so there is nothing to copy") from error

    def delete(self, keys: Collection[str]) -> None:
        ordered = sorted(set(keys))
        for start in range(0, len(ordered), BATCH):
            self._calls.repeat(self._delete, [self._prefix + key for key in ordered[start : start + BATCH]])

    def _delete(self, keys: Collection[str]) -> None:
        answer = self._s3.delete_objects(
            Bucket=self._name, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        for failed in answer.get("Errors", ()):
            raise translate(failed.get("Code", ""), f"{failed.get('Message', '')} ({failed.get('Key', '')})")
