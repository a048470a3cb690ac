"""Connections that cost no more than they give: who never ends a request is let go.

Such a client holds a file of this process; without a bound it would hold all, and the control plane beside us could
reach neither store nor cloud. uvicorn bounds only the time between two requests.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from provisioner.faces.api.answers import JSON, problem

#: Seconds for a whole request; and for anything at all of an answer to be taken, by a client that may have vanished.
PATIENCE = 60.0
#: Bytes of a request's first line and headers.
HEAD = 1 << 14
NO_REQUEST = f"no request of HTTP/1.1 with one length and at most {HEAD} bytes of headers"
#: At once: all followers and some more; with those that are about to come, below the 1,024 files that a process has
#: where nobody gives it more.
MOST, BACKLOG = 800, 128


class _Requests(h11.Connection):
    """The requests of one client; a request whose end two readers may see at two places is none.

    Of Content-Length beside Transfer-Encoding a proxy may believe the one and we the other, and the rest of the body is
    the next request then. Such a connection is to be closed (RFC 9112, 6.1 and 6.3).
    """

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = [name for name, _ in event.headers]
            if b"transfer-encoding" in names and (b"content-length" in names or event.http_version < b"1.1"):
                raise h11.RemoteProtocolError("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        return event


class Connection(H11Protocol):
    """uvicorn's, with an end to its patience; beyond `MOST`, whose request is waited for longest makes room."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.conn = _Requests(h11.SERVER, HEAD)
        self._waiting: asyncio.TimerHandle | None = None
        self._dropping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > MOST:
            waiting = [each for each in self.connections if isinstance(each, Connection) and each._waiting]
            min(waiting, key=Connection._until)._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest()

    def data_received(self, data: bytes) -> None:
        if not self._dropping:
            super().data_received(data)
            self._look()

    def on_response_complete(self) -> None:
        self._rest()
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """In our form. What else comes is dropped: to close before it was read would take the answer back."""
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
        """Wait for a request from when it may come, until it is whole; of what is none, for the end."""
        if not (self._dropping or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)):
            self._rest()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(PATIENCE, self._let_go)

    def _rest(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _until(self) -> float:
        return self._waiting.when() if self._waiting else 0.0

    def _let_go(self) -> None:
        self._rest()
        self.transport.abort()
