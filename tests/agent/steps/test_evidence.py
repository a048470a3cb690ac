"""A machine's evidence for a failure goes into the one-line reason."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from provisioner.agent.machine import disk, kernel
from provisioner.agent.machine.disk import Disks
from provisioner.agent.machine.xids import xids
from provisioner.core.protocol.messages import Orders, Stop
from provisioner.core.protocol.words import Outcome, Step
from tests.agent.conftest import Site, sited
from tests.polling import until
from tests.support import needs

XID = "[   12.345678] NVRM: Xid (PCI:0000:65:00): {}, pid='<unknown>', name=<unknown>, and more"
OLD_KILL = "[ 99.000001] Out of memory: Kill process 7 (python) score 900 or sacrifice child"
KILL = "[  100.000001] Out of memory: Killed process 4711 (py (x) thon) total-vm:1kB, anon-rss:1kB, UID:0"
OF_CGROUP = "[  100.000002] Memory cgroup out of memory: Killed process 4712 (worker) total-vm:1kB"
#: The path of the machine's kernel log for a job of the process engine.
LOG = '"$HOME/../../var/log/dmesg"'


def test_processes_that_the_kernel_killed_are_named() -> None:
    """Covers messages of old and new kernels, for the machine and for a container with a limit."""
    lines = ["[ 1.0] x invoked oom-killer: gfp_mask=0x0", OLD_KILL, KILL, OF_CGROUP]
    assert kernel.killed(lines) == ["python (process 7)", "py (x) thon (process 4711)", "worker (process 4712)"]


def test_the_log_is_read_from_where_it_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier lines are not reported again. If the ring buffer has dropped the last read line, all are reported."""
    lines = ["[ 1.0] a", "[ 2.0] b", "[ 3.0] c"]
    monkeypatch.setattr(kernel, "ask", lambda *_: SimpleNamespace(code=0, text="\n".join(lines)))
    assert (kernel.latest(), kernel.messages("[ 2.0] b"), kernel.messages("[ 3.0] c")) == (lines[2], lines[2:], [])
    assert kernel.messages("[ 0.5] gone") == kernel.messages() == lines
    monkeypatch.setattr(kernel, "ask", lambda *_: SimpleNamespace(code=1, text="dmesg: Operation not permitted"))
    assert (kernel.latest(), kernel.messages()) == ("", [])


def test_an_xid_is_told_once_and_in_words() -> None:
    """The driver may repeat an Xid. An Xid that a job can cause is reported by number only."""
    assert list(map(str, xids([XID.format(79), "[ 1.0] else", XID.format(79), XID.format(13)]))) == [
        "Xid 79 of PCI:0000:65:00 (the GPU has fallen off the bus)",
        "Xid 13 of PCI:0000:65:00",
    ]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PROVISION_ECC_ERRORS": "3"}, "uncorrected memory errors"),
        ({"PROVISION_KERNEL_LOG": XID.format(95)}, "Xid 95 of PCI:0000:65:00 (an uncontained memory error)"),
        ({"PROVISION_KERNEL_LOG": XID.format(79), "PROVISION_GPUS": "0"}, "the GPU has fallen off the bus"),
    ],
)
def test_a_broken_gpu_loses_the_run(site: Site, variables: dict[str, str], words: str) -> None:
    """The fault is found before any pull."""
    site.variables.update(variables)
    result = site.result(site.run(site.order("echo never", gpus=1)))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.LOST, Step.BOOT, None)
    assert words in result.reason


def test_xid_a_job_can_cause_is_logged_but_not_in_the_reason(site: Site) -> None:
    """An Xid that a job can cause, logged before this job, is in the system stream and not in the reason."""
    site.variables["PROVISION_KERNEL_LOG"] = XID.format(43)
    machine = site.run(site.order("exit 3", gpus=1))
    assert site.result(machine).reason == "the command exited with 3"
    assert b"; Xid 43 of PCI:0000:65:00\n" in site.log(machine, "system")


