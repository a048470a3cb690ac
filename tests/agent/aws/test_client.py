"""The agent's AWS client against servers that fail; its error messages are those of botocore."""

import base64
import datetime as dt
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from provisioner.agent.aws import http
from provisioner.agent.aws.client import S3, Service, ServiceError
from provisioner.agent.aws.http import NoAnswer
from tests.agent.wire import GUEST, Given, Reply, Script, certified, given, reply, served

REGION = "us-east-1"

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[Given]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with given() as made:
        yield made


@pytest.fixture
def script() -> Iterator[Script]:
    with served(Script()) as made:
        yield made


@pytest.fixture
def s3(script: Script) -> Iterator[S3]:
    assert script.url
    made = S3("bucket", REGION)
    yield made
    made.close()


@pytest.fixture
def ssm(script: Script) -> Iterator[Service]:
    assert script.url
    made = Service("ssm", REGION)
    yield made
    made.close()


def error(code: str, message: str = "m") -> bytes:
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def test_connection_is_reused(script: Script, s3: S3) -> None:
    """The client opens one connection and reuses it, even after an error."""
    script.replies = [reply(200, b"one"), reply(404, error("NoSuchKey")), reply(200), reply(200, b"two")]
    assert s3.get("a") == b"one"
    with pytest.raises(ServiceError):
        s3.get("a")
    s3.put("a", b"")
    assert s3.get("a") == b"two"
    assert script.connections == 1


def test_a_kept_connection_that_was_closed_is_opened_anew(script: Script, s3: S3) -> None:
    """The client reconnects without an error if the server closed the connection after an answer or before one."""
    script.replies = [reply(200, b"one", close=True), reply(200, b"two"), Reply(close=True), reply(200)]
    assert s3.get("a") == b"one"
    assert s3.get("a") == b"two"
    s3.put("a", b"body", once=True)
    assert [request.connection for request in script.heard[-2:]] == [2, 3]
    assert script.heard[-1].body == b"body"


def test_request_is_resent_once_when_the_server_closes(script: Script, s3: S3) -> None:
    """The request is sent once on the kept connection and once on a new one."""
    script.replies = [reply(200), Reply(close=True), Reply(close=True), Reply(close=True)]
    s3.put("a", b"")
    with pytest.raises(NoAnswer, match="closed connection"):
        s3.get("a")
    assert len(script.replies) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"hunter2-hunter2\r\n\r\n",
        b"\0" * 70000,
        b"",
    ],
)
def test_incomplete_answer_raises_without_showing_its_content(script: Script, s3: S3, data: bytes) -> None:
    """An incomplete answer, or one that is not HTTP, is an error. Its content may be secret and is not shown."""
    script.replies = [Reply(data, close=True)]
    with pytest.raises(NoAnswer, match="no usable response from localhost:") as caught:
        s3.get("a")
    assert "hunter2" not in str(caught.value)


def test_an_answer_is_bounded(script: Script, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds with and without a Content-Length."""
    monkeypatch.setattr(http, "LARGEST", 3)
    chunked = Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n", close=True)
    script.replies = [reply(200, b"four", close=True), chunked, reply(200, b"313")]
    for _ in range(2):
        with pytest.raises(NoAnswer, match="longer than 3 bytes"):
            s3.get("a")
    assert s3.get("a") == b"313"


def test_a_body_that_does_not_fit_its_checksum_is_no_answer(script: Script, s3: S3) -> None:
    """The control plane puts objects with a CRC32, so the agent can detect a damaged body."""
    right = base64.b64encode(zlib.crc32(b"order").to_bytes(4, "big")).decode()
    script.replies = [
        reply(200, b"order", x_amz_checksum_crc32=right),
        reply(200, b"0rder", x_amz_checksum_crc32=right),
    ]
    assert s3.get("a") == b"order"
    with pytest.raises(NoAnswer, match="checksum"):
        s3.get("a")


def test_error_sent_before_the_body_was_read_is_raised(script: Script, s3: S3) -> None:
    """S3 may answer and close before it has read the body; the error has S3's reason."""
    script.replies = [reply(400, error("EntityTooLarge"), early=True, close=True), reply(200)]
    with pytest.raises(ServiceError, match="EntityTooLarge"):
        s3.put("a", bytes(8 << 20))
    s3.put("a", b"small")


def test_refused_connection_raises_no_answer() -> None:
    """A refused connection is transient."""
    with served(Script()):
        alone = S3("bucket", REGION)
    with pytest.raises(NoAnswer, match="refused"):
        alone.get("a")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, error("SlowDown", "Please reduce your request rate.")),
        (500, error("InternalError", "We encountered an &quot;internal&quot; error. &lt;Try&gt; again.")),
        (502, b"<html><body><h1>Bad Gateway</h1></body></html>"),
        (503, b""),
        (403, error("AccessDenied", "Access Denied")),
        (404, error("NoSuchKey", "The specified key does not exist.")),
        (412, error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")),
    ],
)
def test_s3_errors_equal_botocores_messages(script: Script, s3: S3, status: int, body: bytes) -> None:
    """The body may be XML, a load balancer's page, or empty."""
    script.replies = [same(reply(status, body), status) for _ in range(2)]
    with pytest.raises(ServiceError) as caught:
        s3.get("a")
    assert caught.value.status == status
    assert str(caught.value) == botocores("s3", lambda client: client.get_object(Bucket="bucket", Key="a"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"__type": "ParameterNotFound", "message": "m"}'),
        (400, b'{"__type": "com.amazon.coral#AccessDeniedException", "Message": "User: arn is not authorized"}'),
        (400, b'{"__type": "ThrottlingException:http://internal/x", "message": "Rate exceeded"}'),
        (500, b'{"__type": "InternalServerError", "message": "It failed."}'),
        (502, b"<html><body><h1>Bad Gateway</h1></body></html>"),
    ],
)
def test_ssm_errors_equal_botocores_messages(script: Script, ssm: Service, status: int, body: bytes) -> None:
    """The body may be any of AWS's JSON forms."""
    script.replies = [same(reply(status, body), status) for _ in range(2)]
    with pytest.raises(ServiceError) as caught:
        ssm.call("GetParameter", Name="a")
    assert caught.value.status == status
    theirs = botocores("ssm", lambda client: client.get_parameter(Name="a"))
    # For a page, botocore's message has the whole page; the agent's has only the reason phrase.
    assert str(caught.value) == theirs.replace(body.decode(), "Bad Gateway")


