"""The S3 adapter's handling of failures on the wire."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from provisioner.adapters import aws
from provisioner.adapters.s3 import S3, translate
from provisioner.core import errors
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from provisioner.rehearsal.double import Double


@pytest.fixture
def s3(double: Double) -> Iterator[S3]:
    # Configured by the environment only, as in production.
    made = S3(double.bucket, aws.Session(double.region), calls=aws.Calls(translate, first_wait=0))
    yield made
    made.close()


def fault(double: Double, action: str, effect: Effect = Effect.ERROR, **more: object) -> None:
    double.faults.add(Rule(effect, service="s3", action=action, **more))  # type: ignore[arg-type]


def test_a_passing_fault_is_waited_out(double: Double, s3: S3) -> None:
    """Every method is idempotent, and is retried."""
    s3.put("a", b"1")
    for action in ("PutObject", "GetObject", "CopyObject", "DeleteObjects", "ListObjectsV2"):
        fault(double, action, code="SlowDown", status=503, times=1)
        fault(double, action, Effect.RESET, times=1)
    s3.put("a", b"2")
    s3.copy("a", "b")
    assert s3.get("b") == b"2"
    s3.delete(["a"])
    assert [entry.key for entry in s3.list("")] == ["b"]


def test_lasting_throttling_raises_throttled(double: Double, s3: S3) -> None:
    """The last try raises the cause."""
    fault(double, "GetObject", code="SlowDown", status=503)
    with pytest.raises(errors.Throttled):
        s3.get("a")


def test_a_conflict_of_conditional_writes_is_settled(double: Double, s3: S3) -> None:
    """A 409 means that another write is in progress, not that it won: the next try gives the answer."""
    fault(double, "PutObject", code="ConditionalRequestConflict", status=409, times=2)
    assert s3.put("a", b"1", if_absent=True) is True
    fault(double, "PutObject", code="ConditionalRequestConflict", status=409, times=2)
    assert s3.put("a", b"2", if_absent=True) is False


def test_a_lost_answer_may_make_our_own_write_look_foreign(double: Double, s3: S3) -> None:
    """The write succeeded. A caller that must know whose write it was reads the object."""
    fault(double, "PutObject", Effect.RESET, when=When.AFTER, times=1)
    assert s3.put("a", b"mine", if_absent=True) is False
    assert s3.get("a") == b"mine"


def test_what_is_forbidden_is_not_missing(double: Double, s3: S3) -> None:
    """A 403 is never treated as a missing object."""
    fault(double, "*Object", code="AccessDenied", status=403)
    for ask in (lambda: s3.get("a"), lambda: s3.put("a", b""), lambda: s3.put("a", b"", if_absent=True)):
        with pytest.raises(errors.Misconfigured, match="AccessDenied"):
            ask()


def test_a_missing_bucket_is_not_a_missing_object(double: Double, s3: S3) -> None:
    """A wrong bucket in the settings is an error, not an empty bucket."""
    fault(double, "GetObject", code="NoSuchBucket", status=404)
    with pytest.raises(errors.Misconfigured, match="NoSuchBucket"):
        s3.get("a")


def test_empty_answer_is_neither_an_empty_listing_nor_an_empty_object(double: Double, s3: S3) -> None:
    """A 200 without content is a transient fault."""
    s3.put("a", b"1")
    fault(double, "ListObjectsV2", Effect.EMPTY)
    fault(double, "GetObject", Effect.EMPTY)
    for ask in (lambda: list(s3.list("")), lambda: s3.get("a")):
        with pytest.raises(errors.Transient) as raised:
            ask()
        assert raised.value.code == aws.UNREADABLE
    del raised
    # An unclosed connection raises a warning here, and a warning fails the test.
    gc.collect()


def test_an_object_that_could_not_be_deleted_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeleteObjects answers 200 with the failures inside (API Reference): a mailbox must not count as emptied."""
    session = aws.Session("us-east-1")
    failed = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "Access Denied"}]}
    monkeypatch.setattr(session, "client", lambda *_: SimpleNamespace(delete_objects=lambda **_: failed))
    with pytest.raises(errors.Misconfigured, match="a"):
        S3("bucket", session, calls=aws.Calls(translate, first_wait=0)).delete(["a"])
