"""The host of virtual machines, with doubles of QEMU's programs: number of machines, limits, and cleanup."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.virtual.image import Image
from provisioner.rehearsal.machines.virtual.monitor import Unheard
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.polling import until

#: A double of QEMU that runs until the file `off` exists; its command line has the machine's MAC address.
QEMU = """#!/bin/sh
test -s disk || exit 1
echo "booted"
until [ -e off ]; do sleep 0.05; done
"""

#: A double of QEMU with a monitor that accepts every command and prints it to the console.
MONITORED = f"""#!{sys.executable}
import json, socket
server = socket.socket(socket.AF_UNIX)
server.bind("monitor")
server.listen()
print("booted", flush=True)
connection, _ = server.accept()
file = connection.makefile("rw")
def say(**words):
    print(json.dumps(words), file=file, flush=True)
say(QMP={{}})
for line in file:
    said = json.loads(line)
    print(said["execute"], *said["arguments"].values(), flush=True)
    say(event="RESET" if said["execute"] == "system_reset" else "RTC_CHANGE")
    say(**{{"return": {{}}}})
    say(event="STOP" if said["execute"] == "system_powerdown" else "RTC_CHANGE")
"""

#: A double of qemu-img that records its arguments in `asked`, beside the folder of programs.
DISK = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/../asked"
for file; do :; done
echo disk >"$file"
"""


def guest(name: str) -> Guest:
    return Guest(
        *(name, "t3.small", "ami-1", "us-east-1", "us-east-1a", "spot"),
        *(0.0, "10.0.0.1", "", "", ""),
        open_metadata=lambda: 1,
    )


