"""Rules of this repository that no other tool checks."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "provisioner").rglob("*.py"))
TOP_LEVEL = {"README.md", "config", "images", "provisioner", "pyproject.toml", "scripts", "tests"}

#: Modules that may use the clock, randomness and concurrency directly; all others receive them as arguments.
IMPURE = (
    "provisioner/adapters/",
    "provisioner/agent/",
    "provisioner/rehearsal/",
    # These modules run on the server's event loop.
    "provisioner/faces/api/http/connections.py",
    "provisioner/faces/api/http/reading.py",
    "provisioner/faces/api/http/serve.py",
    "provisioner/faces/api/http/stream.py",
)
IMPURE_MODULES = {"asyncio", "concurrent", "multiprocessing", "random", "secrets", "threading", "uuid"}
IMPURE_CALLS = {
    "time.monotonic", "time.perf_counter", "time.sleep", "time.time", "time.time_ns",
    "date.today", "datetime.now", "datetime.today", "datetime.utcnow",
    "datetime.date.today", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow",
}  # fmt: skip

#: Traces of the author's computer. The patterns are split so that this file does not match them.
FORBIDDEN = {
    "a folder of one computer": re.compile(r"(?<![\w.>}\])*-])/" + r"(work|root|Users)/"),
    "a package index": re.compile("index" + "[-_]url|find" + "[-_]links|trusted" + "[-_]host", re.IGNORECASE),
}


def _files() -> Iterator[Path]:
    """Yield every file that is under version control, or would be after `git add`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of every imported module, and of every name imported from a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_the_top_level_is_as_the_design_lists_it() -> None:
    """The top level has only the listed names and dotfiles."""
    top = {path.relative_to(ROOT).parts[0] for path in _files()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names_the_computer_it_was_written_on(what: str) -> None:
    """The repository must work the same on every computer."""
    found = []
    for path in _files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FORBIDDEN[what].search(line):
                found.append(f"{_name(path)}:{number}: {line.strip():.100}")
    assert not found


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    """Exact versions make installations equal; other lines could reveal the author's computer."""
    lines = (ROOT / "config/constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+|#.*", line)]
    assert not wrong
    assert not [line for line in lines if line.startswith("provisioner==")]


def test_init_modules_are_empty() -> None:
    """Importing a module must not import its siblings. Only the root package exports names, and lazily."""
    full = [_name(path) for path in SOURCES if path.name == "__init__.py" and path.read_text().strip()]
    assert full in ([], ["provisioner/__init__.py"])


def test_modules_are_named_for_what_is_in_them() -> None:
    """A module must not collect unrelated code."""
    drawers = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
    assert not [_name(path) for path in SOURCES if path.stem in drawers]


#: Modules that import late, so that a command imports only the services that it uses.
LATE = {
    "provisioner/reach.py",
    "provisioner/service/control.py",
    "provisioner/service/jobs.py",
    "provisioner/service/operator.py",
    "provisioner/wiring.py",
}


def test_only_listed_modules_import_under_type_checking() -> None:
    """The import contracts count these imports as well: no contract may leave them out."""
    assert {_name(path) for path in SOURCES if "TYPE" + "_CHECKING" in path.read_text()} == LATE
    assert "exclude_type_checking_imports" not in (ROOT / "pyproject.toml").read_text()


def test_only_listed_modules_use_clock_randomness_and_threads() -> None:
    """Core, ports, service and faces can run in virtual time and give the same result twice."""
    found = []
    for path in SOURCES:
        if _name(path).startswith(IMPURE):
            continue
        tree = ast.parse(path.read_text())
        found += [f"{_name(path)}: imports {name}" for name in _imports(tree) if _within(name, *IMPURE_MODULES)]
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | set(_imports(tree))
        found += [f"{_name(path)}: {name}" for name in sorted(used & IMPURE_CALLS)]
    assert not found


def test_agent_imports_only_the_standard_library_and_its_archive() -> None:
    """The agent imports only the standard library and the modules in its archive."""
    protocol = [
        "provisioner.core.errors",
        *(f"provisioner.core.protocol.{path.stem}" for path in (ROOT / "provisioner/core/protocol").glob("*.py")),
    ]
    alone = (*sys.stdlib_module_names, *protocol)
    found = []
    for path in [path for path in SOURCES if _name(path).startswith("provisioner/agent/")]:
        names = _imports(ast.parse(path.read_text()))
        found += [f"{_name(path)}: {name}" for name in names if not _within(name, *alone, "provisioner.agent")]
    for module in protocol:
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        found += [f"{module}: {name}" for name in _imports(tree) if not _within(name, *alone)]
    assert not found


def test_no_test_module_imports_another() -> None:
    """Shared code belongs in `tests/support/`: a test module that others import cannot be split or renamed."""
    found = {
        f"{_name(path)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in _imports(ast.parse(path.read_text()))
        if re.match(r"tests\.(\w+\.)*test_", name)
    }
    assert found == set()


def test_readme_of_the_package_names_every_folder_in_one_line() -> None:
    """A reader finds the right folder without opening the other folders."""
    package = ROOT / "provisioner"
    folders = {path.parent.relative_to(package).as_posix() for path in package.rglob("*.py")} - {"."}
    rows = [
        line.split("|")[1].strip(" `") for line in (package / "README.md").read_text().splitlines() if "| `" in line
    ]
    assert len(rows) == len(set(rows))
    assert set(rows) == folders - {"adapters/sql/migrations/versions"}


def test_no_folder_of_the_package_holds_more_than_14_modules() -> None:
    """A folder with more modules covers more than one subject."""
    package = ROOT / "provisioner"
    counted = Counter(path.parent for path in package.rglob("*.py") if path.name != "__init__.py")
    assert {folder.name: count for folder, count in counted.items() if count > 14} == {}


def test_no_file_has_more_than_400_lines() -> None:
    """A longer file holds more than one thing."""
    found = [path for part in ("provisioner", "scripts", "tests") for path in (ROOT / part).rglob("*")]
    paths = [path for path in found if path.suffix in (".py", ".md", ".toml", ".sh")]
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    assert {path.name: lines for path, lines in lengths.items() if lines > 400} == {}
