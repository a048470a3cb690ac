"""The README's tour runs as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(section: str) -> list[str]:
    """Return the shell blocks of a section of the README."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"(?ms)^## {re.escape(section)}$(.*?)(?=^## )", text)
    assert found, section
    return re.findall(r"(?ms)^```bash\n(.*?)^```$", found[1])


def test_tour_runs_as_printed(tmp_path: Path) -> None:
    """One shell executes all blocks in a new folder, and stops at the first command that fails."""
    folder, bin = tmp_path / "tour", tmp_path / "bin"
    folder.mkdir()
    bin.mkdir()
    (bin / "provision").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m provisioner.faces.cli.main "$@"\n')
    (bin / "provision").chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    tour = blocks("Five minutes, without an AWS account")
    assert len(tour) == 3
    done = subprocess.run(
        ["bash", "-c", "set -eu\n" + "echo '== block'\n".join(tour)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    first, second, third = done.stdout.split("== block\n")
    assert "step 3 of you" in first
    assert "succeeded" in second
    assert "total: 0." in second
    assert "step 3 of world" in third
