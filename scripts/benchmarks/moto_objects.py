"""Answer the double's most frequent calls of S3 fast, on moto's own objects."""

import base64
import bisect
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from provisioner.rehearsal.aws.account import ID
from provisioner.rehearsal.aws.wire import Answer
from provisioner.rehearsal.server import Server


def answer_quickly() -> None:
    """Answer the most frequent calls of S3 without moto: S3 does not share a processor with the control plane.

    The time of a listing depends on the size of its page, and the time of a read on its range, as in S3.
    """
    from moto.s3 import models

    # moto has no public API for a bucket's keys.
    class SortedKeys(models._VersionedKeyStore):  # type: ignore[misc, name-defined]  # noqa: SLF001
        """A bucket's objects by key, and their keys in order."""

        def __init__(self) -> None:
            super().__init__()
            self._names: list[str] = []
            self._changing = threading.Lock()

        def __setitem__(self, key: str, value: Any) -> None:
            self._add(key)
            super().__setitem__(key, value)

        def setlist(self, key: Any, list_: Any) -> None:
            self._add(key)
            super().setlist(key, list_)

        def pop(self, key: str) -> None:
            super().pop(key)
            self._remove(key)

        def rename(self, key: str, to: str) -> None:
            self._add(to)
            dict.__setitem__(self, to, dict.pop(self, key))
            self._remove(key)

        def page(self, prefix: str, after: str, count: int) -> list[Any]:
            """Return the first `count` objects whose keys have the prefix and come after `after`."""
            found: list[Any] = []
            with self._changing:
                at = max(bisect.bisect_left(self._names, prefix), bisect.bisect_right(self._names, after))
                while len(found) < count and at < len(self._names) and self._names[at].startswith(prefix):
                    # While an object is being deleted, its name is still here but its value is gone.
                    found += [each for each in [self.get(self._names[at])] if each]
                    at += 1
            return found

        def _add(self, key: str) -> None:
            with self._changing:
                at = bisect.bisect_left(self._names, key)
                if self._names[at : at + 1] != [key]:
                    self._names.insert(at, key)

        def _remove(self, key: str) -> None:
            with self._changing:
                at = bisect.bisect_left(self._names, key)
                if self._names[at : at + 1] == [key]:
                    del self._names[at]

    setattr(models, "_VersionedKeyStore", SortedKeys)  # noqa: B010 - mypy refuses to assign to a class
    ask_moto = Server._ask_moto  # noqa: SLF001 - the place at which every call to moto passes

    def answer(self: Server, environ: dict[str, Any], request: Any, call: Any) -> Answer:
        found = None
        if call.action == "ListObjectsV2" and "delimiter" not in call.parameters:
            found = _listed(call.parameters)
        elif call.action == "GetObject":
            found = _content_of(call.parameters)
        return found or ask_moto(self, environ, request, call)

    setattr(Server, "_ask_moto", answer)  # noqa: B010 - nor to a method


def _listed(asked: Mapping[str, Any]) -> Answer:
    """Return the page of a listing. A token is the last key of the page before."""
    most = int(asked.get("max-keys", 1000))
    after = base64.b64decode(asked.get("continuation-token", "")).decode() or asked.get("start-after", "")
    found = objects().buckets[asked["Bucket"]].keys.page(asked.get("prefix", ""), after, most + 1)
    page = found[:most]
    token = base64.b64encode(page[-1].name.encode()).decode() if len(found) > most else ""
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    entries = "".join(
        f"<Contents><Key>{quote(each.name)}</Key><LastModified>{each.last_modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f"<Size>{each.contentsize}</Size></Contents>"
        for each in page
    )
    told = f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated><EncodingType>url</EncodingType>{following}{entries}"
    text = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{told}</ListBucketResult>'
    return Answer(200, (("Content-Type", "application/xml"),), text.encode())


def _content_of(asked: Mapping[str, Any]) -> Answer | None:
    """Return the range of an object; None for another request than for an existing range of an existing object."""
    key = objects().buckets[asked["Bucket"]].keys.get(asked["Key"])
    wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.get("Range", ""))
    if key is None or wanted is None or int(wanted[1]) >= key.contentsize:
        return None
    start, end = int(wanted[1]), min(int(wanted[2]), key.contentsize - 1)
    with key.lock:
        try:
            key._value_buffer.seek(start)  # noqa: SLF001 - moto has no public API for a part of an object
            data = key._value_buffer.read(end + 1 - start)  # noqa: SLF001
        except ValueError:
            # The object was deleted meanwhile, so moto has closed its buffer.
            return None
    headers = (("ETag", '"0"'), ("Content-Range", f"bytes {start}-{end}/{key.contentsize}"))
    return Answer(206, headers, bytes(data))


def objects() -> Any:
    """Return moto's S3 backend, which has the double's objects."""
    from moto.s3.models import s3_backends

    return s3_backends[ID]["aws"]
