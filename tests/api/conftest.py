"""A server without a cloud and without a daemon, so started runs stay queued. Its bucket is in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.settings import Rehearsal, Settings
from tests.api.served import Server
from tests.ports import free_ports


def settings(folder: Path) -> Settings:
    return Settings(
        installation="test",
        region="us-east-1",
        bucket="bucket",
        subnets=("subnet-1",),
        store=folder / "store.db",
        owner="keeper",
        # No server listens here, so every cloud call fails.
        rehearsal=Rehearsal(endpoint=f"http://127.0.0.1:{free_ports(1)[0]}"),
    )


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with Server(
            settings(tmp_path_factory.mktemp("quiet")), behind_proxy=True, acting=False, bucket=MemoryBucket()
        ) as server:
            yield server