def same(told: Reply, status: int) -> Reply:
    """Return the reply with the standard reason phrase of its status."""
    return Reply(told.data.replace(b" Told\r\n", f" {HTTPStatus(status).phrase}\r\n".encode(), 1))


def botocores(service: str, call: Callable[[Any], object]) -> str:
    """Return botocore's message for the next answer."""
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"}, s3={"addressing_style": "path"})
    client = Session().create_client(service, REGION, aws_access_key_id="a", aws_secret_access_key="b", config=config)
    with pytest.raises(ClientError) as caught:
        call(client)
    client.close()
    return str(caught.value).replace(" (reached max retries: 0)", "")


@pytest.mark.parametrize("status", [301, 307])
def test_redirect_to_another_region_is_an_error_that_names_it(script: Script, s3: S3, status: int) -> None:
    """The settings are wrong, so following the redirect would only hide it."""
    told = error("PermanentRedirect", "Use the specified endpoint.")
    script.replies = [reply(status, told, x_amz_bucket_region="eu-west-1", Location="http://elsewhere")]
    words = r"PermanentRedirect.*Use the specified endpoint. The bucket is in eu-west-1, not in us-east-1: see `region`"
    with pytest.raises(ServiceError, match=words):
        s3.get("a")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"text"', b"{", b"<html>", b"\xff"])
def test_answer_that_is_not_a_json_object_raises_no_answer(script: Script, ssm: Service, body: bytes) -> None:
    """A proxy with a login page may answer like this."""
    script.replies = [reply(200, body)]
    with pytest.raises(NoAnswer, match="GetParameter is not a JSON object"):
        ssm.call("GetParameter", Name="a")


@pytest.mark.parametrize(("status", "code"), [(403, "RequestTimeTooSkewed"), (400, "InvalidSignatureException")])
def test_clock_skew_is_corrected_from_the_servers_date(script: Script, s3: S3, status: int, code: str) -> None:
    """The request is sent once more with the server's time; later requests use it at once."""
    there = formatdate(time.time() + 7200, usegmt=True)
    script.replies = [reply(status, error(code), Date=there), reply(200, b"one", Date=there), reply(200, b"two")]
    assert (s3.get("a"), s3.get("a")) == (b"one", b"two")
    now = dt.datetime.now(dt.UTC)
    late = [dt.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z") - now for request in script.heard]
    assert [round(each / dt.timedelta(hours=1)) for each in late] == [0, 2, 2]


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 99 Nov 2026 99:99:99 GMT"])
def test_invalid_date_header_is_ignored(script: Script, s3: S3, date: str) -> None:
    """If the Date header is invalid, the client raises S3's own error."""
    script.replies = [reply(403, error("AccessDenied"), Date=date)]
    with pytest.raises(ServiceError, match="AccessDenied"):
        s3.get("a")


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "InvalidAccessKeyId"])
def test_expired_credentials_are_refreshed_and_the_request_resent(
    script: Script, s3: S3, role: Given, code: str
) -> None:
    """The request is sent again with newer credentials."""
    script.replies = [reply(200), reply(400, error(code)), reply(200, b"one")]
    s3.put("a", b"")
    role.key = "second"
    assert s3.get("a") == b"one"
    assert keys(script) == ["first", "first", "second"]