def put(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Return an image for emulation, with doubles of QEMU's programs in PATH."""
    put(tmp_path / "bin/qemu-system-x86_64", QEMU)
    put(tmp_path / "bin/qemu-img", DISK)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Image(tmp_path / "image", "tcg")


@pytest.fixture
def host(tmp_path: Path, image: Image) -> Iterator[QemuHost]:
    host = QemuHost(tmp_path / "machines", image)
    yield host
    host.close()
    assert list((tmp_path / "machines").glob("*")) == []


def booted(host: QemuHost, name: str) -> bool:
    return "booted" in host.console(name)


def test_a_machine_that_powers_off_leaves_its_console_alone(host: QemuHost) -> None:
    """The end is reported after the cleanup; the console can still be read."""
    off: list[str] = []
    host.boot(guest("i-1"), off.append)
    until(lambda: booted(host, "i-1"), "the boot")
    (host.folder("i-1") / "off").touch()
    until(lambda: off, "the end")
    assert off == ["i-1"]
    assert not host.folder("i-1").exists()
    assert host.console("i-1") == "booted\n"


def test_a_third_machine_waits_for_its_turn(host: QemuHost) -> None:
    """The third machine's console says that it waits. The machine boots when another one has ended."""
    for name in ("i-1", "i-2"):
        host.boot(guest(name), lambda _: None)
        until(partial(booted, host, name), "the boot")
    host.boot(guest("i-3"), lambda _: None)
    until(lambda: "waiting to boot" in host.console("i-3"), "the third machine")
    assert not host.folder("i-3").exists()
    host.end("i-1")
    until(lambda: booted(host, "i-3"), "its boot")


def test_a_machine_that_is_ended_while_it_waits_never_boots(tmp_path: Path, image: Image) -> None:
    """The end of a waiting machine is not reported as a power-off. Two ends of one machine free only one place."""
    off: list[str] = []
    host = QemuHost(tmp_path / "machines", image, at_once=1)
    for name in ("i-1", "i-2", "i-3"):
        host.boot(guest(name), off.append)
        until(partial(host.console, name), "the machine")
    host.end("i-2")
    host.end("i-1")
    host.end("i-1")
    until(lambda: booted(host, "i-3"), "the last machine")
    host.close()
    assert off == []
    assert not booted(host, "i-2")


def test_a_machine_that_hangs_is_ended(tmp_path: Path, image: Image) -> None:
    """The limit cuts the power, which is reported, and noted on the console."""
    off: list[str] = []
    host = QemuHost(tmp_path / "machines", image, limit=0.1)
    host.boot(guest("i-1"), off.append)
    until(lambda: off, "the end")
    assert "timeout: sending signal KILL" in host.console("i-1")
    assert not host.folder("i-1").exists()


def test_a_machine_without_a_disk_ends_itself(tmp_path: Path, host: QemuHost) -> None:
    """The error is on its console, and its place is free again."""
    off: list[str] = []
    put(tmp_path / "bin/qemu-img", "#!/bin/sh\necho no space left >&2\nexit 1\n")
    for name in ("i-1", "i-2", "i-3"):
        host.boot(guest(name), off.append)
    until(lambda: len(off) == 3, "the ends")
    assert "no space left" in host.console("i-3")


def test_ssh_port_is_forwarded_from_each_machines_address(tmp_path: Path, image: Image) -> None:
    """The machine's SSH port is forwarded from this port of its public address only."""
    put(tmp_path / "bin/qemu-system-x86_64", '#!/bin/sh\necho "$@" booted\nsleep 60\n')
    host = QemuHost(tmp_path / "machines", image, ssh_port=2200)
    for number in (1, 2):
        host.boot(replace(guest(f"i-{number}"), public_address=f"127.0.1.{number}"), lambda _: None)
        until(partial(booted, host, f"i-{number}"), "the boot")
        assert f",hostfwd=tcp:127.0.1.{number}:2200-:22 " in host.console(f"i-{number}")
    host.close()


def test_a_captured_disk_is_what_others_boot_from(tmp_path: Path, host: QemuHost) -> None:
    """The machine is shut down for the capture and boots again.

    A forgotten image is removed with the last machine that uses it.
    """
    put(tmp_path / "bin/qemu-system-x86_64", MONITORED)
    host.boot(guest("i-1"), lambda _: None)
    until(lambda: booted(host, "i-1"), "the boot")
    host.capture("i-1", "ami-2")
    kept = tmp_path / "machines/images/ami-2"
    assert kept.exists()
    told = ["set-action pause", "system_powerdown", "set-action poweroff", "system_reset", "cont"]
    until(lambda: host.console("i-1").splitlines() == ["booted", "qmp_capabilities", *told], "its restart")
    host.boot(replace(guest("i-2"), image_id="ami-2"), lambda _: None)
    until(lambda: booted(host, "i-2"), "the boot from it")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.partition(" -F ")[2].split()[:3] for line in asked] == [
        ["raw", "-b", f"{tmp_path}/image/disk"],
        ["raw", "-B", f"{tmp_path}/image/disk"],
        ["qcow2", "-b", str(kept)],
    ]
    host.forget("ami-2")
    assert kept.exists()
    host.end("i-2")
    assert not kept.exists()


def test_a_machine_that_is_gone_is_not_captured(host: QemuHost) -> None:
    """The capture raises an error, and no image is made."""
    host.boot(guest("i-1"), lambda _: None)
    until(lambda: booted(host, "i-1"), "the boot")
    with pytest.raises(Unheard, match="QEMU does not answer"):
        host.capture("i-1", "ami-2")


def test_a_host_that_is_killed_leaves_nothing(tmp_path: Path, image: Image) -> None:
    """After kill -9 of its starter, QEMU ends and the disk is removed."""
    program = f"""
import time
from pathlib import Path
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.virtual.image import Image
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
host = QemuHost(Path({str(tmp_path / "machines")!r}), Image(Path({str(image.folder)!r}), "tcg"))
guest = {guest("i-1")!r}
object.__setattr__(guest, "open_metadata", lambda: 1)
host.boot(guest, print)
while "booted" not in host.console("i-1"): time.sleep(0.05)
print("up", flush=True)
time.sleep(1000)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    assert machines(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until(lambda: not machines(tmp_path) and not list((tmp_path / "machines").iterdir()), "the end of all of it")


def machines(tmp_path: Path) -> list[str]:
    """Return the processes whose working directory is a machine's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(tmp_path / "machines") in os.readlink(entry / "cwd"):
                found.append(entry.name)
        except OSError:
            pass
    return found
