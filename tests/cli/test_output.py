"""Commands whose output cannot be written: the run's id and the exit code are not lost."""

import contextlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.faces.cli import exits
from provisioner.ports.store import RunFilter
from tests.cli.conftest import HERE
from tests.e2e.commands import PROVISION
from tests.e2e.rig import Rig

pytestmark = [pytest.mark.usefixtures("whole"), HERE]

FULL = "/dev/full"


def run(*words: str, out: str = "", err: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with these files as its outputs."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open(name, "wb")) if name else subprocess.PIPE for name in (out, err)]
        return subprocess.run(
            [*PROVISION, *words],
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            env={**os.environ, **environment},
            text=True,
            encoding="utf-8",
            check=False,
        )


@pytest.fixture(scope="module", autouse=True)
def job(whole: Rig) -> None:
    for name in ("bad", "good"):
        whole.done(whole.start("true", name=name, description="für später 🚀"))


@pytest.mark.parametrize("words", [(), ("--json",), ("--follow",)])
@pytest.mark.parametrize(("name", "code"), [("bad", 3), ("good", 0)])
def test_full_disk_keeps_the_runs_id_and_exit_code(whole: Rig, name: str, code: int, words: tuple[str, ...]) -> None:
    """The id is on standard error, and the exit code is the job's."""
    done = run("start", name, *words, out=FULL)
    latest = whole.service.runs.records(RunFilter(job=name, limit=1))[0]
    assert done.returncode == code, done.stderr
    assert latest.id[:12] in done.stderr
    assert "Traceback" not in done.stderr


def test_full_disk_behind_a_detached_start_is_said_with_the_id(whole: Rig) -> None:
    """The job has no exit code yet, so the command exits with 75."""
    for words in ((), ("--json",)):
        done = run("start", "good", "--detach", *words, out=FULL)
        latest = whole.service.runs.records(RunFilter(job="good", limit=1))[0]
        assert done.returncode == exits.RETRY
        assert latest.id in done.stderr
        whole.done(latest)


@pytest.mark.parametrize(
    "words", [("jobs",), ("jobs", "--json"), ("runs",), ("show", "good"), ("--help",), ("--version",)]
)
def test_full_disk_exits_75_with_one_line(words: tuple[str, ...]) -> None:
    """One line gives the cause, and the exit code is 75."""
    done = run(*words, out=FULL)
    assert done.returncode == exits.RETRY
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"), [(("start", "bad"), 3), (("runs", "bad"), 0), (("show", "none"), exits.NOT_FOUND)]
)
def test_full_standard_error_changes_no_exit_code(words: tuple[str, ...], code: int) -> None:
    """The messages are lost, but scripts depend on the exit code."""
    assert run(*words, err=FULL).returncode == code


def test_character_that_the_terminal_cannot_show_is_replaced() -> None:
    """The recipe is shown with replacements; no argument is reported as invalid."""
    done = run("show", "good", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "description: f?r sp?ter ?" in done.stdout


def test_undecodable_argument_is_named() -> None:
    """Only an undecodable argument gives this message."""
    done = subprocess.run([*PROVISION, "show", b"\xff"], capture_output=True, check=False)
    assert done.returncode == exits.INVALID
    assert b"argument" in done.stderr


def test_store_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    """The error names the file and is not reported as an internal one; sysfs accepts no new file."""
    settings = Path(os.environ["PROVISION_SETTINGS"]).read_text()
    (tmp_path / "settings.toml").write_text(re.sub(r"(?m)^store = .*$", 'store = "/sys/store.db"', settings))
    done = run("--settings", str(tmp_path / "settings.toml"), "jobs")
    assert done.returncode in (exits.RETRY, exits.INVALID)
    assert "/sys/store.db" in done.stderr
    assert "internal error" not in done.stderr
