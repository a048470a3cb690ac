"""Fixtures for jobs in containers: light machines with this computer's dockerd and a registry."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Engine
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.light import LightHost
from tests.agent.conftest import Site
from tests.engine import DockerEngine, engine, shell_tree


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """Yield an engine at DOCKER_HOST whose registry has `job:1` (user job) and `root:1`."""
    with engine() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", made.host)
        tree = shell_tree(tmp_path_factory.mktemp("tree"))
        made.publish("job", tree, "USER job")
        made.publish("root", tree)
        yield made


@pytest.fixture
def harbour(tmp_path: Path, aws_url: str, made: DockerEngine) -> Iterator[Site]:
    with harboured(tmp_path, aws_url, made) as site:
        yield site


@contextlib.contextmanager
def harboured(tmp_path: Path, aws_url: str, made: DockerEngine) -> Iterator[Site]:
    """Yield a site whose machines have a container engine."""
    metadata = Metadata(lambda _: Credentials("AKIA", "secret", "token", time.time() + 3600), "role")
    metadata.start()
    host = LightHost(tmp_path / "machines", docker=True)
    try:
        site = Site(tmp_path, aws_url, host, metadata)
        site.registry = made.registry
        yield site
    finally:
        host.close()
        metadata.close()
        assert made.docker("ps", "--all", "--quiet") == "", "a machine left its container behind"


def order(site: Site, image: str, command: str, **changes: object) -> WorkOrder:
    return site.order(command, image=image, engine=Engine.CONTAINER, **changes)
