"""An HTTP server whose replies a test sets, and a machine's credentials that a test changes."""

import contextlib
import datetime as dt
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest

GUEST = Guest("i-1", "g5.xlarge", "ami-1", "eu-west-1", "eu-west-1a", "spot", 0.0, "10.0.0.1", "data", "", "")


@dataclass(frozen=True)
class Reply:
    """The bytes to send for one request."""

    data: bytes = b""
    #: Close the connection afterwards.
    close: bool = False
    #: Answer before the body has been read.
    early: bool = False


def reply(status: int, body: bytes = b"", *, close: bool = False, early: bool = False, **headers: str) -> Reply:
    """Return a complete reply; the keyword `x_y` becomes the header X-Y."""
    told = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return Reply(f"HTTP/1.1 {status} Told\r\n{lines}\r\n".encode() + body, close, early)


@dataclass
class Request:
    line: str
    headers: HTTPMessage
    body: bytes
    #: The number of the connection on which the request came, counted from 1.
    connection: int


@dataclass
class Script:
    """The replies of a server, request by request, and the requests that it received."""

    replies: list[Reply] = field(default_factory=list)
    heard: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""


@contextlib.contextmanager
def served(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Serve the script's replies on this computer."""

    class Handler(StreamRequestHandler):
        def setup(self) -> None:
            if tls:
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            # wrap_socket has detached the server's socket, so the server does not close the TLS socket.
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
            # Some tests disconnect in the middle of a reply.
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
    #: The number of requests for credentials to the metadata service.
    asked: int = 0
    metadata: Metadata = field(init=False)

    def __post_init__(self) -> None:
        self.metadata = Metadata(lambda _: self._told(), "role")

    def _told(self) -> Credentials:
        self.asked += 1
        return Credentials(self.key, "secret", "token", time.time() + self.life)


@contextlib.contextmanager
def given() -> Iterator[Given]:
    """Give this process the metadata service of a machine with a role."""
    made = Given()
    made.metadata.start()
    made.metadata.add(GUEST)
    with mock.patch.dict(os.environ, AWS_EC2_METADATA_SERVICE_ENDPOINT=made.metadata.url("i-1")):
        yield made
    made.metadata.close()


def certified(folder: Path) -> ssl.SSLContext:
    """Return a server's TLS context for localhost; its certificate is written to the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "both.pem").write_bytes(certificate.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context
