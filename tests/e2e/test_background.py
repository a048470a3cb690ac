"""`provision rehearse --background`: a double that lives as long as the shell that started it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from provisioner.faces.cli import background
from tests.e2e.processes import processes_with

#: A double that does not end must fail its test soon.
pytestmark = pytest.mark.timeout(120)

PROVISION = f"{sys.executable} -m provisioner.faces.cli.main"
SHELLS = ("bash", "dash")


def _shell(name: str, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.getcwd()}
    script = f'provision() {{ {PROVISION} "$@"; }}\n{script}'
    return subprocess.run(
        [name, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def _gone(folder: Path) -> None:
    while processes_with(str(folder)) or any(folder.iterdir()):
        threading.Event().wait(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tmp"
    made.mkdir()
    return made


@pytest.mark.parametrize("name", SHELLS)
def test_double_lives_until_it_is_ended(name: str, folder: Path) -> None:
    done = _shell(
        name,
        'eval "$(provision rehearse --background --machine scripted)" || exit 9\n'
        "provision jobs || exit 8\n"
        'ls "$TMPDIR" | wc -l\n'
        'eval "$(provision rehearse --end)" || exit 7\n'
        'ls "$TMPDIR" | wc -l\n'
        'echo "settings:${PROVISION_SETTINGS-unset}"\n'
        "provision rehearse --end\n",
        folder,
    )
    assert done.returncode == 66, done.stderr
    assert done.stdout.split()[-3:] == ["1", "0", "settings:unset"]
    assert "no rehearsal is up" in done.stderr
    _gone(folder)


@pytest.mark.parametrize("name", SHELLS)
def test_double_ends_with_its_shell(name: str, folder: Path) -> None:
    """The double ends even if the shell is killed with SIGKILL."""
    done = _shell(name, 'eval "$(provision rehearse --background --machine scripted)" && kill -9 $$', folder)
    assert done.returncode == -9, done.stderr
    _gone(folder)


def test_double_whose_lines_no_shell_evaluates_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "ADOPTION", 0.01)
    held = background.Held(folder, {"A": "b"})
    held.wait(in_background=True)


def test_double_that_cannot_start_reports_why(folder: Path) -> None:
    done = _shell("sh", "provision rehearse --background --scenario nowhere.yaml", folder)
    assert done.returncode == 64
    assert "nowhere.yaml" in done.stderr
    assert done.stdout == ""
    _gone(folder)
