"""The agent's request signer, compared with botocore's; and its access to the metadata service."""

import hashlib
import io
import time
import urllib.error
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from provisioner.agent.aws.fetch import endpoint as endpoint_of
from provisioner.agent.aws.fetch import explained, metadata, object_url, signed
from provisioner.core.cloud.partitions import partition
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest

GUEST = Guest("i-1", "g5.xlarge", "ami-1", "eu-west-1", "eu-west-1a", "spot", 0.0, "10.0.0.1", "data", "", "")


#: Credentials in the metadata service's form.
OWN = {"AccessKeyId": "AKIA", "SecretAccessKey": "secret", "Token": ""}

PRINTABLE = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126))


@given(
    method=st.sampled_from(["GET", "PUT"]),
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.text(" +%~:/.=&?#*é", min_size=1),
    bucket=st.sampled_from(["bucket", "dotted.bucket"]),
    token=st.sampled_from(["", "a/token+=="]),
    region=st.sampled_from(["us-east-1", "cn-north-1", "us-gov-west-1"]),
    endpoint=st.sampled_from(["", "http://127.0.0.1:5000", "http://double/with/a/path/"]),
    more=st.dictionaries(st.sampled_from(["if-none-match", "x-amz-checksum-sha256", "x-amz-meta-a"]), PRINTABLE),
    body=st.binary(max_size=100),
)
def test_signatures_for_s3_are_botocores_byte_for_byte(
    method: str, key: str, bucket: str, token: str, region: str, endpoint: str, more: dict[str, str], body: bytes
) -> None:
    """For any key, the headers equal those of AWS's own library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        url = object_url(bucket, key, region)
    same_signature(S3SigV4Auth, "s3", method, url.replace("https://", "http://"), token, region, more, body)


@given(
    service=st.sampled_from(["ssm", "secretsmanager", "ecr"]),
    region=st.sampled_from(["us-east-1", "cn-north-1"]),
    token=st.sampled_from(["", "a/token+=="]),
    target=PRINTABLE,
    body=st.binary(max_size=100),
)
def test_signatures_for_the_other_services_are_botocores_too(
    service: str, region: str, token: str, target: str, body: bytes
) -> None:
    """For any service, target and body, the headers equal botocore's."""
    more = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    same_signature(SigV4Auth, service, "POST", endpoint_of(service, region) + "/", token, region, more, body)


def same_signature(
    kind: type[SigV4Auth],
    service: str,
    method: str,
    url: str,
    token: str,
    region: str,
    more: dict[str, str],
    body: bytes,
) -> None:
    """Assert that the agent's and botocore's signatures of one request are equal."""
    sha256 = hashlib.sha256(body).hexdigest()
    request = AWSRequest(method, url, {**more, "X-Amz-Content-SHA256": sha256}, body)
    kind(BotoCredentials("AKIA", "secret", token or None), service, region).add_auth(request)
    moment = request.context["timestamp"]
    ours = signed(method, url, service, region, {**OWN, "Token": token}, moment, more, sha256)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    assert {name.lower(): value for name, value in ours.items() if name != "host"} == theirs


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """Yield a metadata service for which this process is a machine."""
    service = Metadata(lambda _: Credentials("the-key", "the-secret", "", time.time() + 3600), "role")
    service.start()
    service.add(GUEST)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url("i-1"))
    yield service
    service.close()


@pytest.mark.usefixtures("machine")
def test_metadata_is_read_with_a_token() -> None:
    """An existing path is returned; a missing one is an error that names 404."""
    assert metadata("meta-data/instance-id") == b"i-1"
    with pytest.raises(urllib.error.HTTPError) as missing:
        metadata("meta-data/spot/instance-action")
    assert missing.value.code == 404
    missing.value.close()


def test_denied_key_of_the_bucket_is_named() -> None:
    """Only machines lack it: the control plane could write the agent's archive."""
    body = (
        b"<Error><Code>AccessDenied</Code><Message>User: arn:aws:sts::123456789012:assumed-role/provision-machine/i-1 "
        b"is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because no "
        b"identity-based policy allows the kms:Decrypt action</Message></Error>"
    )
    denied = urllib.error.HTTPError("https://s3", 403, "Forbidden", Message(), io.BytesIO(body))
    with denied:
        told = explained(denied, "2999-01-01T00:00:00Z")
    assert told.startswith("AccessDenied: the machine's role needs kms:Decrypt on the bucket's key: see `kms_keys`")


@pytest.mark.parametrize(
    "region", ["us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1"]
)
@pytest.mark.parametrize(
    ("service", "host"),
    [("ssm", "ssm"), ("secretsmanager", "secretsmanager"), ("ecr", "api.ecr"), ("s3", "s3"), ("sts", "sts")],
)
def test_services_are_where_botocore_says(
    service: str, host: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts are right in every partition. For S3 in us-east-1 the agent uses the regional name, unlike botocore."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("PROVISION_DOMAIN", partition(region).domain)
    client: Any = Session().create_client(service, region, aws_access_key_id="a", aws_secret_access_key="b")
    theirs = client.meta.endpoint_url.replace("//s3.amazonaws", "//s3.us-east-1.amazonaws")
    client.close()
    assert endpoint_of(host, region) == theirs
