"""The variables of a job that no other test sees."""

from collections.abc import Mapping
from dataclasses import replace

from provisioner.agent.aws.imds import Identity
from provisioner.agent.job.environment import HANDED_ON, NO_API, job_environment
from provisioner.core.protocol.messages import ListWork
from tests.support.work_orders import ORDER

MACHINE = Identity("i-1", "g5.xlarge", "us-east-1", "10.0.0.1", 0.0)


def variables(
    commands: ListWork | None = None, own: Mapping[str, str] | None = None, **environment: str
) -> dict[str, str]:
    order = replace(ORDER, commands=commands, environment=environment)
    return job_environment(order, MACHINE, own or {}, {}, "10.0.0.1")


def test_commands_of_a_list_can_start_saturns_client() -> None:
    """It needs an address with a host, and a token. The recipe's own values take precedence."""
    found = variables(ListWork(slots=1, total=2))
    assert {name: found[name] for name in NO_API} == NO_API
    own = variables(ListWork(slots=1, total=2), SATURN_BASE_URL="https://mine.example", SATURN_TOKEN="mine")
    assert (own["SATURN_BASE_URL"], own["SATURN_TOKEN"]) == ("https://mine.example", "mine")


def test_a_single_command_does_not_seem_to_have_saturns_api() -> None:
    """Programs take the variables for access to it."""
    assert not NO_API.keys() & variables().keys()


def test_aws_tools_of_a_job_find_the_double_and_their_credentials() -> None:
    """Only in a rehearsal: otherwise the agent does not have these variables."""
    own = {name: f"http://127.0.0.1/{name}" for name in HANDED_ON}
    assert own.items() <= variables(own={**own, "AWS_SECRET_ACCESS_KEY": "secret"}).items()
    assert "AWS_SECRET_ACCESS_KEY" not in variables(own={"AWS_SECRET_ACCESS_KEY": "secret"})
    assert not {"AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT"} & variables().keys()
    assert {"AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT"} <= variables(own=own).keys()
