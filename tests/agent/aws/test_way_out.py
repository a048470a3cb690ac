"""Test the agent's requests if S3, the name server or the metadata service does not answer."""

import errno
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.error
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest

from provisioner.agent.aws import fetch, imds
from provisioner.agent.aws.fetch import metadata
from provisioner.rehearsal.aws import dead_end
from tests.agent.wire import given

#: The time limits of the tests below are shortened by this factor.
HASTE = 0.02


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let S3's name have eight addresses of which none answers; yield the addresses that were tried."""
    tried: list[str] = []
    connect = socket.create_connection

    def noted(address: tuple[str, int], *more: Any, **options: Any) -> socket.socket:
        if address[0] == dead_end.NAME:
            tried.append(f"{options.get('timeout', more and more[0])}")
        return connect(address, *more, **options)

    resolve = socket.getaddrinfo

    def resolved(name: Any, port: Any, *more: Any, **options: Any) -> Any:
        if name != dead_end.NAME:
            return resolve(name, port, *more, **options)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in dead_end.ADDRESSES]

    made = dead_end.dead_end()
    monkeypatch.setattr(socket, "create_connection", noted)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.user_data("http://127.0.0.1:1", "http://127.0.0.1:1"))
    monkeypatch.setenv("PROVISION_LIMITS_FACTOR", str(HASTE))
    with given():
        yield tried
        # The last try may still be under way.
        for thread in threading.enumerate():
            if thread.name == "fetch":
                thread.join(30)
    made.close()


def test_dead_addresses_are_given_up_within_the_budget(dead: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address gets five seconds. A try of all eight lasts 40 s, so the fourth would exceed 150 s."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(OSError, match="timed out: the subnet has no way out: it needs a route to S3"):
        fetch.persistent("bucket", "agent/x.zip", "eu-west-1", "0" * 64)
    assert set(dead) == {str(HASTE * fetch.WAIT)}
    assert len(dead) <= 4
    assert slept == [pytest.approx(HASTE * pause) for pause in fetch.PAUSES[: len(slept)]]


def test_name_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time limit of Python ends a call that waits for a name server."""
    over = threading.Event()
    monkeypatch.setenv("PROVISION_LIMITS_FACTOR", "0.002")
    monkeypatch.setattr(fetch, "fetch", lambda *_: over.wait() and b"")
    with pytest.raises(OSError, match="no answer within 0 s: the subnet has no way out"):
        fetch.persistent("bucket", "agent/x.zip", "eu-west-1", "0" * 64)
    over.set()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")), "does not resolve"),
        (urllib.error.URLError(TimeoutError("timed out")), "no way out"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no way out"),
        (urllib.error.URLError(ssl.SSLCertVerificationError("not yet valid")), "clock is wrong"),
        (http.client.IncompleteRead(b""), "another server answers"),
    ],
)
def test_each_reason_not_to_reach_s3_has_its_advice(error: Exception, words: str) -> None:
    assert words in fetch.way_out(error)


def test_metadata_is_read_at_its_ipv6_address_without_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine in an IPv6-only subnet has no route to 169.254.169.254. An answer, even an error, ends the search."""
    monkeypatch.delenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", raising=False)
    asked: list[str] = []

    def answer(base: str, path: str, timeout: float) -> bytes:
        del timeout
        asked.append(base)
        if "169.254" in base:
            raise urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable"))
        if path == "missing":
            raise urllib.error.HTTPError(base, 404, "Not Found", Message(), None)
        return b"i-1"

    monkeypatch.setattr(fetch, "_metadata", answer)
    assert metadata("meta-data/instance-id") == b"i-1"
    assert asked == ["http://169.254.169.254/latest/", "http://[fd00:ec2::254]/latest/"]
    with pytest.raises(urllib.error.HTTPError):
        metadata("missing")
    monkeypatch.setattr(fetch, "METADATA", fetch.METADATA[:1])
    with pytest.raises(urllib.error.URLError, match="Network is unreachable"):
        metadata("meta-data/instance-id")


@pytest.mark.parametrize("private", [{"privateIp": None}, {}])
def test_machine_without_ipv4_has_its_ipv6_address(private: dict[str, None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its identity document has no private IPv4 address."""
    document = {"instanceId": "i-1", "instanceType": "g5.xlarge", "region": "r", "pendingTime": "2026-12-31T23:59:59Z"}
    told = {
        "dynamic/instance-identity/document": json.dumps({**document, **private}).encode(),
        "meta-data/ipv6": b"2600:1f18::7\n",
    }
    monkeypatch.setattr(imds, "metadata", told.__getitem__)
    assert imds.identity().address == "2600:1f18::7"
