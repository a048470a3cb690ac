"""A server that answers as it is told, and a machine's credentials that change as they are told."""

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from socketserver import StreamRequestHandler, ThreadingTCPServer
from unittest import mock

from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest

GUEST = Guest("i-1", "g5.xlarge", "ami-1", "eu-west-1", "eu-west-1a", "spot", 0.0, "10.0.0.1", "data", "", "")


@dataclass(frozen=True)
class Reply:
    """Bytes to send for one request."""

    data: bytes = b""
    #: Close the connection afterwards, without a word.
    close: bool = False
    #: Answer before the body has been read.
    early: bool = False


def reply(status: int, body: bytes = b"", *, close: bool = False, early: bool = False, **headers: str) -> Reply:
    """A whole answer; `x_y` is the header X-Y."""
    told = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return Reply(f"HTTP/1.1 {status} Told\r\n{lines}\r\n".encode() + body, close, early)


@dataclass
class Request:
    line: str
    headers: HTTPMessage
    body: bytes
    #: The how-manieth connection it came by.
    connection: int


@dataclass
class Script:
    """What a server is to answer, request by request, and what it heard."""

    replies: list[Reply] = field(default_factory=list)
    heard: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""


@contextlib.contextmanager
def served(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Script]:
    """A server on this computer that follows the script."""

    class Handler(StreamRequestHandler):
        def setup(self) -> None:
            if tls:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            # TLS has taken the socket over from the server, which closes its own alone.
            self.request.close()

        def handle(self) -> None:
            script.connections += 1
            connection = script.connections
            while line := self.rfile.readline():
                headers = parse_headers(BytesIO(b"".join(iter(self.rfile.readline, b"\r\n")) + b"\r\n"))
                answer = script.replies.pop(0)
                body = b"" if answer.early else self.rfile.read(int(headers.get("Content-Length", "0")))
                script.heard.append(Request(line.decode().strip(), headers, body, connection))
                self.wfile.write(answer.data)
                if answer.close:
                    return

    class Server(ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            # A client that leaves in the midst of it is what some tests are about.
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        script.url = f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}"
        with mock.patch.dict(os.environ, AWS_ENDPOINT_URL=script.url):
            yield script
        server.shutdown()
        thread.join()


@dataclass
class Given:
    """The machine's credentials."""

    key: str = "first"
    life: float = 3600.0
    #: How often the metadata service was asked for them.
    asked: int = 0
    metadata: Metadata = field(init=False)

    def __post_init__(self) -> None:
        self.metadata = Metadata(lambda _: self._told(), "role")

    def _told(self) -> Credentials:
        self.asked += 1
        return Credentials(self.key, "secret", "token", time.time() + self.life)


@contextlib.contextmanager
def given() -> Iterator[Given]:
    """This process in the place of a machine with a role."""
    made = Given()
    made.metadata.start()
    made.metadata.add(GUEST)
    with mock.patch.dict(os.environ, AWS_EC2_METADATA_SERVICE_ENDPOINT=made.metadata.url("i-1")):
        yield made
    made.metadata.close()
