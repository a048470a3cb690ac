"""Real servers for the contract suites, one of each per worker, and their access key."""

import base64
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from provisioner.adapters.aws import Calls, Session
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.adapters.ec2.codes import translate
from provisioner.adapters.sql.store import SqlStore
from provisioner.ports.store import Store
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.ec2.conditions import (
    Conditions,
)
from provisioner.rehearsal.fakes.clock import CountingIds, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud
from provisioner.rehearsal.scenario import Scenario
from tests.contracts.stage import INSTALLATION, Raise, Stage
from tests.service.memory_store import MemoryStore
from tests.support.hosts import IdleHost
from tests.support.seaweed import seaweed

REGION = "us-east-1"

#: The key with which SeaweedFS signs the session tokens of its STS.
SIGNING_KEY = b"signing-key-of-the-contract-tests"
ROLE = "arn:aws:iam::123456789012:role/machine"


@pytest.fixture(params=["sql", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = (
        SqlStore(tmp_path / "store.db", CountingIds()) if request.param == "sql" else MemoryStore(CountingIds())
    )
    yield made
    made.close()


#: Any caller with a key may assume a role that reads agents and uses mailboxes (SeaweedFS wiki, "OIDC Integration").
IAM: Mapping[str, Any] = {
    "sts": {
        "issuer": "test",
        "signingKey": base64.b64encode(SIGNING_KEY).decode(),
        "tokenDuration": "1h",
        "maxSessionLength": "12h",
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "roles": [
        {
            "roleName": "machine",
            "roleArn": ROLE,
            "trustPolicy": {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
            },
            "attachedPolicies": ["fetch", "mailbox"],
        }
    ],
    "policies": [
        {
            "name": "fetch",
            "document": {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::agents-*/agent/*"}
                ],
            },
        },
        {
            "name": "mailbox",
            "document": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["s3:GetObject", "s3:PutObject"],
                        "Resource": "arn:aws:s3:::mailboxes-*/*",
                    }
                ],
            },
        },
    ],
    "providers": [],
}


@pytest.fixture(autouse=True, scope="module")
def access_key() -> Iterator[None]:
    """Set the access key for one module; tests of other folders have their own keys or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """Yield the URL of moto's S3 over HTTP."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def seaweed_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of SeaweedFS, an independent S3 server that checks signatures and checksums."""
    with seaweed(tmp_path_factory.mktemp("seaweed"), IAM) as url:
        yield url


def signed_anew(token: str, expires: int) -> str:
    """Return the session token, a JWT, signed with another expiry time (RFC 7519)."""
    head, claims, _ = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    told |= {"exp": expires, "iat": expires - 3600, "nbf": expires - 3600}
    text = f"{head}.{_base64(json.dumps(told).encode())}"
    return f"{text}.{_base64(hmac.new(SIGNING_KEY, text.encode(), 'sha256').digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(params=["fake", "double"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Raise]:
    """Return a function that makes a cloud with the given conditions, at most once per test."""
    with ExitStack() as up:

        def make(**conditions: object) -> Stage:
            clock, given = StepClock(), Conditions(**conditions)  # type: ignore[arg-type]
            if request.param == "fake":
                fake = FakeCloud(clock, given)
                return Stage(fake, clock, lambda one: fake.model.interrupt(one, clock.now()), fake.console_of, "ami-1")
            host = IdleHost()
            double = up.enter_context(Double(Scenario(given), host, clock=clock, installation=INSTALLATION))
            for name, value in double.environment().items():
                monkeypatch.setenv(name, value)
            subnets = [subnet for subnet, zone in double.account.subnets.items() if zone[-1] in "abc"]
            cloud = Ec2(INSTALLATION, Session(double.region), subnets, calls=Calls(translate, first_wait=0))
            up.callback(cloud.close)
            return Stage(cloud, clock, double.interrupt, host.consoles, double.account.image_id)

        yield make
