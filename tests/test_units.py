"""The systemd units in config/systemd."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner.faces.cli.catalog import CATALOG

UNITS = sorted((Path(__file__).parents[1] / "config/systemd").iterdir())
#: The program that the units run, on a host set up as the README describes.
PROVISION = "/opt/provision/.venv/bin/provision"


# CI installs systemd-analyze, so the test is never skipped there.
WHY = "not proven: the units of config/systemd are valid. Needs systemd-analyze: apt-get install systemd"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason=WHY)
def test_systemd_analyze_accepts_the_units(tmp_path: Path) -> None:
    """systemd-analyze prints nothing. The program's path is replaced, because the program is not installed here."""
    program = shutil.which("true")
    assert program
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROVISION, program))
    units = [str(tmp_path / unit.name) for unit in UNITS]
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_run_existing_commands(unit: Path) -> None:
    """A unit runs an existing command; a long-running service restarts automatically."""
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