def test_expired_credentials_without_newer_ones_raise(script: Script, s3: S3, role: Given) -> None:
    """The metadata service has no newer credentials, so there is one retry only."""
    script.replies = [reply(400, error("ExpiredToken")), reply(400, error("ExpiredToken", "It has expired."))]
    with pytest.raises(ServiceError, match=r"ExpiredToken.*It has expired"):
        s3.get("a")
    assert role.asked == 2


def test_credentials_are_read_once_as_long_as_they_last(script: Script, s3: S3, role: Given) -> None:
    """The metadata service allows few requests a second."""
    script.replies = [reply(200) for _ in range(5)]
    for _ in range(5):
        s3.put("a", b"")
    assert role.asked == 1


def test_credentials_are_renewed_before_their_end(
    script: Script, s3: S3, role: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials are renewed minutes before they expire.

    If the service has no newer credentials, the client asks at most once a minute and uses the old credentials.
    """
    clock = [time.time()]
    monkeypatch.setattr("time.time", lambda: clock[0])
    script.replies = [reply(200, Date="") for _ in range(7)]
    # Seconds since the last put, and the key that the service returns from then on.
    for after, key in ((0, "first"), (3200, "second"), (101, "second")):
        clock[0] += after
        role.key = key
        s3.put("a", b"")
    role.life = 0
    for after in (3400, 59, 2):
        clock[0] += after
        s3.put("a", b"")
    assert role.asked == 4
    role.metadata.remove("i-1")
    clock[0] += 3600
    s3.put("a", b"")
    assert keys(script) == ["first", "first", *["second"] * 5]


def test_a_role_may_come_a_moment_after_the_machine(script: Script, s3: S3, role: Given) -> None:
    """Until the credentials arrive, the error is temporary, and says that an instance profile is missing."""
    role.metadata.remove("i-1")
    with pytest.raises(NoAnswer, match=r"this machine has no credentials .*404.*: it needs an instance profile"):
        s3.get("a")
    role.metadata.add(GUEST)
    script.replies = [reply(200, b"one")]
    assert s3.get("a") == b"one"


def test_threads_share_a_client(script: Script, s3: S3) -> None:
    """The shipper and the reports share a client; each thread gets the answer to its own request."""
    script.replies = [reply(200) for _ in range(200)]

    def put(who: int) -> None:
        for number in range(25):
            s3.put(f"{who}-{number}", f"{who} {number}".encode())

    threads = [threading.Thread(target=put, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(request.line.split()[1] for request in script.heard) == sorted(
        f"/bucket/{who}-{number}" for who in range(8) for number in range(25)
    )
    assert script.connections <= 8


def test_a_proxy_is_taken_as_urllib_would(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets its password; hosts in no_proxy are connected directly."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws.test:81")
    monkeypatch.setenv("http_proxy", script.url.replace("//", "//me:pass%20word@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    script.replies = [reply(200, b"one")]
    s3 = S3("bucket", REGION)
    assert s3.get("a b") == b"one"
    s3.close()
    [request] = script.heard
    assert request.line == "GET http://aws.test:81/bucket/a%20b HTTP/1.1"
    assert request.headers["host"] == "aws.test:81"
    assert request.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'me:pass word').decode()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", script.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    script.replies = [reply(200)]
    direct = S3("bucket", REGION)
    direct.put("a", b"")
    direct.close()
    assert script.heard[-1].line == "PUT /bucket/a HTTP/1.1"


def test_tls_goes_through_a_proxy_unseen(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks the proxy for a tunnel to the bucket's host. If the proxy refuses, the error has its status."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("https_proxy", script.url.replace("//", "//me:secret@"))
    script.replies = [reply(407, close=True)]
    with pytest.raises(NoAnswer, match=r"no usable response from bucket.s3.us-east-1.amazonaws.com: Tunnel.* 407"):
        S3("bucket", REGION).get("a")
    [request] = script.heard
    assert request.line.startswith("CONNECT bucket.s3.us-east-1.amazonaws.com:443 ")
    assert request.headers["proxy-authorization"]


def test_untrusted_certificate_gets_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an untrusted certificate gets no request; one with a trusted certificate does."""
    with served(Script([reply(200, b"one")]), certified(tmp_path)) as script:
        with pytest.raises(NoAnswer, match="certificate"):
            S3("bucket", REGION).get("a")
        assert not script.heard
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        http.trust.cache_clear()
        s3 = S3("bucket", REGION)
        assert s3.get("a") == b"one"
        s3.close()
        http.trust.cache_clear()


def keys(script: Script) -> list[str]:
    """Return the access key of each request."""
    return [request.headers["Authorization"].partition("Credential=")[2].partition("/")[0] for request in script.heard]
