"""The agent's archive: all modules that the agent needs, and none of the control plane."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from provisioner.adapters import agent_package
from tests.agent.conftest import agent_archive


def test_equal_content_is_equal_bytes() -> None:
    """The archive's name is its checksum, so two builds of equal content must be equal."""
    assert agent_package.build() == agent_archive()


def test_archive_runs_without_other_packages(tmp_path: Path) -> None:
    """The unpacked archive runs on a Python without other packages, up to the search for its settings."""
    with zipfile.ZipFile(io.BytesIO(agent_archive())) as packed:
        packed.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path)],
        env={"PROVISION_ROOT": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert done.stderr.splitlines()[-1].startswith("FileNotFoundError"), done.stderr
    shipped = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    assert {path for path in shipped if not path.startswith("provisioner/agent/")} == {
        "__main__.py",
        "provisioner/__init__.py",
        "provisioner/core/__init__.py",
        "provisioner/core/errors.py",
        "provisioner/core/protocol/__init__.py",
        "provisioner/core/protocol/batches.py",
        "provisioner/core/protocol/codec.py",
        "provisioner/core/protocol/command_lines.py",
        "provisioner/core/protocol/keys.py",
        "provisioner/core/protocol/messages.py",
        "provisioner/core/protocol/words.py",
    }
