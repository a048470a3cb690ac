"""Fixtures: a double whose machines do nothing, and boto3 clients of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from botocore.config import Config

from provisioner.rehearsal.double import Double
from provisioner.rehearsal.scenario import parse
from tests.support.hosts import IdleHost


class Rig:
    """A running double, and clients of it."""

    def __init__(self, double: Double, host: IdleHost) -> None:
        self.double, self.host = double, host

    def client(
        self,
        service: Any,
        instance_id: str = "",
        *,
        administrator: bool = False,
        patience: float = 30,
        secret: str = "",
    ) -> Any:
        """Return a boto3 client for the control plane, a machine, or the account's administrator.

        `secret` replaces the secret key.
        """
        given = self.double.administrator_environment() if administrator else self.double.environment()
        if instance_id:
            given = self.double.machine_environment(instance_id)
        return boto3.client(
            service,
            endpoint_url=given["AWS_ENDPOINT_URL"],
            region_name=given["AWS_REGION"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret or given["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=given.get("AWS_SESSION_TOKEN"),
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=30, read_timeout=patience),
        )


Raise = Callable[..., Rig]


@pytest.fixture
def up() -> Iterator[Raise]:
    """Yield a function that starts a double for a scenario; it ends with the test."""
    with ExitStack() as stack:

        def up(scenario: dict[str, Any] | None = None, **options: Any) -> Rig:
            host = IdleHost("console of {id}\n")
            given = {"boot_delay": 0, "end_delay": 0, **(scenario or {})}
            return Rig(stack.enter_context(Double(parse(given), host, **options)), host)

        yield up
