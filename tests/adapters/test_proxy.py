"""The remote client behind a proxy: which proxy it uses, and what the proxy can read."""

import base64
import contextlib
import json
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.remote.proxy import proxy
from provisioner.core import errors
from provisioner.core.errors import Invalid
from provisioner.core.views.codec import Moment, to_json
from provisioner.core.views.job import Job, Jobs
from provisioner.rehearsal.fakes.clock import CountingIds, StepClock
from tests.adapters.stranger import Said, Stranger
from tests.ports import free_ports

TOKEN = "pvt_0123456789ab_do-not-tell"
JOB = Job("j" * 32, "ann", "train", 1, Moment(1.0), Moment(1.0), None, {}, ())
HTTPS, HTTP = "https://provision.example.com", "http://provision.example.com"
FOUND = Said(json.dumps(to_json(Jobs((JOB,)))).encode())


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy that accepts only CONNECT and connects every name to one port of this computer."""

    daemon_threads = True

    def __init__(self, port: int, answer: bytes = b"200 OK") -> None:
        super().__init__(("127.0.0.1", 0), _Way)
        self.to, self.answer = ("127.0.0.1", port), answer
        self.heard: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Way(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        self.server.heard.append(head)
        self.wfile.write(b"HTTP/1.1 %s\r\n\r\n" % self.server.answer)
        if self.server.answer.startswith(b"200"):
            with socket.create_connection(self.server.to) as far:
                _join(self.connection, far)


def _join(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    while True:
        for ready in select.select([near, far], [], [])[0]:
            if not (data := ready.recv(1 << 16)):
                return
            other[ready].sendall(data)


@contextlib.contextmanager
def running(tunnel: Tunnel) -> Iterator[Tunnel]:
    thread = threading.Thread(target=tunnel.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield tunnel
    finally:
        tunnel.shutdown()
        thread.join()
        tunnel.server_close()


@contextlib.contextmanager
def client(url: str) -> Iterator[Remote]:
    remote = Remote(address(url, TOKEN, insecure=True), StepClock(), CountingIds(), lambda _: None)
    with contextlib.closing(remote):
        yield remote


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every proxy from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "environment", "shown"),
    [
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        (HTTPS, {"ALL_PROXY": "https://ann:secret@proxy"}, "https://proxy"),
        (HTTPS, {"HTTP_PROXY": "http://proxy:3128"}, None),
        (HTTP, {"HTTP_PROXY": "http://[fd00::1]:3128/"}, "http://[fd00::1]:3128"),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "other.org,.example.com"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        (HTTPS, {"HTTPS_PROXY": ""}, None),
        ("http://127.0.0.1:8080", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("http://localhost:8080", {"HTTP_PROXY": "http://proxy:3128"}, None),
    ],
)
def test_proxy_is_chosen_from_the_environment(
    url: str, environment: dict[str, str], shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables are read as curl reads them; passwords are not shown.

    Requests to this computer use no proxy, because their token is in clear text.
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy(address(url, TOKEN, insecure=True))
    assert (found and found.url) == shown
    assert "secret" not in repr(found)


@pytest.mark.parametrize("named", ["socks5://proxy:1080", "http://", "http://proxy:port"])
def test_invalid_proxy_url_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable proxy is one error line, and nothing is sent without the proxy."""
    monkeypatch.setenv("HTTPS_PROXY", named)
    with client(HTTPS) as remote, pytest.raises(Invalid, match="http://HOST:PORT"):
        remote.jobs.all()


def test_plain_http_is_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request line has the whole URL, and the proxy's password is in its own header."""
    with Stranger(lambda _: FOUND) as between, client(HTTP + "/gpu/") as remote:
        monkeypatch.setenv("HTTP_PROXY", between.url.replace("//", "//ann:p%40ss@"))
        assert remote.jobs.all() == (JOB,)
        [asked] = between.asked
    assert asked.path == f"{HTTP}/gpu/api/jobs"
    assert asked.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'ann:p@ss').decode()}"


def test_proxy_407_says_where_to_write_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says where to write the password, not that the server is unknown."""
    with Stranger(lambda _: Said(status=407, kind="text/html")) as between, client(HTTP) as remote:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        with pytest.raises(Invalid, match="NAME:PASSWORD"):
            remote.jobs.all()


def test_https_goes_through_a_tunnel(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client verifies the server's certificate, and the proxy does not see the token."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with (
        Stranger(lambda _: FOUND, tls) as server,
        running(Tunnel(server.server_address[1])) as tunnel,
        client(HTTPS) as remote,
    ):
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        assert (remote.jobs.all(), remote.jobs.all()) == ((JOB,), (JOB,))
        assert [asked.headers["Authorization"] for asked in server.asked] == [f"Bearer {TOKEN}"] * 2
    [head] = tunnel.heard
    assert head.startswith(b"CONNECT provision.example.com:443 ")
    assert TOKEN.encode() not in head


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (b"403 Forbidden", Invalid, "403 Forbidden; to connect without the proxy"),
        (b"407 Proxy Authentication Required", Invalid, "NAME:PASSWORD"),
        (b"502 Bad Gateway", errors.Transient, "502 Bad Gateway"),
    ],
)
def test_failed_connect_names_the_proxy_and_its_answer(
    answer: bytes, kind: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the proxy's answer and URL. A transient error is retried even for `delete`: nothing was sent."""
    with running(Tunnel(1, answer)) as tunnel, client(HTTPS) as remote:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        with pytest.raises(kind) as caught:
            remote.jobs.delete("train")
    assert f"through the proxy {tunnel.url}" in str(caught.value)
    assert told in str(caught.value)
    assert (len(tunnel.heard) > 1) is (kind is errors.Transient)


def test_unreachable_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the unreachable proxy and the cause."""
    [port] = free_ports(1)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with client(HTTPS) as remote, pytest.raises(errors.Transient, match=f"127.0.0.1:{port}: Connection refused"):
        remote.jobs.all()
