"""A rehearsed job's write access, which a rehearsal prints first."""

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from provisioner.faces.cli.commands.rehearse import WRITES, Sandbox
from tests.e2e.commands import Command


@pytest.fixture
def without_bubblewrap(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which bubblewrap cannot create a namespace."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bwrap").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("words", "sandbox"),
    [((), Sandbox.MISSING), (("--no-sandbox",), Sandbox.UNWANTED), (("--machine", "scripted"), Sandbox.WORDS)],
)
def test_rehearsal_says_first_what_its_jobs_may_write(
    tmp_path: Path, without_bubblewrap: dict[str, str], words: tuple[str, ...], sandbox: Sandbox
) -> None:
    """The same recipe may fail on a computer with bubblewrap and pass on one without it."""
    with Command(tmp_path / "out", "rehearse", "--serve", "--json", *words, environment=without_bubblewrap) as command:
        command.until(lambda: "the double is up" in command.err)
        assert command.err.splitlines()[0] == WRITES[sandbox]
        assert json.loads(command.out)["sandbox"] == sandbox
        command.signal(signal.SIGINT)
        assert command.ended() == 0


def test_job_without_a_sandbox_writes_outside_of_its_machine(tmp_path: Path) -> None:
    """The job can write outside its machine's folder, whether or not bubblewrap is installed."""
    outside, recipe = tmp_path / "outside", tmp_path / "recipe.yaml"
    spec = {"name": "job", "image": "any", "instance_type": "g5.xlarge", "command": f"echo x >{outside}"}
    recipe.write_text(yaml.safe_dump({"type": "job", "spec": spec}))
    with Command(tmp_path / "out", "rehearse", str(recipe), "--no-sandbox", "--json") as command:
        assert command.ended() == 0, command.err
        assert json.loads(command.out)["sandbox"] == Sandbox.UNWANTED
    assert outside.read_text() == "x\n"
