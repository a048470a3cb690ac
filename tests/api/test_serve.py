"""`provision serve` as a process: its address, the options it refuses, and how it ends."""

import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from provisioner.faces.api.http.serve import Listening, bound
from tests.api.conftest import settings
from tests.e2e.commands import PROVISION
from tests.ports import free_ports


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write settings of an installation whose cloud is unreachable; return the folder."""
    known = settings(tmp_path).model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    rehearsal = known.pop("rehearsal")
    lines = [f"{name} = {json.dumps(value)}" for name, value in known.items()]
    lines += ["[rehearsal]", *(f"{name} = {json.dumps(value)}" for name, value in rehearsal.items())]
    path = tmp_path / "settings.toml"
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PROVISION_SETTINGS", str(path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return tmp_path


class Serving:
    """A running `provision serve`."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([*PROVISION, "serve", "--json", *words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        self.first = json.loads(self.lines.readline())["text"]
        self.url = self.first.split()[2].rstrip(",")


@pytest.fixture
def serving(here: Path) -> Iterator[Serving]:  # noqa: ARG001 - the fixture sets PROVISION_SETTINGS
    found = Serving("--port", "0")
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        found.lines.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Return the paths of a certificate for 127.0.0.1 and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=a"]
    subprocess.run([*words, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return str(cert), str(key)


def refused(*words: str) -> str:
    """Run the command, which must fail with one line; return the line."""
    done = subprocess.run([*PROVISION, "serve", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 64, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_serve_prints_its_address_and_ends_on_sigterm(serving: Serving) -> None:
    """SIGTERM ends API and loop. Without a token in the store, the server prints how to create one."""
    assert "provision token create" in json.loads(serving.lines.readline())["text"]
    assert httpx.get(f"{serving.url}/healthz", trust_env=False).json() == {"status": "alive"}
    serving.process.send_signal(signal.SIGTERM)
    assert "stopped" in serving.lines.read()
    assert serving.process.wait() == 0


def test_second_signal_ends_the_server_at_once(serving: Serving) -> None:
    """A second signal cuts off requests in progress."""
    with httpx.stream("GET", f"{serving.url}/healthz", trust_env=False):
        serving.process.send_signal(signal.SIGINT)
        serving.process.send_signal(signal.SIGINT)
        # The second signal may come before the first is handled; then they count as one.
        assert serving.process.wait() in (0, 130)


def test_unusable_serve_options_give_one_line(here: Path, serving: Serving, certificate: tuple[str, str]) -> None:
    """The server refuses a network address without TLS, a port in use, a bad certificate, and half of a pair."""
    cert, key = certificate
    assert "--tls-cert" in refused("--host", "0.0.0.0", "--port", "0")
    assert "in use" in refused("--port", serving.url.rpartition(":")[2])
    assert "settings.toml" in refused("--port", "0", "--tls-cert", str(here / "settings.toml"), "--tls-key", key)
    assert "nowhere" in refused("--port", "0", "--tls-cert", str(here / "nowhere"), "--tls-key", key)
    assert "given together" in refused("--port", "0", "--tls-cert", cert)
    assert "either" in refused("--port", "0", "--tls-cert", cert, "--tls-key", key, "--behind-proxy")
    assert "nonsense" in refused("--host", "nonsense.invalid", "--behind-proxy", "--port", str(free_ports(1)[0]))


@pytest.mark.usefixtures("here")
def test_server_with_too_few_files_does_not_begin() -> None:
    """Idle clients would block all launches; one line says which limit to raise."""
    words = ["sh", "-c", 'ulimit -n 128; exec "$@"', "sh", *PROVISION, "serve", "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (64, 1)


def test_serve_listens_with_tls(here: Path, certificate: tuple[str, str]) -> None:  # noqa: ARG001
    """The server listens on all addresses with TLS."""
    cert, key = certificate
    found = Serving("--host", "0.0.0.0", "--port", "0", "--tls-cert", cert, "--tls-key", key)
    try:
        url = found.url.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=cert)
        assert httpx.get(f"{url}/healthz", verify=context, trust_env=False).status_code == 200
    finally:
        found.process.terminate()
        found.process.wait()
        found.lines.close()


def test_client_that_connects_before_the_server_is_ready_waits() -> None:
    """The listener accepts as soon as its address is known, while the store is still being opened."""
    with bound(Listening("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        pass
