"""The instance store holds images and files where possible; trouble with it never ends a run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.agent.machine.paths import Paths
from provisioner.agent.machine.tools import Answer
from provisioner.agent.steps import instance_store
from provisioner.agent.steps.instance_store import MODEL, use_instance_store
from provisioner.core.protocol.words import Engine
from tests.agent.conftest import Site

ROOT_DISK = {"path": "/dev/nvme0n1", "model": "Amazon Elastic Block Store", "size": 1 << 37, "mountpoint": "/"}
GIB = 1 << 30


def disk(number: int, size: int = 600 * GIB, **fields: Any) -> dict[str, Any]:
    return {"path": f"/dev/nvme{number}n1", "model": f"{MODEL}  ", "size": size, "fstype": None, **fields}


class Machine:
    """A machine with these disks, whose tools only record their calls."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = folder / "docker"
        self.store = folder / "nvme"
        self.store.mkdir()
        self.disks: list[dict[str, Any]] = [ROOT_DISK]
        self.docker: dict[str, Any] = {"DockerRootDir": str(self.root), "Images": 0, "Containers": 0}
        #: Exit codes by the first word of a command.
        self.codes = {"is-active": 3}
        #: The number of calls of `mount` that succeed.
        self.mounts = 99
        self.asked: list[str] = []
        self.said: list[str] = []
        #: Free bytes by path; any other path is on the root disk.
        self.free = {str(self.store): 900 * GIB, f"{folder}/mnt/instance-store": 550 * GIB}
        self.node: Any = SimpleNamespace(
            order=SimpleNamespace(engine=Engine.CONTAINER), paths=Paths(str(folder)), say=self.said.append
        )
        patch.setattr(instance_store, "ask", self._ask)
        patch.setattr(instance_store, "CONTAINERD", folder / "containerd")
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=self.free.get(str(path), 60 * GIB)))

    def _ask(self, words: list[str], limit: float = 0.0) -> Answer:  # noqa: ARG002 - nothing waits here
        if words[0] == "lsblk":
            return Answer(0, json.dumps({"blockdevices": self.disks}))
        if words[0] == "docker":
            return Answer(self.codes.get("docker", 0), json.dumps(self.docker))
        self.asked.append(" ".join(words))
        if words[0] == "mount" and not self.mounts:
            return Answer(32, "no mount")
        self.mounts -= words[0] == "mount"
        return Answer(self.codes.get(words[1] if words[0] == "systemctl" else words[0], 0), "words")

    def use(self) -> list[str]:
        """Run the step and return its messages; assert that Docker runs again if it was stopped."""
        use_instance_store(self.node)
        begun = [words for words in self.asked if words.startswith("systemctl st")]
        assert begun in ([], [f"systemctl stop {STOPPED}", f"systemctl start {STARTED}"])
        return self.said


STOPPED = "docker.socket docker.service containerd.service"
STARTED = "containerd.service docker.service docker.socket"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def binds(machine: Machine, store: Path) -> list[str]:
    home = machine.node.paths.home
    places = (machine.root, instance_store.CONTAINERD, home / "files")
    return [f"mount --bind {store}/provision/{path.name} {path}" for path in places]


def test_a_volume_that_the_ami_has_made_is_used(machine: Machine) -> None:
    """The AMI has mounted one volume of all disks: both image stores and the files go there."""
    volume = {"path": "/dev/mapper/vg.01-lv_ephemeral", "model": None, "mountpoint": str(machine.store)}
    machine.disks += [disk(n, fstype="LVM2_member", children=[volume]) for n in (1, 2)]
    assert machine.use() == [f"images and files go to the instance store at {machine.store}, 966 GB free"]
    assert [words for words in machine.asked if "mount" in words] == binds(machine, machine.store)
    assert not any("mkfs" in words for words in machine.asked)


def test_the_largest_blank_disk_is_made_ready(machine: Machine) -> None:
    """If no disk is mounted, the largest blank one is used. The root disk and disks with data are never touched."""
    machine.disks += [disk(1, 100 * GIB), disk(2, 500 * GIB), disk(3, 900 * GIB, fstype="xfs")]
    fresh = Path(machine.node.paths.root) / "mnt/instance-store"
    assert "the instance store at " + str(fresh) in machine.use()[0]
    made = [words for words in machine.asked if not words.startswith("systemctl")]
    assert made[0].startswith("mkfs.ext4 ")
    assert made[0].endswith(" /dev/nvme2n1")
    assert made[1:] == [f"mount /dev/nvme2n1 {fresh}", *binds(machine, fresh)]


Change = Callable[[Machine], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda machine: machine.docker.update(Images=3), "3 images are on this machine already"),
        (lambda machine: machine.codes.update(docker=1), "Docker does not answer"),
        (lambda machine: machine.disks.__setitem__(1, disk(1, fstype="xfs")), "neither mounted nor blank"),
        (lambda machine: machine.disks.__setitem__(1, disk(1, 50 * GIB)), "the root disk has more free space"),
        (lambda machine: machine.codes.update({"is-active": 0}), "Docker did not stop"),
        (lambda machine: setattr(machine, "mounts", 0), "no mount"),
        (lambda machine: machine.codes.update({"mkfs.ext4": 1}), "mkfs.ext4"),
        (lambda machine: machine.disks.__setitem__(1, {"model": MODEL, "path": 1}), "'size'"),
    ],
)
def test_instance_store_trouble_is_logged_and_the_root_disk_used(machine: Machine, change: Change, words: str) -> None:
    """Trouble is one line; the run continues, and Docker is started again."""
    machine.disks.append(disk(1))
    change(machine)
    [said] = machine.use()
    assert said.startswith("the instance store is not used: ")
    assert words in said


def test_first_folder_is_unmounted_when_the_second_mount_fails(machine: Machine) -> None:
    """If the second folder cannot be mounted, the first is unmounted."""
    machine.disks.append(disk(1, mountpoint=str(machine.store)))
    machine.mounts = 1
    [said] = machine.use()
    assert "no mount" in said
    assert f"umount {machine.root}" in machine.asked


def test_machine_without_instance_store_is_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step lists the disks and says nothing."""
    assert (machine.use(), machine.asked) == ([], [])
    monkeypatch.setattr(instance_store, "ask", lambda _: Answer(127, "lsblk: not found"))
    assert machine.use() == []


def test_a_rehearsed_machine_touches_no_disk_of_this_computer(site: Site) -> None:
    """A rehearsed machine has a given list of disks and doubles of tools. Without Docker it ends before it uses any."""
    site.variables["PROVISION_BLOCK_DEVICES"] = json.dumps({"blockdevices": [disk(1)]})
    machine = site.run(site.order(":", engine=Engine.CONTAINER))
    assert b"lost: this machine has no container engine: docker: command not" in site.log(machine, "system")
    assert not os.path.ismount("/mnt/instance-store")
