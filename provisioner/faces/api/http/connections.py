"""Connections with limits: a client that does not complete its request in time is disconnected.

An upload has this time for each piece that the server reads, and not for the whole request.

Each connection is an open file of this process. Without a limit, clients could use up all open files, and the control
plane in this process could reach neither store nor cloud. uvicorn limits only the time between two requests.
"""

import asyncio
import resource
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from provisioner.core.errors import Invalid
from provisioner.faces.api.http.answers import JSON, problem

#: Maximum number of seconds until a request is complete. A client that reads nothing of an answer for this time is
#: disconnected.
PATIENCE = 60.0
#: Maximum number of bytes of a request's first line and headers.
HEAD = 1 << 14
NO_REQUEST = f"invalid HTTP/1.1 request: expected one length of the body, and at most {HEAD} bytes of headers"
#: The limit of open files is raised to at most this number. It is larger than the number of connections, because the
#: server counts a connection only after its TLS handshake.
FILES = 1 << 16
#: Open files that are reserved for the store, S3 and EC2: about 20 connections to the store with two files each, and
#: one connection to AWS for each of the 60 threads that may use one.
RESERVED = 160
#: The server does not start if it could accept fewer connections than this.
FEWEST = 32


@dataclass(frozen=True)
class Room:
    """The most clients that the server accepts at the same time."""

    #: Maximum number of connections, including those of all followers.
    connections: int = 800
    #: Maximum number of connections in the listen queue. The server may accept all of these before it closes any beyond
    #: the limit.
    backlog: int = 128
    followers: int = 500


def room(files: int) -> Room:
    """Return the limits for `files` open files, less RESERVED; raises Invalid for fewer than FEWEST connections."""
    free = files - RESERVED
    if free < FEWEST:
        raise Invalid(
            f"this process may open {files} files, but the server needs at least {RESERVED + FEWEST}: "
            "raise the hard limit (ulimit -Hn), or LimitNOFILE in the systemd unit"
        )
    most = Room()
    backlog = min(most.backlog, free // 4)
    connections = min(most.connections, free - backlog)
    return Room(connections, backlog, min(most.followers, connections * most.followers // most.connections))


def allowed_files() -> int:
    """Raise this process's limit of open files, at most to FILES, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


#: Key in a request's state.
_LONG_BODY = "long body"


def expect_long_body(scope: Scope) -> None:
    """Let this request of an accepted caller have PATIENCE for each piece of its body."""
    scope["state"][_LONG_BODY] = True


class _Requests(h11.Connection):
    """Parser of one client's requests that rejects a request with both Content-Length and Transfer-Encoding.

    If a proxy used one of the two headers and this server the other one, the rest of the body would be read as the next
    request (request smuggling). RFC 9112, 6.1 and 6.3, requires that the connection is closed.
    """

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = [name for name, _ in event.headers]
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        return event


class Connection(H11Protocol):
    """uvicorn's connection, with a time limit for a request and a limit on the number of connections.

    Beyond `most` connections, the one that has waited longest for a request is closed.
    """

    most = Room().connections

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.conn = _Requests(h11.SERVER, HEAD)
        self.waiting: asyncio.TimerHandle | None = None
        self._dropping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > self.most:
            waiting = [each for each in self.connections if isinstance(each, Connection) and each.waiting]
            min(waiting, key=Connection.waits_until).disconnect()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def data_received(self, data: bytes) -> None:
        if not self._dropping:
            if self._has_long_body:
                self._rest()
            super().data_received(data)
            self._look()

    def on_response_complete(self) -> None:
        self._rest()
        self.scope["state"].pop(_LONG_BODY, None)
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's interface
        """Send the API's error. Further input is read and dropped: closing at once could discard the answer."""
        body = bytes(problem(400, "invalid", NO_REQUEST).body)
        headers = {"content-type": JSON, "content-length": str(len(body)), "connection": "close"}
        for part in (h11.Response(status_code=400, headers=[*headers.items()]), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(part) or b"")
        if self.transport.can_write_eof():
            self._dropping = True
            self.transport.write_eof()
            self._look()
        else:
            self.transport.close()

    def _look(self) -> None:
        """Start the timer while a request is awaited or incomplete, or while input is dropped; else stop it."""
        if not (self._dropping or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)):
            self._rest()
        elif self.waiting is None:
            self.waiting = self.loop.call_later(PATIENCE, self.late)

    def late(self) -> None:
        """End the time for the request."""
        self._rest()
        if self._has_long_body and self.flow.read_paused:
            # The server has not taken what the client sent.
            self._look()
        else:
            self.disconnect()

    @property
    def _has_long_body(self) -> bool:
        return bool(self.scope and self.scope["state"].get(_LONG_BODY))

    def _rest(self) -> None:
        if self.waiting:
            self.waiting.cancel()
            self.waiting = None

    def waits_until(self) -> float:
        return self.waiting.when() if self.waiting else 0.0

    def disconnect(self) -> None:
        self._rest()
        self.transport.abort()


def limited(most: int) -> type[Connection]:
    """Return the connection class of a server that accepts `most` connections."""
    return type("Limited", (Connection,), {"most": most})
