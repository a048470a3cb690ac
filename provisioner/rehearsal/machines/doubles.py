"""Install doubles of the commands that a light machine must never run on this computer."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

#: Commands that pass their arguments to the machine's own minimal systemd (`init.py`), and do not wait for its action.
SYSTEMD = ("systemctl", "systemd-run", "poweroff", "shutdown", "reboot", "halt")

#: Commands that would change this computer; on a light machine they do nothing and succeed.
IDLE = (
    "apt",
    "apt-get",
    "dnf",
    "yum",
    "mount",
    "umount",
    "mkfs.ext4",
    "swapoff",
    "swapon",
    "modprobe",
    "sysctl",
    "chown",
    "iptables",
)

#: Commands that a light machine does not have.
ABSENT = (
    "dockerd",
    "containerd",
    "nerdctl",
    "podman",
    "ctr",
    "sudo",
    "su",
    "machinectl",
    "journalctl",
    "nvidia-ctk",
)

#: Commands that inspect the computer; on a light machine they show the machine's simulated properties.
LOOKING = ("docker", "nvidia-smi", "dmesg", "lsblk")

TELL = """#!/bin/sh
case $1 in
# No unit is ever reported as active.
is-active) exit 3 ;;
# A job may write another state into the file.
is-system-running) cat {state} 2>/dev/null || echo running; exit ;;
esac
# One write, so that two callers never mix: at most a pipe's atomic 4096 bytes.
printf '%s\\0' {name} "$@" '' >{pipe}
"""

IDLE_SCRIPT = """#!/bin/sh
exit 0
"""

ABSENT_SCRIPT = """#!/bin/sh
echo "{name}: command not available on a light machine" >&2
exit 127
"""

DOCKER = """#!/bin/sh
# A light machine has no container engine, or one whose daemon is dead or hangs.
case ${PROVISION_DOCKER:-} in
dead)
    echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2
    exit 1
    ;;
hung) exec sleep infinity ;;
esac
echo "docker: command not available on a light machine" >&2
exit 127
"""

GPUS = """#!/bin/sh
# Print what nvidia-smi prints for each GPU, as far as the agent reads it. PROVISION_GPU_FAULT: `hangs`, or `fabric`,
# which is not ready until the file PROVISION_FABRIC_AFTER exists. PROVISION_FABRIC: the fabric's state and status.
fabric=${{PROVISION_FABRIC:-N/A N/A}}
case ${{PROVISION_GPU_FAULT:-}} in
hangs)
    trap '' TERM INT HUP
    while :; do sleep 600; done
    ;;
fabric) [ -e "${{PROVISION_FABRIC_AFTER:-}}" ] || fabric="In Progress N/A" ;;
esac
gpu=0
while [ "$gpu" -lt "${{PROVISION_GPUS:-{gpus}}}" ]; do
    case $1 in
    --query-gpu=ecc.*) echo "${{PROVISION_ECC_ERRORS:-0}}" ;;
    --query-gpu=utilization.*) echo "0, 0, 24564" ;;
    --query-gpu=uuid,*) echo "GPU-rehearsed-$gpu, 00000000:0$gpu:00.0" ;;
    -q)
        echo "GPU 00000000:0$gpu:00.0"
        echo "    Fabric"
        echo "        State                             : ${{fabric% *}}"
        echo "        Status                            : ${{fabric##* }}"
        ;;
    *) echo "GPU $gpu: Rehearsed GPU (UUID: GPU-rehearsed-$gpu)" ;;
    esac
    gpu=$((gpu + 1))
done
[ "$gpu" -gt 0 ]
"""

DMESG = """#!/bin/sh
# The machine's own kernel log: a variable, then a file that a job may write.
printf %s "${{PROVISION_KERNEL_LOG:+$PROVISION_KERNEL_LOG
}}"
[ ! -f {log} ] || cat {log}
"""

LSBLK = """#!/bin/sh
printf %s "${PROVISION_BLOCK_DEVICES:-}"
"""

#: Jobs and the agent run this process's Python, with the packages that are installed for it. Packages that they
#: install stay in the machine's folder.
PYTHON = """#!/bin/sh
export PIP_TARGET={packages} PYTHONPATH={packages}"${{PYTHONPATH:+:$PYTHONPATH}}"
exec {python} {options}"$@"
"""


def install(folder: Path, pipe: Path, gpus: int, real: Sequence[str]) -> None:
    """Write the doubles to `folder`, which must be first on the machine's PATH; commands in `real` get no double."""
    state = shlex.quote(str(folder.parent / "run/system-state"))
    scripts = {name: TELL.format(name=name, pipe=shlex.quote(str(pipe)), state=state) for name in SYSTEMD}
    scripts |= dict.fromkeys(IDLE, IDLE_SCRIPT)
    scripts |= {name: ABSENT_SCRIPT.format(name=name) for name in ABSENT}
    log = shlex.quote(str(folder.parent / "var/log/dmesg"))
    scripts |= {"nvidia-smi": GPUS.format(gpus=gpus), "dmesg": DMESG.format(log=log), "lsblk": LSBLK}
    scripts["docker"] = DOCKER
    programs = {"python3": "", "python": "", "pip3": "-m pip ", "pip": "-m pip "}
    python, packages = shlex.quote(sys.executable), shlex.quote(str(folder.parent / "packages"))
    scripts |= {
        name: PYTHON.format(python=python, packages=packages, options=options) for name, options in programs.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in scripts.items():
        if name not in real:
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)


def reaching_out(folder: Path, path: str, real: Sequence[str]) -> list[str]:
    """Return the commands for which this PATH would find the computer's own program, not the double in `folder`."""
    listed = [name for name in (*SYSTEMD, *IDLE, *ABSENT, *LOOKING) if name not in real]
    return [name for name in listed if shutil.which(name, path=path) != os.fspath(folder / name)]
