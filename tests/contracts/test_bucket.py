"""The contract of `ports/bucket.py`, for the in-memory bucket and for the S3 adapter on two servers."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import boto3
import pytest

from provisioner.adapters.aws import Session
from provisioner.adapters.s3 import S3
from provisioner.core.errors import NotFound
from provisioner.ports.bucket import Bucket
from provisioner.rehearsal.fakes.bucket import MemoryBucket

REGION = "us-east-1"

#: Keys as the system uses them (a mailbox id has a colon), and keys that a hostile job could choose.
ODD_KEYS = ("machines/AROA1:i-0abc/work", "with space", "plus+and%2Fpercent", "ünïcode-中", "quote'\"<&>")


@pytest.fixture(params=["memory", "moto", "seaweed"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    if request.param == "memory":
        yield MemoryBucket()
        return
    url = request.getfixturevalue(f"{request.param}_url")
    # On moto each test has its own bucket; on SeaweedFS a prefix of a bucket with other tests' objects.
    name = f"test-{uuid.uuid4().hex}" if request.param == "moto" else f"ready/{uuid.uuid4().hex}"
    if request.param == "moto":
        with closing(boto3.client("s3", endpoint_url=url, region_name=REGION)) as client:
            client.create_bucket(Bucket=name)
    else:
        with closing(S3(f"{name}X", Session(REGION, url))) as neighbour:
            neighbour.put("key", b"a neighbour's")
    # Pages of two entries, so that every listing here has several pages.
    with closing(S3(name, Session(REGION, url), page=2)) as s3:
        yield s3


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)) * 5000], ids=["empty", "text", "binary"])
def test_what_was_put_is_what_is_got(bucket: Bucket, data: bytes) -> None:
    """An object comes back byte for byte."""
    assert bucket.put("a/key", data) is True
    assert bucket.get("a/key") == data


def test_a_missing_object_is_none(bucket: Bucket) -> None:
    """No object is None, never an error and never empty bytes."""
    bucket.put("present", b"")
    assert bucket.get("absent") is None
    assert bucket.get("present") == b""


@pytest.mark.parametrize(
    ("start", "length", "found"),
    [
        (0, 4, b"0123"),
        (0, 10, b"0123456789"),
        (0, 11, b"0123456789"),
        (3, 4, b"3456"),
        (8, 4, b"89"),
        (9, None, b"9"),
        (10, 4, b""),
        (11, None, b""),
    ],
)
def test_a_range_is_read_and_no_more(bucket: Bucket, start: int, length: int | None, found: bytes) -> None:
    """The answer has at most `length` bytes from `start`; past the end it is empty."""
    bucket.put("key", b"0123456789")
    assert bucket.get("key", start=start, length=length) == found


def test_a_range_of_an_empty_object_is_empty(bucket: Bucket) -> None:
    """The object is there, so the answer is not None."""
    bucket.put("empty", b"")
    assert bucket.get("empty", length=1) == b""


def test_a_range_of_a_missing_object_is_none(bucket: Bucket) -> None:
    """A range does not change the answer for a missing object."""
    assert bucket.get("absent", start=1, length=1) is None


def test_put_replaces(bucket: Bucket) -> None:
    """Without a condition the last write is the object."""
    bucket.put("key", b"first")
    assert bucket.put("key", b"second") is True
    assert bucket.get("key") == b"second"


def test_put_if_absent_never_replaces(bucket: Bucket) -> None:
    """The first conditional write wins; the second returns False and changes nothing."""
    assert bucket.put("key", b"first", if_absent=True) is True
    assert bucket.put("key", b"second", if_absent=True) is False
    assert bucket.get("key") == b"first"


def test_one_of_many_conditional_writers_wins(bucket: Bucket) -> None:
    """Exactly one of many simultaneous conditional writers gets True, and its data is stored."""
    start = threading.Barrier(8)

    def write(number: int) -> bool:
        start.wait(timeout=30)
        return bucket.put("key", str(number).encode(), if_absent=True)

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(write, range(8)))
    assert sum(won) == 1
    assert bucket.get("key") == str(won.index(True)).encode()


def test_list_is_in_order_and_whole(bucket: Bucket) -> None:
    """A listing has exactly the keys with its prefix, sorted, from all pages."""
    keys = [f"run/{number:03}" for number in range(7)]
    for key in [*reversed(keys), "runs", "other/1", "run"]:
        bucket.put(key, b"x")
    assert [entry.key for entry in bucket.list("run/")] == keys
    assert [entry.key for entry in bucket.list("")] == sorted([*keys, "runs", "other/1", "run"])
    assert list(bucket.list("nothing/")) == []


def test_list_goes_on_after_a_key(bucket: Bucket) -> None:
    """`after` omits that key and all keys before it, whether it exists or not."""
    for number in range(5):
        bucket.put(f"run/{number}", b"x")
    assert [entry.key for entry in bucket.list("run/", after="run/1")] == ["run/2", "run/3", "run/4"]
    assert [entry.key for entry in bucket.list("run/", after="run/1x")] == ["run/2", "run/3", "run/4"]
    assert list(bucket.list("run/", after="run/9")) == []


def test_an_entry_tells_its_size(bucket: Bucket) -> None:
    """An entry has the object's size in bytes."""
    bucket.put("key", b"12345")
    assert [(entry.key, entry.size) for entry in bucket.list("key")] == [("key", 5)]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_are_keys(bucket: Bucket, key: str) -> None:
    """Any key works in every method."""
    bucket.put(key, b"odd")
    assert bucket.get(key) == b"odd"
    assert [entry.key for entry in bucket.list(key[:3])] == [key]
    bucket.copy(key, f"copy of {key}")
    assert bucket.get(f"copy of {key}") == b"odd"
    bucket.delete([key])
    assert bucket.get(key) is None


def test_copy_leaves_the_source(bucket: Bucket) -> None:
    """A copy is a second object and replaces the target."""
    bucket.put("source", b"data")
    bucket.put("target", b"old")
    bucket.copy("source", "target")
    assert (bucket.get("source"), bucket.get("target")) == (b"data", b"data")


def test_copy_without_a_source_is_not_found(bucket: Bucket) -> None:
    """A missing source raises NotFound, and the target is unchanged."""
    bucket.put("target", b"old")
    with pytest.raises(NotFound):
        bucket.copy("source", "target")
    assert bucket.get("target") == b"old"


def test_delete_removes_only_the_given_keys(bucket: Bucket) -> None:
    """Only the given keys are deleted; missing keys are no error, and a repetition is harmless."""
    for key in ("a", "b", "c"):
        bucket.put(key, b"x")
    for _ in range(2):
        bucket.delete(["a", "b", "never there"])
    bucket.delete([])
    assert [entry.key for entry in bucket.list("")] == ["c"]
