"""Test scripts/gpu-check with the double of nvidia-smi, sound and broken."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from provisioner.rehearsal.machines import doubles

ROOT = Path(__file__).parents[1]


def check(folder: Path, variables: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a computer with two rehearsed GPUs and without Docker."""
    commands = folder / "bin"
    doubles.install(commands, folder / "pipe", gpus=2, real=("python3", "python"))
    path = f"{commands}:/usr/bin:/bin"
    return subprocess.run(
        ["scripts/gpu-check", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PROVISION_GPU_CHECK": "2", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_doubles_say_what_the_check_expects(tmp_path: Path) -> None:
    """Everything is as expected, and each command's output is in the folder."""
    done = check(tmp_path, {}, str(tmp_path / "raw"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unexpected" not in done.stdout
    assert {"listed", "fabric", "memory", "used", "logged", "checked"} <= {each.split()[0] for each in _lines(done)}
    assert (tmp_path / "raw" / "nvidia-smi-list-gpus.txt").read_text().count("GPU-rehearsed") == 2


def test_a_broken_gpu_is_unexpected(tmp_path: Path) -> None:
    """The agent would end the attempt: its reason is shown, and the exit code is 1."""
    done = check(tmp_path, {"PROVISION_KERNEL_LOG": "[1.0] NVRM: Xid (PCI:0000:65:00): 79, pid=1, fell off the bus"})
    assert done.returncode == 1
    assert "the agent would end the attempt" in done.stdout
    assert "Xid 79" in done.stdout


def test_a_line_in_another_form_is_unexpected(tmp_path: Path) -> None:
    """A newer driver may write another line about an Xid: the agent would miss it."""
    done = check(tmp_path, {"PROVISION_KERNEL_LOG": "[1.0] NVRM: GPU0 Xid=79 fell off the bus"})
    assert done.returncode == 1
    assert "not understood: ['[1.0] NVRM: GPU0 Xid=79" in done.stdout


def _lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.strip()]
