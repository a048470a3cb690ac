"""The agent's S3 client with a role's credentials, against a server that checks signatures and checksums."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest

from provisioner.agent.aws.client import S3, ServiceError
from provisioner.agent.aws.http import NoAnswer
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest
from tests.contracts.conftest import REGION, ROLE, signed_anew

GUEST = Guest("i-1", "g5.xlarge", "ami-1", REGION, "us-east-1a", "spot", 0.0, "10.0.0.1", "data", "", "")


@dataclass
class Machine:
    """A machine whose metadata service returns these credentials."""

    credentials: Credentials
    bucket: str
    s3: S3


@pytest.fixture
def machine(seaweed_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give this process the metadata service of a machine with a role's credentials."""
    bucket = f"mailboxes-{uuid.uuid4().hex}"
    boto = boto3.client("s3", endpoint_url=seaweed_url, region_name=REGION)
    boto.create_bucket(Bucket=bucket)
    boto.close()
    metadata = Metadata(lambda _: made.credentials, "role")
    metadata.start()
    metadata.add(GUEST)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url("i-1"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed_url)
    made = Machine(assumed(seaweed_url), bucket, S3(bucket, REGION))
    yield made
    made.s3.close()
    metadata.close()


def assumed(url: str) -> Credentials:
    """Return new credentials of the role from the server's STS."""
    sts: Any = boto3.client("sts", endpoint_url=url, region_name=REGION)
    told = sts.assume_role(RoleArn=ROLE, RoleSessionName="i-1")["Credentials"]
    sts.close()
    ends = told["Expiration"].timestamp()
    return Credentials(told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"], ends)


@pytest.mark.parametrize(
    "key", ["plain", "a b+c%20d~e:f=g&h?i#j*k'l(m)", "machines/AROA:i-1/log/0", "ä/€/日本", "a//b"]
)
def test_what_is_put_is_got(machine: Machine, key: str) -> None:
    """Any bytes under any key are returned unchanged."""
    for data in (b"", b"\0\r\n\r\n", os.urandom(3 << 20)):
        machine.s3.put(key, data)
        assert machine.s3.get(key) == data


def test_second_conditional_put_fails_with_412(machine: Machine) -> None:
    """A second conditional put fails with 412; a plain put replaces the object."""
    machine.s3.put("started", b"first", once=True)
    with pytest.raises(ServiceError) as caught:
        machine.s3.put("started", b"second", once=True)
    assert caught.value.status == 412
    assert machine.s3.get("started") == b"first"
    machine.s3.put("started", b"third")
    assert machine.s3.get("started") == b"third"


def test_bytes_that_changed_on_the_way_are_refused(machine: Machine) -> None:
    """The client signs the checksum, and the server compares it with the received bytes."""
    with pytest.raises(ServiceError) as caught:
        machine.s3.put("chunk", b"0utput", hashlib.sha256(b"output").hexdigest())
    assert caught.value.status == 400
    with pytest.raises(ServiceError, match="NoSuchKey"):
        machine.s3.get("chunk")


def test_missing_key_is_404_and_foreign_bucket_403(machine: Machine) -> None:
    """Both codes can mean that the object does not exist yet."""
    with pytest.raises(ServiceError) as missing:
        machine.s3.get("missing")
    assert (missing.value.status, missing.value.code) == (404, "NoSuchKey")
    other = S3("ready", REGION)
    with pytest.raises(ServiceError) as denied:
        other.get("ready")
    assert (denied.value.status, denied.value.code) == (403, "AccessDenied")
    other.close()


@pytest.mark.parametrize("change", [{"secret_key": "another"}, {"token": "another"}, {"access_key": "ASIAANOTHER"}])
def test_wrong_credentials_are_named(machine: Machine, change: dict[str, str]) -> None:
    """The error must not look like a missing object."""
    machine.credentials = replace(machine.credentials, **change)  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId") as caught:
        machine.s3.get("key")
    assert caught.value.status == 403


def test_credentials_that_expire_are_renewed(machine: Machine, seaweed_url: str) -> None:
    """The credentials expire earlier than promised; the client renews them without an error."""
    machine.s3.put("key", b"1")
    late = S3(machine.bucket, REGION)
    good = machine.credentials
    machine.credentials = replace(good, token=signed_anew(good.token, int(time.time()) - 60))
    with pytest.raises(ServiceError):
        late.get("key")
    machine.credentials = assumed(seaweed_url)
    assert late.get("key") == b"1"
    late.put("key", b"2")
    assert machine.s3.get("key") == b"2"
    late.close()


def test_a_clock_that_is_wrong_is_set(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is off by more than the 15 minutes that S3 and this server allow."""
    now = time.time
    for seconds in (-7200, 7200):
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda by=seconds: now() + by)
            s3 = S3(machine.bucket, REGION)
            s3.put("key", b"1")
            assert s3.get("key") == b"1"
            s3.close()


def test_unreachable_server_raises_no_answer(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable server is a transient error."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NoAnswer, match=r"no usable response from 127.0.0.1:9: .*refused"):
        S3(machine.bucket, REGION).get("key")
