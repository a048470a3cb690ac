"""The boot script's first fetch, with a role's credentials, from a server that checks them."""

import email
import hashlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from provisioner.adapters import agent_package
from provisioner.core.cloud.user_data import user_data
from provisioner.core.protocol.keys import agent_key
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines import doubles
from provisioner.rehearsal.machines.host import Guest
from tests.contracts.conftest import REGION, ROLE, signed_anew

AGENT = b"PK\5\6" + bytes(18)
SHA256 = hashlib.sha256(AGENT).hexdigest()
GUEST = Guest("i-1", "g5.xlarge", "ami-1", REGION, "us-east-1a", "spot", 0.0, "10.0.0.1", "data", "", "")

#: A sitecustomize module for the machine's Python: pauses take no time, and the clock is off by some seconds.
CLOCK = """
import time
now, utc = time.time, time.gmtime
time.sleep = lambda _: None
time.time = lambda: now() + {seconds}
time.gmtime = lambda moment=None: utc(time.time() if moment is None else moment)
"""


@dataclass
class Machine:
    folder: Path
    url: str
    bucket: str
    credentials: Credentials
    metadata: Metadata
    sha256: str = SHA256
    #: Seconds by which the clock is ahead.
    ahead: int = 0

    def boot(self) -> subprocess.CompletedProcess[str]:
        """Run the user-data's script with doubles for commands that would affect this computer; pauses take no time."""
        text = user_data(self.bucket, "", REGION, "AROA", self.sha256, agent_package.fetch_source(), endpoint=self.url)
        [script] = [
            part.get_payload(decode=True)
            for part in email.message_from_string(text).walk()
            if part.get_content_type() == "text/x-shellscript"
        ]
        commands = self.folder / "bin"
        doubles.install(commands, self.folder / "told", 0, [])
        (self.folder / "clock").mkdir(exist_ok=True)
        (self.folder / "clock/sitecustomize.py").write_text(CLOCK.format(seconds=self.ahead))
        path = f"{commands}:{os.defpath}"
        assert not doubles.reaching_out(commands, path, [])
        environment = {
            "PATH": path,
            "PROVISION_ROOT": str(self.folder),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.url("i-1"),
            "PYTHONPATH": str(self.folder / "clock"),
        }
        assert isinstance(script, bytes)
        words = ["sh", "-c", script.decode()]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    def refused(self) -> str:
        """Boot, assert that no agent was fetched, and return the console's only line."""
        booted = self.boot()
        assert booted.returncode == 1
        assert booted.stderr == ""
        assert not (self.folder / "var/lib/provision/agent.zip").exists()
        [line] = booted.stdout.splitlines()
        return line.removeprefix("provision: powering off: the agent cannot be fetched: ").replace(self.url, "URL")


@pytest.fixture
def machine(seaweed_url: str, tmp_path: Path) -> Iterator[Machine]:
    """Yield a machine whose bucket has the agent, with a role's credentials and session token."""
    bucket = f"agents-{uuid.uuid4().hex}"
    s3 = boto3.client("s3", endpoint_url=seaweed_url, region_name=REGION)
    sts: Any = boto3.client("sts", endpoint_url=seaweed_url, region_name=REGION)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=agent_key(SHA256), Body=AGENT)
    given = sts.assume_role(RoleArn=ROLE, RoleSessionName="i-1")["Credentials"]
    own = Credentials(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], given["Expiration"].timestamp()
    )
    metadata = Metadata(lambda _: made.credentials, "role")
    metadata.start()
    metadata.add(GUEST)
    made = Machine(tmp_path, seaweed_url, bucket, own, metadata)
    yield made
    metadata.close()
    for client in (s3, sts):
        client.close()


def test_a_role_with_its_token_gets_the_agent(machine: Machine) -> None:
    """The boot prints nothing and starts the agent's service."""
    booted = machine.boot()
    assert (booted.returncode, booted.stdout, booted.stderr) == (0, "", "")
    assert (machine.folder / "var/lib/provision/agent.zip").read_bytes() == AGENT
    assert b"provision-agent.service" in (machine.folder / "told").read_bytes()


def test_a_wrong_secret_key_is_named(machine: Machine) -> None:
    """The server computes another signature."""
    machine.credentials = replace(machine.credentials, secret_key="another")
    assert "403 SignatureDoesNotMatch: the secret key of this machine's credentials is wrong" in machine.refused()


@pytest.mark.parametrize("change", [{"access_key": "ASIAANOTHER"}, {"token": ""}, {"token": "another"}])
def test_unknown_credentials_are_named(machine: Machine, change: dict[str, str]) -> None:
    """The credentials have an unknown key, no token, or a wrong token."""
    machine.credentials = replace(machine.credentials, **change)  # type: ignore[arg-type]
    line = machine.refused()
    assert "403 InvalidAccessKeyId: S3 rejects this machine's credentials" in line


def test_an_expired_token_is_named(machine: Machine) -> None:
    """S3 answers ExpiredToken, but SeaweedFS InvalidAccessKeyId, so the metadata service's expiry time decides.

    SeaweedFS's STS issues no token for less than 15 minutes, so the test signs one that has expired.
    """
    ended = time.time() - 60
    token = signed_anew(machine.credentials.token, int(ended))
    machine.credentials = replace(machine.credentials, token=token, expires_at=ended)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended))
    line = machine.refused()
    expired = f"the credentials of this machine's role expired at {moment}"
    assert f"{expired}, and the metadata service has no newer ones" in line
    # The refusal was for the expiry, not for the new signature.
    machine.credentials = replace(machine.credentials, token=signed_anew(token, int(time.time() + 600)))
    assert machine.boot().returncode == 0


@pytest.mark.parametrize(("minutes", "words"), [(-20, "20 min behind"), (20, "20 min ahead")])
def test_a_clock_that_is_off_is_named(machine: Machine, minutes: int, words: str) -> None:
    """The clock is off by more than the 15 minutes that S3 and this server allow."""
    machine.ahead = minutes * 60
    line = machine.refused()
    assert f"403 RequestTimeTooSkewed: this machine's clock is {words}: its AMI needs a time service" in line


def test_clock_10_minutes_off_is_accepted(machine: Machine) -> None:
    """S3 and this server allow a difference of 15 minutes."""
    machine.ahead = -600
    assert machine.boot().returncode == 0


def test_a_machine_without_a_role_is_told_so(machine: Machine) -> None:
    """The metadata service has no credentials."""
    machine.metadata.remove("i-1")
    assert "this machine has no credentials" in machine.refused()


def test_an_agent_that_is_not_there_is_named(machine: Machine) -> None:
    """SeaweedFS answers NoSuchKey to every caller; S3 answers AccessDenied to a caller that may not list."""
    machine.sha256 = "0" * 64
    assert "404 NoSuchKey: the object does not exist" in machine.refused()


def test_an_agent_that_the_role_may_not_read_is_named(machine: Machine) -> None:
    """The role's policy allows the agents of another bucket only."""
    machine.bucket = "ready"
    assert "403 AccessDenied: the machine's role needs s3:GetObject on agent/" in machine.refused()
