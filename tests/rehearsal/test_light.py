"""Light machines: they run user-data as cloud-init does, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from provisioner.rehearsal.machines import doubles
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.polling import until
from tests.support import needs

USER_DATA = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=="

--==
Content-Type: text/x-shellscript

#!/bin/sh
echo "second, in $PROVISION_ROOT as $HOME with ${{SECRET_OF_THE_HOST:-nothing}}"
(setsid sh -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 &)
(trap "" TERM HUP INT; exec setsid sh -c "while :; do {marker}=1; sleep 0.2; done") >/dev/null 2>&1 &
{script}
--==
Content-Type: text/cloud-boothook

#!/bin/sh
echo first
--==--
"""


def guest(marker: str, script: str) -> Guest:
    text = USER_DATA.format(marker=marker, script=script)
    return Guest(f"i-{marker}", "g5.xlarge", "ami-1", "us-east-1", "us-east-1a", "spot", 0.0, "10.0.0.1", text, "", "")


def processes(marker: str) -> list[int]:
    """Return every process of this computer with the marker in its command line."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and marker.encode() in Path("/proc", entry, "cmdline").read_bytes():
                found.append(int(entry))
        except OSError:
            pass
    return found


@pytest.fixture
def marker() -> str:
    return f"m{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=[True, False], ids=["sandbox", "plain"])
def sandbox(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_machine_that_powers_off_leaves_nothing(
    tmp_path: Path, marker: str, sandbox: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User-data runs in cloud-init's order in an empty environment. The end is reported; the console stays readable."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "a secret")
    off: list[str] = []
    host = LightHost(tmp_path, sandbox=sandbox)
    host.boot(guest(marker, "systemctl poweroff"), off.append)
    until(lambda: off, "the end")
    assert off == [f"i-{marker}"]
    folder = tmp_path / f"i-{marker}"
    assert host.console(f"i-{marker}").startswith(f"first\nsecond, in {folder} as {folder}/root with nothing\n")
    assert (processes(marker), folder.exists()) == ([], False)
    host.close()


def test_a_machine_whose_power_is_cut_leaves_nothing(tmp_path: Path, marker: str, sandbox: bool) -> None:
    """`end` returns when all is removed, may be repeated, and does not count as a power-off by the machine."""
    off: list[str] = []
    host = LightHost(tmp_path, sandbox=sandbox)
    host.boot(guest(marker, "echo up; sleep 1000"), off.append)
    until(lambda: "up" in host.console(f"i-{marker}"), "the machine")
    assert processes(marker)
    host.end(f"i-{marker}")
    assert (processes(marker), list(tmp_path.iterdir())) == ([], [])
    host.end(f"i-{marker}")
    host.close()
    assert off == []


def test_a_host_that_is_killed_leaves_nothing(tmp_path: Path, marker: str, sandbox: bool) -> None:
    """After kill -9 of its starter, all of the machine's processes end and its folder is removed."""
    program = f"""
import time
from pathlib import Path
from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
host = LightHost(Path({str(tmp_path)!r}), sandbox={sandbox})
host.boot({guest(marker, "echo up; sleep 1000")!r}, print)
while "up" not in host.console("i-{marker}"): time.sleep(0.05)
print("up", flush=True)
time.sleep(1000)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    assert processes(marker)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    until(lambda: not processes(marker) and not list(tmp_path.iterdir()), "the end of all processes and files")


def test_a_failed_unit_starts_the_one_that_it_names(tmp_path: Path, marker: str) -> None:
    """Covers what the user-data needs of systemd: units, enable --now, OnFailure after Restart, systemd-run."""
    units = "$PROVISION_ROOT/etc/systemd/system"
    script = f"""
printf '[Service]\\nExecStart=sh -c "echo one; exit 1"\\nOnFailure=two.service\\n' >"{units}/one.service"
printf 'StartLimitBurst=2\\nRestart=on-failure\\n' >>"{units}/one.service"
printf '[Service]\\nExecStart=systemctl poweroff\\n' >"{units}/two.service"
systemctl daemon-reload
systemd-run --no-block --unit=x --property=DefaultDependencies=no sh -c 'echo "run $1"' sh 'a b'
systemctl enable --now --no-block one.service
"""
    off: list[str] = []
    host = LightHost(tmp_path)
    host.boot(guest(marker, script), off.append)
    until(lambda: off, "the end")
    console = host.console(f"i-{marker}")
    host.close()
    assert console.count("one\n") == 2
    assert "run a b\n" in console


def test_no_listed_command_can_reach_this_computer(tmp_path: Path) -> None:
    """A missing double is noticed before any script runs."""
    folder = tmp_path / "bin"
    doubles.install(folder, tmp_path / "pipe", 1, [])
    path = f"{folder}:{os.defpath}"
    assert doubles.reaching_out(folder, path, []) == []
    (folder / "poweroff").unlink()
    assert doubles.reaching_out(folder, path, []) == ["poweroff"]


def test_a_sandboxed_machine_cannot_write_outside_its_folder(tmp_path: Path, marker: str) -> None:
    """With bubblewrap, a job can damage its own machine only."""
    outside = tmp_path / "outside"
    outside.mkdir()
    off: list[str] = []
    host = LightHost(tmp_path / "machines")
    needs.bubblewrap(works=host.sandboxed, proves="a job of a rehearsal cannot write to this computer's files")
    host.boot(guest(marker, f"echo x >{outside}/x; ls -A /run; poweroff"), off.append)
    until(lambda: off, "the end")
    host.close()
    assert list(outside.iterdir()) == []