def test_a_killed_child_and_an_xid_are_named(site: Site) -> None:
    """Only lines logged since the job began count."""
    site.variables["PROVISION_KERNEL_LOG"] = OLD_KILL
    command = f"echo '{KILL}' >>{LOG}; echo \"{XID.format(31)}\" >>{LOG}; exit 1"
    result = site.result(site.run(site.order(command)))
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 1)
    assert result.reason == (
        "the command exited with 1; out of memory: the kernel killed py (x) thon (process 4711); "
        "use an instance type with more memory; the GPU driver logged Xid 31 of PCI:0000:65:00"
    )


def test_job_that_survives_an_oom_kill_succeeds(site: Site) -> None:
    """The system stream has the kernel's kill; the reason of a success need not explain it."""
    machine = site.run(site.order(f"echo '{OF_CGROUP}' >>{LOG}"))
    assert site.result(machine).reason == "the command exited with 0"
    assert b"the kernel killed worker (process 4712)" in site.log(machine, "system")


@pytest.fixture
def small(tmp_path: Path, aws_url: str) -> Iterator[Site]:
    """Yield a site whose machines have a real disk of 160 MiB."""
    with sited(tmp_path, aws_url, disk=160 << 20) as site:
        needs.bubblewrap(works=site.host.sandboxed, proves="a machine with a full disk")
        yield site


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"command": "echo before; cat /dev/zero >big; exit 7"}, Step.COMMAND),
        # A full disk is noticed even if the job deletes the file.
        ({"command": "echo before; cat /dev/zero >big; sleep 1; rm big; exit 7"}, Step.COMMAND),
        ({"command": "echo never", "start_script": "echo before; cat /dev/zero >big; exit 7"}, Step.SETUP),
    ],
)
def test_a_full_disk_is_named_and_costs_no_byte_of_the_log(small: Site, changes: dict[str, str], step: Step) -> None:
    """The job keeps its exit code, and the agent's last messages are shipped."""
    machine = small.run(small.order(**changes))
    result = small.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, step, 7), result.reason
    assert "was full" in result.reason
    assert "placement.disk_size" in result.reason
    log = small.log(machine, "setup" if step is Step.SETUP else "output")
    assert log.startswith(b"before\n")
    assert b"No space left on device" in log
    assert small.log(machine, "system").endswith(result.reason.encode() + b"\n")
    assert result.streams["system"].length == len(small.log(machine, "system"))


def test_a_job_on_a_full_disk_can_be_stopped(small: Site) -> None:
    """While the disk is full, the agent keeps its messages in memory and still reads orders."""
    # TMPDIR is on this computer's disk, which is not full.
    command = 'echo up; cat /dev/zero >big; echo full; touch "$TMPDIR/full"; sleep 600'
    machine = small.start(small.order(command, stop_grace=2.0))
    until(lambda: (small.folder / "machines" / machine / "tmp/full").exists(), "a full disk")
    small.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))
    small.wait_off(machine)
    assert small.result(machine).outcome is Outcome.CANCELLED
    assert b"ordered to stop" in small.log(machine, "system")
    assert small.log(machine).endswith(b"No space left on device\nfull\n")


def test_full_disk_message_names_the_setting_for_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe sets the root disk's size, the type an instance store's. A disk without free inodes is full too."""
    other = "/dev/shm"
    for free, words in ((1 << 40, ""), (0, f"the disk of {tmp_path} was full (0 MiB free): set a larger placement")):
        room = SimpleNamespace(f_bavail=free, f_frsize=1, f_favail=1, f_files=1)
        monkeypatch.setattr(os, "statvfs", lambda _, room=room: room)
        disks = Disks(tmp_path, [other])
        disks.look()
        assert disks.full("").startswith(words)
        assert bool(disks.full("")) == bool(words)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1 << 40, f_frsize=1, f_favail=0, f_files=9))
    disks.look()
    assert disks.full("")
    assert "placement.disk_size" in Disks(tmp_path, []).full("fatal: write error: No space left on device")
    assert "instance store" in Disks(tmp_path, [other]).full("write /x: disk quota exceeded")


def test_dropped_ballast_frees_its_blocks(tmp_path: Path) -> None:
    """The ballast takes real blocks and is removed on demand; without room, or twice, that is no error."""
    ballast = disk.Ballast(tmp_path / "ballast")
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= disk.BALLAST
    ballast.drop()
    ballast.drop()
    assert list(tmp_path.iterdir()) == []
    disk.Ballast(tmp_path / "missing" / "ballast").drop()
