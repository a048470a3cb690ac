"""Fixtures: virtual machines, and a real registry and git server that they can reach."""

import contextlib
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.rehearsal.machines.virtual.image import Image
from provisioner.rehearsal.machines.virtual.image import image as made_image
from provisioner.rehearsal.machines.virtual.qemu import GATEWAY, QemuHost
from tests.e2e.rig import Rig, rig
from tests.engine import DockerEngine, engine, python_tree, shell_tree
from tests.ports import free_ports

#: Seconds to wait for a machine: it boots in half a minute with its own processor, in minutes with a shared one.
PATIENCE = 900.0

#: The part of a recipe that chooses a small type without a GPU: emulated machines have none.
SMALL: dict[str, Any] = {"instance_type": "t3.small", "placement": {"gpu": "none"}}

#: Seconds for tests in which machines boot several times.
TIMEOUT = 1800

Boot = Callable[..., contextlib.AbstractContextManager[Rig]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with the most boots first, so that all workers end at about the same time."""

    def boots(item: pytest.Item) -> int:
        mark = item.get_closest_marker("vm")
        return mark.kwargs.get("boots", 1) if mark else 0

    items.sort(key=boots, reverse=True)
    for item in items:
        if item.get_closest_marker("vm"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last console output of a failed test's machines."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and isinstance(host, QemuHost):
        for name, text in host.consoles().items():
            report.sections.append((f"console of {name}", text[-6000:]))
    return report


@pytest.fixture(scope="session")
def guest_image() -> Image:
    return made_image(print)


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerEngine]:
    with engine() as made:
        yield made


def published(docker: DockerEngine, name: str, tree: Path) -> str:
    """Publish an image of the tree; return the name that a guest uses for it."""
    return docker.publish(name, tree, "ENV PATH=/bin").replace("127.0.0.1", GATEWAY)


@pytest.fixture(scope="session")
def image(docker: DockerEngine) -> str:
    """Return the name of an image with a shell and its tools, in a registry."""
    return published(docker, "shell", shell_tree(docker.folder / "shell"))


@pytest.fixture(scope="session")
def python_image(docker: DockerEngine) -> str:
    """Return the name, for a guest, of an image with Python and boto3 in a registry."""
    return published(docker, "python", python_tree(docker.folder / "python"))


@pytest.fixture
def host(guest_image: Image, tmp_path: Path) -> Iterator[QemuHost]:
    [port] = free_ports(1, host="")
    host = QemuHost(
        tmp_path / "machines",
        guest_image,
        gpus=lambda name: int(name.startswith("g")),
        # Another worker's machine uses the other processor.
        processors=1,
        way_in=True,
        ssh_port=port,
    )
    yield host
    host.close()


@pytest.fixture
def boot(host: QemuHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Return a function that yields a Rig with virtual machines."""

    @contextlib.contextmanager
    def virtual(**conditions: Any) -> Iterator[Rig]:
        with rig(tmp_path / "rig", monkeypatch, host=host, **conditions) as whole:
            whole.patience, whole.pace = PATIENCE, 0.5
            yield whole

    return virtual


@pytest.fixture
def whole(boot: Boot) -> Iterator[Rig]:
    with boot() as whole:
        yield whole


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Serve repositories below `tmp_path` over the network; yield a function that returns a repository's URL."""
    [port] = free_ports(1)
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={tmp_path}", "--export-all"]
    server = subprocess.Popen(command, start_new_session=True)
    yield lambda folder: f"git://{GATEWAY}:{port}/{folder.relative_to(tmp_path)}"
    server.terminate()
    server.wait()
