"""The agent's own signer, held against botocore's; and its way to the metadata service."""

import time
import urllib.error
from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.fetch import metadata, object_url, signed
from provisioner.rehearsal.host import Guest
from provisioner.rehearsal.metadata import Credentials, Metadata

GUEST = Guest("i-1", "g5.xlarge", "ami-1", "eu-west-1", "eu-west-1a", "spot", 0.0, "10.0.0.1", "data", "", "")


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=20),
    token=st.sampled_from(["", "a/token+=="]),
    region=st.sampled_from(["us-east-1", "cn-north-1"]),
)
def test_signatures_are_botocores_byte_for_byte(key: str, token: str, region: str) -> None:
    """Whatever the key, the headers are those that AWS's own library would send."""
    url = object_url("bucket", f"agent/{key}", region)
    request = AWSRequest("GET", url.replace("https://", "http://"))
    signer = S3SigV4Auth(BotoCredentials("AKIA", "secret", token or None), "s3", region)
    request.context["timestamp"] = "to be set by add_auth"
    signer.add_auth(request)
    ours = signed(url, region, "AKIA", "secret", token, request.context["timestamp"])
    assert ours["Authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """A metadata service, and this process in the place of its machine."""
    service = Metadata(lambda _: Credentials("the-key", "the-secret", "", time.time() + 3600), "role")
    service.start()
    service.add(GUEST)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url("i-1"))
    yield service
    service.close()


@pytest.mark.usefixtures("machine")
def test_metadata_is_read_with_a_token() -> None:
    """What is there comes back; what is not is an error that names 404."""
    assert metadata("meta-data/instance-id") == b"i-1"
    with pytest.raises(urllib.error.HTTPError) as missing:
        metadata("meta-data/spot/instance-action")
    assert missing.value.code == 404
    missing.value.close()
