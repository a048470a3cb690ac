"""Slow clients, hostile or not: they are disconnected, and other clients are not affected."""

import contextlib
import json
import resource
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.errors import Invalid
from provisioner.faces.api.http import connections
from tests.api.served import Server

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE", 0.2)


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.socket() as made:
        # Only a bound for broken tests; no test measures this time.
        made.settimeout(20)
        made.connect(("127.0.0.1", server.port))
        yield made


def ended(client: socket.socket) -> bool:
    """Return whether the server has closed or reset the connection."""
    try:
        return client.recv(1000) == b""
    except ConnectionResetError:
        return True


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n",
        b"POST /api/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        b"POST /api/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        b"PUT /api/recipes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_incomplete_request_is_disconnected(quiet: Server, begun: bytes) -> None:
    """The request may stop in its headers or its body, or before its first byte."""
    token = quiet.token("ann").encode()
    with connected(quiet) as client:
        client.sendall(begun.replace(b"Host: a\r\n", b"Host: a\r\nAuthorization: Bearer " + token + b"\r\n"))
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(1000):
                found += data
        assert b"200" not in found


@pytest.mark.parametrize(
    "asked",
    [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 10_000_000,
        b"GET /" + b"a" * 10_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: one\r\n\r\n",
        b"\x16\x03\x01 hello",
    ],
)
def test_malformed_request_gets_400(quiet: Server, asked: bytes) -> None:
    """The client gets an ordinary error, even if it sends more than the server reads."""
    with connected(quiet) as client:
        client.sendall(asked)
        found = b""
        while data := client.recv(1000):
            found += data
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "invalid"


@given(files=st.integers(connections.RESERVED + connections.FEWEST, 1 << 20))
def test_connection_limit_leaves_descriptors_for_store_and_aws(files: int) -> None:
    """Holds for any limit of open files; connections in the backlog count too."""
    room = connections.room(files)
    assert room.connections + room.backlog + connections.RESERVED <= files
    assert 0 < room.followers < room.connections <= connections.Room().connections
    assert room.backlog > 0


@pytest.mark.parametrize("files", [3, 64, connections.RESERVED + connections.FEWEST - 1])
def test_server_that_has_no_files_for_clients_is_refused(files: int) -> None:
    """Clients would use the file descriptors that the control plane in the same process needs."""
    with pytest.raises(Invalid):
        connections.room(files)


def test_limit_of_open_files_is_raised_as_far_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised to the hard limit; an unlimited one stays."""
    limits, infinity = [256, 4096], resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(2), wanted))
    assert (connections.allowed_files(), limits) == (4096, [4096, 4096])
    limits[:] = [1024, infinity]
    assert (connections.allowed_files(), limits) == (connections.FILES, [connections.FILES, infinity])
    limits[:] = [infinity, infinity]
    assert (connections.allowed_files(), limits) == (connections.FILES, [infinity, infinity])


def test_oldest_idle_connection_is_closed_at_the_limit(quiet: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new request is answered even if idle connections use up the limit: the oldest is closed."""
    monkeypatch.setattr(quiet.front.config, "http_protocol_class", connections.limited(2))
    with connected(quiet) as first, connected(quiet) as second, connected(quiet) as third:
        third.sendall(WHOLE)
        assert third.recv(1000).startswith(b"HTTP/1.1 200")
        assert ended(first)
        second.sendall(WHOLE)
        assert second.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    ],
)
def test_request_with_two_lengths_is_refused_and_the_connection_closed(quiet: Server, framing: bytes) -> None:
    """A proxy that uses the other length would give one caller's answer to another (RFC 9112, 6.1)."""
    head = b"POST /api/jobs HTTP/1.1\r\nHost: a\r\n" + framing
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(quiet) as client:
        client.sendall(head + b"\r\n\r\n" + smuggled)
        found = b""
        while data := client.recv(1000):
            found += data
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.count(b"\r\n\r\n") == 1


def test_chunked_http_1_0_request_is_refused(quiet: Server) -> None:
    """HTTP/1.0 has no chunks, so a proxy would see the request end elsewhere (RFC 9112, 6.1)."""
    with connected(quiet) as client:
        client.sendall(b"POST /api/jobs HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
