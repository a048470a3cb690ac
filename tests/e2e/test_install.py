"""Installation as in the README, and the upgrade from the package's earlier name."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _run(*words: str, **environment: str) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _source(folder: Path) -> Path:
    """Copy the files that git tracks or would add to a new folder, as a clone has them; return that folder."""
    copy = folder / "provision"
    names = _run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.load
def test_readme_installs_the_command(tmp_path: Path) -> None:
    """The lines after `git clone` put `provision` on the PATH, with the extras of the tour."""
    assert shutil.which("pipx"), "apt-get install pipx"
    text = (ROOT / "README.md").read_text()
    found = re.search(r"(?ms)^## Install$.*?^```bash\n(.*?)^```$", text)
    assert found
    clone, *lines = found[1].splitlines()
    assert clone.startswith("git clone ")
    assert clone.endswith(" && cd provision")
    bin = tmp_path / "bin"
    script = f"set -eu\ncd '{_source(tmp_path)}'\n" + "\n".join(lines)
    own = {
        "PATH": f"{bin}:{os.environ['PATH']}",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(bin),
        "PIP_CONSTRAINT": str(ROOT / "config" / "constraints.txt"),
    }
    said = _run("bash", "-c", script, **own)
    assert said.endswith(f"provision {VERSION}\n")
    assert "--scenario" in _run(str(bin / "provision"), "rehearse", "--help")
    assert "--behind-proxy" in _run(str(bin / "provision"), "serve", "--help")


def test_upgrade_from_the_earlier_name(tmp_path: Path) -> None:
    """As the README says: uninstall `provisioner`, then install this package. Only the new version is left."""
    python = tmp_path / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # The dependencies of both versions; a .pth file within this folder is not read, so this checkout is not found.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    old = tmp_path / "provisioner-0.0.9-py3-none-any.whl"
    with zipfile.ZipFile(old, "w") as wheel:
        wheel.writestr("provisioner/__init__.py", "def main():\n    print('provision 0.0.9')\n")
        wheel.writestr("provisioner/dropped.py", "")
        info = "provisioner-0.0.9.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: provisioner\nVersion: 0.0.9\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nprovision = provisioner:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--no-input")
    _run(*pip, "install", "--quiet", "--no-index", "--no-deps", str(old))
    assert _run(str(python.with_name("provision"))) == "provision 0.0.9\n"
    _run(*pip, "uninstall", "--quiet", "--yes", "provisioner")
    _run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(_source(tmp_path)))
    assert _run(str(python.with_name("provision")), "--version") == f"provision {VERSION}\n"
    assert not (site / "provisioner" / "dropped.py").exists()
    assert not [*site.glob("provisioner-*.dist-info")]
    _run(str(python), "-c", "import provisioner; provisioner.connect")
