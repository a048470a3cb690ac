"""The command line in separate processes, as a shell starts it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.rig import Rig

PROVISION = (sys.executable, "-m", "provisioner.faces.cli.main")
#: Runs a command with standard input as its controlling terminal, so that a typed Ctrl-C reaches it.
SESSION = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def settings_file(whole: Rig) -> Path:
    """Write the installation's settings to a file for $PROVISION_SETTINGS; return its path."""
    known = whole.settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    groups = {name: value for name, value in known.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in known.items() if name not in groups]
    for name, group in groups.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in group.items())]
    path = whole.folder / "settings.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Command:
    """A running `provision …`. Its output goes to files, so that it never blocks on a reader."""

    def __init__(self, folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(list(folder.iterdir())) // 2}"
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                # In a shell's background Ctrl-C is ignored by default; a user's command must receive it.
                ["env", "--default-signal=INT", *PROVISION, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def out(self) -> bytes:
        return self._out.read_bytes()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def last_line(self) -> str:
        return self.err.rstrip().rpartition("\n")[2]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true; fail if the command ends first."""
        while not condition():
            assert self.process.poll() is None or condition(), f"ended {self.process.returncode}: {self.err}"
            threading.Event().wait(0.02)

    def ended(self) -> int:
        """Wait for the command's end; return its exit code."""
        return self.process.wait()
