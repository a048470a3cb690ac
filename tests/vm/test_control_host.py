"""A virtual machine as control host, set up as the README says; its jobs run on light machines."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.rehearsal import scenario
from provisioner.rehearsal.aws.calls import CONTROL
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from provisioner.rehearsal.machines.virtual.image import Image
from provisioner.rehearsal.machines.virtual.qemu import GATEWAY, QemuHost
from tests.polling import until
from tests.vm.conftest import PATIENCE, SMALL
from tests.vm.guest import ask

# The machine boots once. The test then waits for scheduled ticks, which takes as long as two boots.
pytestmark = pytest.mark.vm(boots=3)

ROOT = Path(__file__).parents[2]
#: The README's commands for a control host, without those for files already on its disk and for the recipe.
STEPS = re.search(r"(?ms)^sudo useradd .*?(?=^sudo -u provision )", (ROOT / "config" / "README.md").read_text())

PROVISION = "cd /opt/provision && sudo -u provision .venv/bin/provision"

RECIPE = {
    "type": "job",
    "spec": {
        "name": "each-minute",
        "image": "any",
        "command": "echo it is $(date)",
        "schedule": "* * * * *",
        **SMALL,
    },
}


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """Make /opt/provision: the checkout's `config`, and `.venv` with this package and its dependencies."""
    folder = tmp_path / "opt"
    shutil.copytree(ROOT / "config", folder / "config")
    version = f"python3.{sys.version_info.minor}"
    packages = folder / ".venv/lib" / version / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # pip applies constraints from the environment also to the build of this package.
    constrained = {**os.environ, "PIP_CONSTRAINT": "config/constraints.txt"}
    subprocess.run([*pip, "--target", str(packages), ".[server]"], cwd=ROOT, env=constrained, check=True)
    (folder / ".venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    programs = folder / ".venv/bin"
    programs.mkdir()
    (programs / "python").symlink_to(f"/usr/bin/{version}")
    script = (packages / "bin/provision").read_text()
    (programs / "provision").write_text(script.replace(sys.executable, "/opt/provision/.venv/bin/python"))
    (programs / "provision").chmod(0o755)
    return folder


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Double]:
    calm = scenario.parse({"boot_delay": "0s", "end_delay": "0s"})
    with Double(calm, LightHost(tmp_path / "machines", gpus=lambda _: 0), installation="host") as double:
        yield double


@pytest.fixture
def metadata(double: Double) -> Iterator[Metadata]:
    """Yield the control host's metadata service, with the control plane's rights in its instance profile."""
    keys = double.environment()
    own = Credentials(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], "", time.time() + 6 * 3600)
    metadata = Metadata(lambda _: own, "provision-control")
    yield metadata
    metadata.close()


@pytest.fixture
def host(guest_image: Image, tmp_path: Path) -> Iterator[QemuHost]:
    host = QemuHost(tmp_path / "hosts", guest_image, processors=1, way_in=True, second_disk=tmp_path / "opt.disk")
    yield host
    host.close()


def control_host(double: Double, metadata: Metadata) -> Guest:
    """Return a guest that mounts its disk and follows the README."""
    assert STEPS
    # sudo resolves the host's own name, which EC2's name servers know.
    found = 'echo "127.0.1.1 $(hostname)" >>/etc/hosts\nmkdir /opt/provision\nmount -o ro /dev/vdb /opt/provision'
    guest = Guest(
        instance_id="i-00000000000000001",
        instance_type="t3.small",
        image_id=double.account.image_id,
        region=double.region,
        zone=f"{double.region}a",
        market="on-demand",
        launch_time=time.time(),
        address="10.0.0.10",
        user_data=f"#!/bin/sh\nset -eux\n{found}\ncd /opt/provision\n{STEPS[0]}",
        metadata_url="",
        aws_url=double.url,
        open_metadata=lambda: metadata.listen(guest.instance_id),
    )
    metadata.add(guest)
    return guest


def settings(double: Double) -> str:
    return "\n".join(
        (
            f'installation = "{double.installation}"',
            f'region = "{double.region}"',
            f'bucket = "{double.bucket}"',
            f"subnets = {json.dumps(list(double.account.subnets))}",
            "[rehearsal]",
            f'endpoint = "{double.url.replace("127.0.0.1", GATEWAY)}"',
            f'machine_endpoint = "{double.url}"',
        )
    )


def disk_of(folder: Path, disk: Path) -> None:
    """Make a disk of the folder, owned by root as `sudo` would make it."""
    words = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", str(folder)]
    subprocess.run([*words, str(disk), "1G"], check=True)


def test_a_schedule_fires_on_a_control_host_that_systemd_keeps(
    host: QemuHost, double: Double, metadata: Metadata, opt: Path, tmp_path: Path
) -> None:
    """The service starts and archives a run each minute, also after `kill -9`. It stops in time with exit code 0."""
    (opt / "config/settings.toml").write_text(settings(double))
    (opt / "recipe.yaml").write_text(json.dumps(RECIPE))
    disk_of(opt, tmp_path / "opt.disk")
    guest = control_host(double, metadata)
    host.boot(guest, lambda _: None)
    folder = host.folder(guest.instance_id)

    def on_host(script: str) -> str:
        said = ask(folder, script)
        assert said.code == 0, (script, said.text)
        return said.text

    def archived() -> set[str]:
        keys = (key.split("/") for key in double.account.objects(double.bucket) if key.startswith("runs/"))
        return {key[1] for key in keys if key[2] == "receipt"}

    until(lambda: double.calls.of(principal=CONTROL), "a call of the control plane", patience=PATIENCE)
    on_host(f"{PROVISION} apply recipe.yaml")
    until(double.alive, "a machine", patience=PATIENCE)
    on_host("systemctl kill --signal=KILL provision-serve")
    until(lambda: len(archived()) > 1, "a run before and one after the kill", patience=PATIENCE)
    on_host("systemctl stop provision-serve")

    unit = "systemctl show provision-serve --property=NRestarts,Result,ExecMainStatus,UnitFileState"
    shown = dict(line.split("=") for line in on_host(unit).split())
    assert shown == {"NRestarts": "1", "Result": "success", "ExecMainStatus": "0", "UnitFileState": "enabled"}
    journal = on_host("journalctl _SYSTEMD_UNIT=provision-serve.service -o cat --no-pager").splitlines()
    texts = [json.loads(line).get("text", "") for line in journal]
    assert sum(text.startswith("listening at http://127.0.0.1:8080") for text in texts) == 2, texts
    assert texts[-1] == "stopped; runs continue on their machines"

    on_host("systemctl start provision-reap")
    runs = json.loads(on_host(f"{PROVISION} runs --json 2>/dev/null"))
    ticks = sorted(run["idempotency_key"] for run in runs)
    assert len(double.history()) <= len(set(ticks)) == len(runs)
    for run in runs:
        if run["id"] in archived():
            assert (run["attempt"], run["exit_code"]) == (1, 0), run
            assert on_host(f"{PROVISION} logs {run['id']}").startswith("it is "), run
