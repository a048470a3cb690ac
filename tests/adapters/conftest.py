"""Fixtures: an EC2 double in which tests inject faults, a TLS certificate, and two stores on one file."""

import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from provisioner.adapters.sql.store import SqlStore
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.fakes.clock import CountingIds
from provisioner.rehearsal.scenario import Scenario
from tests.adapters.answering import (
    Against,
    Client,
)
from tests.adapters.stranger import Answering, Stranger
from tests.support.hosts import IdleHost


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    with Double(Scenario(Conditions()), IdleHost("booted\n"), installation="installation-1") as up:
        for name, value in up.environment().items():
            monkeypatch.setenv(name, value)
        yield up


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a self-signed certificate for 127.0.0.1 and provision.example.com, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provision")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("provision.example.com")]
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pem"
    form = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + text)
    return path


@pytest.fixture
def against() -> Iterator[Against]:
    """Return a function that starts a server with these answers and returns it with a client."""
    opened: list[tuple[Client, Stranger]] = []

    def open(answering: Answering) -> tuple[Client, Stranger]:
        server = Stranger(answering)
        server.__enter__()
        opened.append((Client(server.url), server))
        return opened[-1]

    yield open
    for client, server in opened:
        client.control.close()
        server.__exit__(None, None, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store that does not exist yet, in a folder that does not exist."""
    return tmp_path / "deep" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    made = SqlStore(path, CountingIds())
    yield made
    made.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[SqlStore, SqlStore]]:
    """Yield two stores on one file, as two processes have them."""
    one, other = (SqlStore(tmp_path / "store.db", CountingIds()) for _ in range(2))
    yield one, other
    one.close()
    other.close()
