"""Git servers with LFS on this computer, over https with a password and over a real sshd; and a checkout from them."""

import contextlib
import getpass
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from provisioner.agent.fetch.git import check_out
from provisioner.agent.fetch.git_credentials import access
from provisioner.agent.machine.tools import Tools
from provisioner.agent.outcomes import Halt
from provisioner.core.protocol.messages import Repository
from provisioner.core.protocol.words import Step
from tests.polling import until
from tests.ports import free_ports


def check_out_here(wanted: Repository, folder: Path, credential: bytes | None = None, known_hosts: str = "") -> str:
    """Check the repository out in `folder` as the agent does, but in this process; return the lines for the log."""
    said: list[str] = []
    tools = Tools(Step.CLONE, Halt(), 2.0**40, "the limit", said.append)
    with access(wanted, credential, known_hosts, folder.parent / f"{folder.name}-credentials") as granted:
        check_out(wanted, str(folder), granted, tools)
    return "\n".join(said)


def certificate(folder: Path) -> Path:
    """Write a certificate for this computer and its key into one file; return the file."""
    both = folder / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=localhost", "-addext", names, "-keyout", str(both), "-out", str(folder / "own.pem")]
    subprocess.run(command, capture_output=True, check=True)
    both.write_text(both.read_text() + (folder / "own.pem").read_text())
    return both


class HttpsServer:
    """Repositories below a folder, with their LFS objects, for clients that have `user:password`.

    `seen` has the credentials that clients sent, `sent` the ids of the LFS objects that the server sent.
    """

    def __init__(self, host: str, port: int, login: str) -> None:
        self.url = f"https://{host}:{port}"
        self.login = login
        #: A URL to which the server redirects every request, without checking credentials.
        self.moved_to = ""
        self.seen: set[str] = set()
        self.sent: set[str] = set()


@contextlib.contextmanager
def https_server(folder: Path, pem: Path, login: str = "", host: str = "127.0.0.1") -> Iterator[HttpsServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen |= {self.headers["Authorization"]} - {None}
            if made.moved_to:
                self._answer(302, b"", {"Location": made.moved_to + self.path})
            elif made.login and self.headers["Authorization"] != f"Basic {b64encode(made.login.encode()).decode()}":
                self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
            elif self.path.endswith("/info/lfs/objects/batch"):
                self._batch()
            elif self.path.startswith("/objects/"):
                self._object(self.path.rpartition("/")[2])
            else:
                self._git()

        do_POST = do_GET  # noqa: N815 - the name that the library requires

        def _git(self) -> None:
            path, _, query = self.path.partition("?")
            variables = {
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers["Content-Type"] or "",
                "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
                "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            }
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            done = subprocess.run(
                ["git", "http-backend"], input=body, env={**os.environ, **variables}, capture_output=True, check=False
            )
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self._answer(int(headers.pop("Status", "200").split()[0]), data, headers)

        def _batch(self) -> None:
            """Answer with the address of each object (git-lfs, docs/api/batch.md)."""
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["objects"]
            for each in wanted:
                if _lfs_objects(folder, each["oid"]):
                    href, header = f"{made.url}/objects/{each['oid']}", {"Authorization": self.headers["Authorization"]}
                    each["actions"] = {"download": {"href": href, "header": header}}
                else:
                    each["error"] = {"code": 404, "message": "Object does not exist"}
            body = json.dumps({"transfer": "basic", "objects": wanted}).encode()
            self._answer(200, body, {"Content-Type": "application/vnd.git-lfs+json"})

        def _object(self, oid: str) -> None:
            made.sent.add(oid)
            self._answer(200, _lfs_objects(folder, oid)[0].read_bytes(), {})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made = HttpsServer(host, server.server_port, login)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _lfs_objects(folder: Path, oid: str) -> list[Path]:
    """Return the files of the repositories in `folder` that are this LFS object."""
    return list(folder.glob(f"*/.git/lfs/objects/*/*/{oid}"))


class SshServer:
    """An sshd that accepts one key and runs as this test's user."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        #: The private key.
        self.key = (folder / "user").read_text()
        self._own = (folder / "host.pub").read_text()
        self._programs = folder / "programs"

    def serve_lfs(self, url: str, authorization: str) -> None:
        """Make the server direct git-lfs to an https server (git-lfs, docs/api/server-discovery.md, "SSH")."""
        told = json.dumps({"href": url, "header": {"Authorization": authorization}})
        program = self._programs / "git-lfs-authenticate"
        program.write_text(f"#!/bin/sh\necho '{told}'\n")
        program.chmod(0o755)

    @property
    def host_key(self) -> str:
        """Return kind and key, as a machine's console prints them."""
        return self._own.rpartition(" ")[0] if self._own.count(" ") > 1 else self._own.strip()

    def url(self, path: Path, host: str = "127.0.0.1") -> str:
        return f"ssh://{getpass.getuser()}@{host}:{self.port}{path}"

    def known(self, host: str = "127.0.0.1") -> str:
        """Return the server's line for known_hosts."""
        return f"[{host}]:{self.port} {self._own}"


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run an sshd. Needs Debian's openssh-server; fails if it is missing."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "openssh-server is not on this computer"
    folder.mkdir()
    (folder / "programs").mkdir()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    [port] = free_ports(1)
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
        "SetEnv": f'"PATH={folder}/programs:{os.environ["PATH"]}"',
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        # sshd requires this folder, though it stays empty. It is not removed: another test may be using it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = subprocess.Popen([program, "-D", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listening, "sshd")
        yield SshServer(folder, port)
    finally:
        server.terminate()
        server.wait()
