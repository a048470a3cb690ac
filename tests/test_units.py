"""The systemd units that the README offers."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.faces.cli.catalog import CATALOG

UNITS = sorted((Path(__file__).parents[1] / "config/systemd").iterdir())
#: What the units run, on a host set up as the README says.
PROVISION = "/opt/provision/.venv/bin/provision"


# CI sees to it that it is there.
WHY = "not proven: the units of config/systemd are valid. Needs systemd-analyze: apt-get install systemd"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason=WHY)
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Without a word, but for the program, which is not installed here."""
    program = shutil.which("true")
    assert program
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROVISION, program))
    units = [str(tmp_path / unit.name) for unit in UNITS]
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_command_that_there_is(unit: Path) -> None:
    """And starts again by itself where it is meant to stay."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(unit.read_text())
    assert parsed["Unit"]["Description"]
    if unit.suffix == ".timer":
        assert unit.with_suffix(".service") in UNITS
        return
    service = parsed["Service"]
    found = re.fullmatch(f"{PROVISION} ([a-z]+)", service["ExecStart"])
    assert found
    assert found[1] in CATALOG
    for_ever = service.get("Restart") == "always" and parsed["Unit"].get("StartLimitIntervalSec") == "0"
    assert service.get("Type") == "oneshot" or for_ever
    assert service["UMask"] == "0077"
