"""Run the tests of a planted bug in a copy of the tree, so that the working tree never has a bug."""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.mutations.bugs import ROOT, Bug, plant

#: Seconds that the tests of one bug may take; if they take longer, the bug counts as noticed.
LIMIT = 300.0
#: pytest's exit codes (docs.pytest.org, "Exit codes"): all passed, some failed.
PASSED, FAILED = 0, 1
#: Folders that tests do not need.
LEFT_OUT = (".git", ".venv", "*_cache", "__pycache__", "*.egg-info")


@dataclass(frozen=True)
class Verdict:
    #: killed, survived, or broken: the tests fail without the bug too, or could not run.
    verdict: str
    seconds: float
    #: The end of pytest's output, for a broken trial; else "".
    output: str = ""


class Workshop:
    """A copy of the tree with an environment of its own, in which `python` imports the copy's sources."""

    def __init__(self, folder: Path) -> None:
        self._tree = folder / "tree"
        self._temporary = folder / "t"
        shutil.copytree(ROOT, self._tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        environment = self._tree / ".venv"
        venv.create(environment, symlinks=True)
        own = Path(sys.prefix)
        for program in (own / "bin").iterdir():
            if not (environment / "bin" / program.name).exists():
                (environment / "bin" / program.name).symlink_to(program)
        packages = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        # The copy comes first on the path, because the tree's environment has the tree's own sources.
        (environment / packages / "copy.pth").write_text(f"{self._tree}\n{own / packages}\n")
        self._passing: dict[tuple[str, ...], Verdict] = {}
        self._running: subprocess.Popen[str] | None = None

    def stop(self) -> None:
        """End the tests that run now, from another thread."""
        if self._running is not None:
            _kill(self._running)

    def try_out(self, bug: Bug) -> Verdict:
        """Plant the bug, run its tests, and remove the bug again. Raises Unusable."""
        planted = plant(bug, self._tree)
        clean = self._without_bug(bug.tests)
        if clean.verdict == "broken":
            return clean
        module = self._tree / bug.module
        source = module.read_text()
        module.write_text(planted)
        try:
            began = time.monotonic()
            code, output = self._run(bug.tests)
            verdict = {PASSED: "survived", FAILED: "killed", None: "killed"}.get(code, "broken")
            return Verdict(verdict, time.monotonic() - began, output if verdict == "broken" else "")
        finally:
            module.write_text(source)

    def _without_bug(self, tests: tuple[str, ...]) -> Verdict:
        """Run the tests without the bug; return `survived` if they pass, as they should, else `broken`."""
        if tests not in self._passing:
            began = time.monotonic()
            code, output = self._run(tests)
            verdict = "survived" if code == PASSED else "broken"
            self._passing[tests] = Verdict(verdict, time.monotonic() - began, "" if code == PASSED else output)
        return self._passing[tests]

    def _run(self, tests: Sequence[str]) -> tuple[int | None, str]:
        """Return pytest's exit code and the end of its output; the code is None if the tests exceed LIMIT."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        words = ["-q", "-x", "--no-header", "-p", "no:randomly", "--basetemp", str(self._temporary), *tests]
        python = self._tree / ".venv/bin/python"
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self._running = process = subprocess.Popen(
            [python, "-m", "pytest", *words],
            cwd=self._tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            # Processes that the tests started and left running end as well.
            _kill(process)
            process.wait()
        return process.returncode, output[-2000:]


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
