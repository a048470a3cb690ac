"""Put Docker's images and the job's files on the instance store: fast disks in the machine, included in its price.

AWS's Deep Learning AMIs join all these disks into one volume and mount it before user-data runs
(dlami-nvme.service, at /opt/dlami/nvme). On other AMIs the largest disk is used, if it is blank.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provisioner.agent.machine.tools import CHANGE, ask
from provisioner.agent.node import Node
from provisioner.core.protocol.words import Engine

#: The model name of an instance store's disk (EC2 User Guide, "NVMe instance store volumes").
MODEL = "Amazon EC2 NVMe Instance Storage"

#: The folder in which Docker keeps images since version 29; older versions use the data root (Docker docs, "containerd
#: image store").
CONTAINERD = Path("/var/lib/containerd")

#: The socket must stop first: it would start the service again.
UNITS = ("docker.socket", "docker.service", "containerd.service")


class Unused(Exception):
    """Raised if the instance store is not used; the message is the reason."""


def use_instance_store(node: Node) -> None:
    """Put images and files on the instance store; if there is none, or after an error, they stay on the root disk."""
    if node.order.engine is not Engine.CONTAINER:
        return
    try:
        if disks := _disks():
            node.say(_use(node, disks))
    except Unused as unused:
        node.say(f"the instance store is not used: {unused}")
    except Exception as error:  # noqa: BLE001 - after any error the root disk is used
        node.say(f"the instance store is not used: {error!r}")


def _disks() -> list[dict[str, Any]]:
    answer = ask(["lsblk", "--json", "--bytes", "--output", "PATH,MODEL,SIZE,FSTYPE,MOUNTPOINT"])
    devices = json.loads(answer.text)["blockdevices"] if answer.text and not answer.code else []
    return [device for device in devices if (device.get("model") or "").strip() == MODEL]


def _use(node: Node, disks: list[dict[str, Any]]) -> str:
    answer = ask(["docker", "info", "--format", "{{json .}}"])
    if answer.code:
        raise Unused(f"Docker does not answer: {answer.text}")
    docker = json.loads(answer.text)
    root = Path(docker["DockerRootDir"])
    if docker["Images"] or docker["Containers"]:
        raise Unused(f"{docker['Images']} images are on this machine already, and stay where they are")
    if os.path.ismount(root):
        raise Unused(f"{root} is on a separate disk already")
    store = _store(disks, Path(f"{node.paths.root}/mnt/instance-store"), shutil.disk_usage(root).free)
    # The exit code is ignored: one of the units may not exist, and systemctl stops the others.
    ask(["systemctl", "stop", *UNITS], CHANGE)
    try:
        if not ask(["systemctl", "is-active", "--quiet", *UNITS]).code:
            raise Unused("Docker did not stop")
        _bind(store / "provision", [root, CONTAINERD, node.paths.home / "files"])
    finally:
        ask(["systemctl", "start", *reversed(UNITS)], CHANGE)
    return f"images and files go to the instance store at {store}, {shutil.disk_usage(store).free / 1e9:.0f} GB free"


def _store(disks: list[dict[str, Any]], fresh: Path, wanted: int) -> Path:
    """Return where the instance store is mounted; if it is not, format a blank disk and mount it at `fresh`.

    Raises Unused unless the store has more free space than `wanted`, in bytes.
    """
    mounted = [Path(point) for point in _mounts(disks) if point.startswith("/")]
    store = max(mounted, key=lambda path: shutil.disk_usage(path).free, default=None)
    blank = [disk for disk in disks if not disk.get("fstype") and not disk.get("children")]
    largest = max(blank, key=lambda disk: int(disk["size"]), default=None)
    if store is not None:
        room = shutil.disk_usage(store).free
    elif largest is not None:
        room = int(largest["size"])
    else:
        raise Unused("its disks are neither mounted nor blank")
    if room <= wanted:
        raise Unused(f"the root disk has more free space: {wanted / 1e9:.0f} GB")
    if store is None and largest is not None:
        # The disk is blank: nothing needs to be discarded, and unused parts need not be initialised.
        _must("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", largest["path"])
        fresh.mkdir(parents=True, exist_ok=True)
        _must("mount", largest["path"], str(fresh))
    return store or fresh


def _bind(store: Path, folders: list[Path]) -> None:
    """Mount a folder of the store over each folder; undo all mounts after an error. Raises OSError and Unused."""
    bound: list[Path] = []
    try:
        for folder in folders:
            for path in (store / folder.name, folder):
                path.mkdir(parents=True, exist_ok=True)
            _must("mount", "--bind", str(store / folder.name), str(folder))
            bound.append(folder)
    except (OSError, Unused):
        for folder in reversed(bound):
            ask(["umount", str(folder)])
        raise


def _mounts(devices: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the mount points of the devices, and of volumes or partitions that were made of them."""
    for device in devices:
        if device.get("mountpoint"):
            yield device["mountpoint"]
        yield from _mounts(device.get("children") or [])


def _must(*words: str) -> None:
    answer = ask(words, CHANGE)
    if answer.code:
        raise Unused(f"{' '.join(words)}: {answer.text}")
