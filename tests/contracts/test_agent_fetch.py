"""The fetch of the agent from a server that checks signatures."""

import hashlib
import time
from collections.abc import Iterator

import boto3
import pytest

from provisioner.agent.aws.fetch import fetch
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest

GUEST = Guest("i-1", "g5.xlarge", "ami-1", "us-east-1", "us-east-1a", "spot", 0.0, "10.0.0.1", "data", "", "")
KEY = "agent/a b.zip"


@pytest.fixture
def secrets() -> list[str]:
    """Return a list whose last item is the machine's secret key."""
    return ["secret"]


@pytest.fixture
def bucket(seaweed_url: str, secrets: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a bucket with an agent; this process has a machine's metadata service."""
    client = boto3.client("s3", endpoint_url=seaweed_url, region_name="us-east-1")
    client.create_bucket(Bucket="agents")
    client.put_object(Bucket="agents", Key=KEY, Body=b"the agent")
    client.close()
    service = Metadata(lambda _: Credentials("AKIATEST", secrets[-1], "", time.time() + 3600), "role")
    service.start()
    service.add(GUEST)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url("i-1"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed_url)
    yield "agents"
    service.close()


def test_the_agent_is_given_to_the_right_signature_alone(bucket: str, secrets: list[str]) -> None:
    """The expected bytes are returned, other bytes raise an error, and a wrong signature is denied."""
    sha256 = hashlib.sha256(b"the agent").hexdigest()
    assert fetch(bucket, KEY, "us-east-1", sha256) == b"the agent"
    with pytest.raises(ValueError, match="expected SHA-256 checksum"):
        fetch(bucket, KEY, "us-east-1", "0" * 64)
    secrets.append("another secret")
    with pytest.raises(OSError, match="403 SignatureDoesNotMatch"):
        fetch(bucket, KEY, "us-east-1", sha256)
