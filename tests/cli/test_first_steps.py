"""Commands of the first minutes: init, docs, help, schema, completion."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from provisioner.core.errors import Invalid
from provisioner.faces.cli import exits
from provisioner.faces.cli.catalog import CATALOG
from provisioner.faces.cli.outputs import OUTPUTS
from provisioner.settings import load
from tests.cli.conftest import HERE, Provision

pytestmark = [HERE, pytest.mark.usefixtures("whole")]


def test_init_writes_settings_with_installation_and_region_only(provision: Provision, home: Path) -> None:
    done = provision("init", "--region", "eu-west-1", "--installation", "mine")
    path = home / ".config" / "provision" / "settings.toml"
    assert (done.code, done.out.decode()) == (0, f"{path}\n")
    assert tomllib.loads(path.read_text()) == {"installation": "mine", "region": "eu-west-1"}
    assert "# bucket = " in path.read_text()


def test_init_never_changes_an_existing_file(provision: Provision, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("mine")
    done = provision("init", "--file", str(path))
    assert (done.code, path.read_text()) == (exits.CONFLICT, "mine")
    assert str(path) in done.err


def test_settings_without_the_comments_are_refused_for_their_placeholders(provision: Provision, tmp_path: Path) -> None:
    """If the placeholders were accepted, the first launch would fail on AWS."""
    path = tmp_path / "s.toml"
    provision("init", "--file", str(path))
    lines = [
        line.removeprefix("# ")
        for line in path.read_text().splitlines()
        if line.startswith(("# bucket =", "# subnets ="))
    ]
    path.write_text("\n".join([path.read_text(), *lines]))
    with pytest.raises(Invalid) as error:
        load(str(path))
    told = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in told] == ["bucket", "subnets[0]", "subnets[1]"]
    assert all("placeholder" in line for line in told)


def test_wrong_region_is_refused_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('installation = "a"\nregion = "Frankfurt"\nbucket = "b"\nsubnets = ["subnet-1"]\n')
    with pytest.raises(Invalid, match="found 'Frankfurt'; write a region such as us-east-1"):
        load(str(path))


def test_init_recipe_writes_a_recipe_that_applies(
    provision: Provision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert provision("init", "recipe").code == 0
    done = provision("apply", "recipe.yaml")
    assert done.code == 0
    assert done.out.startswith(b"tester/hello-gpu: ")


def test_docs_lists_and_prints_pages(provision: Provision) -> None:
    listed = provision("docs").out.decode().splitlines()
    assert ["outcomes", "Outcomes", "and", "exit", "codes"] in [line.split() for line in listed]
    assert provision("docs", "outcomes").out.startswith(b"# Outcomes and exit codes\n")
    done = provision("docs", "outcome")
    assert (done.code, done.err) == (
        exits.NOT_FOUND,
        "provision: no page 'outcome'; did you mean outcomes?; `provision docs` lists the pages\n",
    )


@pytest.mark.parametrize("words", [("start",), ("ami", "bake"), ("token", "create")])
def test_help_is_the_help_of_the_command(provision: Provision, words: tuple[str, ...]) -> None:
    assert provision("help", *words).out.split() == provision(*words, "--help").out.split()
    assert provision("help", "cook").code == exits.NOT_FOUND


def test_help_at_80_columns_cuts_nothing(provision: Provision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = provision("--help").out.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert all(f" {command.text}\n" in text for command in CATALOG.values())


@pytest.mark.parametrize("command", OUTPUTS)
def test_every_json_output_has_a_schema(provision: Provision, command: str) -> None:
    schema = json.loads(provision("schema", "--output", command).out)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_json_output_fits_its_schema(provision: Provision) -> None:
    schema = json.loads(provision("schema", "--output", "runs").out)
    jsonschema.validate(json.loads(provision("runs", "--json").out), schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(provision: Provision, shell: str) -> None:
    done = provision("completion", shell)
    assert done.code == 0
    assert b"_PROVISION_COMPLETE" in done.out


def _completed(*words: str) -> list[str]:
    """Return what bash would offer for the last word."""
    line = ["provision", *words]
    environment = {
        **os.environ,
        "_PROVISION_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    code = "from provisioner.faces.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=os.getcwd()
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_commands_are_completed() -> None:
    assert _completed("st") == ["start", "stop", "status"]


def test_jobs_and_runs_are_completed(provision: Provision, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    provision("init", "recipe", "--file", str(path))
    provision("apply", str(path))
    run = provision("start", "hello-gpu", "--detach").out.decode().strip()
    assert _completed("start", "hello") == ["hello-gpu"]
    assert _completed("status", run[:6]) == [run[:12]]
    assert "hello-gpu" in _completed("status", "hello")
    provision("wait", run)
