"""The metadata service of rehearsed machines, read by botocore and by the agent."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from botocore.session import Session

from provisioner.agent.aws import fetch, imds
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest


@pytest.fixture
def service() -> Iterator[Metadata]:
    service = Metadata(lambda machine: Credentials(f"AKIA-{machine}", "secret", "token", time.time() + 3600), "role")
    service.start()
    for name in ("i-1", "i-2"):
        guest = Guest(name, "g5.xlarge", "ami-1", "eu-west-1", "eu-west-1a", "spot", 1e9, "10.0.0.1", "data", "", "")
        service.add(guest)
    yield service
    service.close()


def test_botocore_finds_each_machines_own_credentials(service: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines on one port never get each other's credentials."""
    for name in ("i-1", "i-2"):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url(name))
        credentials = Session().get_credentials()
        assert credentials is not None
        assert (credentials.access_key, credentials.token) == (f"AKIA-{name}", "token")


def test_the_agent_reads_its_identity_and_a_notice(service: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launch time and notice are exact to the second; before the announcement there is no notice."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url("i-1"))
    assert imds.identity() == imds.Identity("i-1", "g5.xlarge", "eu-west-1", "10.0.0.1", 1e9)
    assert fetch.metadata("user-data") == b"data"
    assert fetch.metadata("meta-data/placement/availability-zone") == b"eu-west-1a"
    assert imds.notice() is None
    service.announce("i-1", 2e9)
    seen = imds.notice()
    assert seen is not None
    assert seen.at == 2e9
    assert imds.rebalance() is not None


def test_a_recommendation_comes_alone(service: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may get a rebalance recommendation without ever getting a notice."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url("i-1"))
    assert imds.rebalance() is None
    service.recommend("i-1")
    assert imds.rebalance() is not None
    assert imds.notice() is None


def test_metadata_without_a_token_is_401(service: Metadata) -> None:
    """IMDSv2: a GET without a token is 401; a machine that was removed is 404."""
    for path, code in (("/latest/meta-data/instance-id", 401), ("-gone/latest/meta-data/instance-id", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(service.url("i-1") + path)
        assert refused.value.code == code
        refused.value.close()
    service.remove("i-1")
    with pytest.raises(urllib.error.HTTPError) as gone:
        urllib.request.urlopen(service.url("i-1") + "/latest/user-data")
    assert gone.value.code == 404
    gone.value.close()


def test_a_machine_may_have_a_port_of_its_own(service: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own port a machine gets only its own data, at EC2's paths; the port closes with the machine."""
    port = service.listen("i-2")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
    assert imds.identity().instance_id == "i-2"
    mac = fetch.metadata("meta-data/mac").decode()
    assert fetch.metadata("meta-data/network/interfaces/macs/").decode() == f"{mac}/"
    assert fetch.metadata(f"meta-data/network/interfaces/macs/{mac}/local-ipv4s") == b"10.0.0.1"
    service.remove("i-2")
    with pytest.raises(OSError, match="refused"):
        fetch.metadata("meta-data/mac")
