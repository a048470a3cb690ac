"""An HTTP server whose answers a test chooses, and which records the requests."""

import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Said:
    """An answer.

    With `cut`, the server closes the connection after that many bytes of the body; 0 sends nothing at all.
    """

    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None


Answering = Callable[[Asked], Said]


class Stranger(socketserver.ThreadingMixIn, HTTPServer):
    """The server; it runs inside a `with` block."""

    daemon_threads = True

    def __init__(self, answering: Answering, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answering = answering
        self.asked: list[Asked] = []
        self.connections = 0
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def process_request(self, *what: Any) -> None:
        self.connections += 1
        super().process_request(*what)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect or reject the certificate."""


class _Handler(BaseHTTPRequestHandler):
    server: Stranger
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        asked = Asked(self.command, self.path, dict(self.headers), body)
        self.server.asked.append(asked)
        said = self.server.answering(asked)
        self.close_connection = said.cut is not None
        if said.cut == 0:
            return
        self.send_response(said.status)
        for name, value in (("Content-Type", said.kind), ("Content-Length", str(len(said.body))), *said.headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said.body if said.cut is None else said.body[: said.cut])

    def _chunk(self) -> bytes:
        """Return the next chunk of the body (RFC 9112, section 7.1); the last one is empty."""
        size = int(self.rfile.readline(), 16)
        return self.rfile.read(size + 2)[:size]

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the base class requires these names

    def log_message(self, *_: object) -> None:
        """Log nothing: `asked` has the requests."""
