"""The folder that the agent and the job share: files for the job's first shell, and pipes between agent and shell.

The folder outlives an agent process. The shell keeps the pipes of the two streams open as long as it runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from provisioner.agent.machine.files import replace
from provisioner.core.errors import Invalid

#: Names of variables that `export` of a POSIX shell accepts.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: The file that a job may watch; `entry.sh` sets PROVISION_REBALANCE_FILE to its path.
REBALANCE = "rebalance"

#: The path of PROVISION_DONE_FILE, which `entry.sh` sets; its folder is writable for every user of the image.
DONE = "done/file"

#: Capacity of a pipe in bytes: the largest that the kernel allows by default (pipe(7)). While the pipe is full, its
#: writer waits.
WIDE = 1 << 20


class JobDir:
    """Variables, scripts and pipes for one job. No variable is on a command line, which other users could read."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that this or an earlier agent process made; raises FileNotFoundError if there is none."""
        self.folder = folder
        self._said = self._open("said", os.O_RDONLY)
        # Both ends stay open here, so that the job's shell reads no end of file while this process lives.
        self._go = self._open("go", os.O_RDWR)
        self.setup = self._wide(self._open("setup", os.O_RDONLY))
        self.output = self._wide(self._open("output", os.O_RDONLY))
        self._heard = b""

    @classmethod
    def make(
        cls,
        folder: Path,
        environment: Mapping[str, str],
        setup: Mapping[str, bytes],
        command: str,
        launcher: Mapping[str, str] = MappingProxyType({}),
        slots: Sequence[Mapping[str, str]] = (),
    ) -> JobDir:
        """Replace the folder with a new one and open it. `setup` has, by name, the contents of `entry.sh`'s files.

        The command, but not the setup, gets the variables in `launcher`; those in `environment` take precedence. If
        the job is a list of commands, `slots` has the variables of each slot, which take precedence over all others.
        Raises Invalid for a variable that no shell accepts.
        """
        part = folder.with_name(f"{folder.name}.part")
        for old in (folder, part):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        # The image's user is not known, so all users can read the files and write to the pipes.
        part.chmod(0o755)
        files = {
            "entry": Path(__file__).with_name("entry.sh").read_bytes(),
            "environment": exports(environment).encode(errors="surrogateescape"),
            "launcher": exports(launcher).encode(errors="surrogateescape"),
            **setup,
            "command": command.encode(errors="surrogateescape"),
        }
        for name, content in files.items():
            (part / name).write_bytes(content)
            (part / name).chmod(0o644)
        # `said` is a file and not a pipe, so that the next agent process can read earlier reports, too.
        (part / "said").touch()
        for name in ("go", "setup", "output"):
            os.mkfifo(part / name)
        for name in ("said", "go", "setup", "output"):
            (part / name).chmod(0o666)
        if slots:
            _add_slots(part, slots)
        (part / DONE).parent.mkdir()
        (part / DONE).parent.chmod(0o1777)
        part.rename(folder)
        return cls(folder)

    def said(self, word: str) -> int | None:
        """Return the exit code that the job's shell has reported for `word`, or None.

        `word` is "setup", "command", or a part of the setup, which the shell reports only if that part failed. The
        shell reports `begun 0` when it has read the agent's "go", just before it executes the command.
        """
        self._heard += os.read(self._said, 4096)
        found = re.search(rf"^{word} ([0-9]+)\n", self._heard.decode(errors="replace"), re.MULTILINE)
        return int(found[1]) if found else None

    @property
    def said_at(self) -> float:
        """The Unix time of the last report of the job's shell."""
        return os.fstat(self._said).st_mtime

    def done(self) -> bool:
        """Return whether the command has made its PROVISION_DONE_FILE."""
        return os.path.lexists(self.folder / DONE)

    def go(self) -> None:
        """Let the job's shell execute the command."""
        os.write(self._go, b"go\n")

    def call_off(self) -> None:
        """Order the job's shell not to execute the command; `said("begun")` shows whether the order came too late."""
        os.write(self._go, b"no\n")

    def slot(self, number: int) -> Path:
        """Return the folder of one slot of a list of commands; see `slot.sh`."""
        return self.folder / "slots" / str(number)

    def advise(self, at: float) -> None:
        """Write the job's file about a rebalance recommendation of the Unix time `at`, unless the file exists."""
        path = self.folder / REBALANCE
        if not path.exists():
            replace(path, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(at)).encode())
            path.chmod(0o644)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self.folder / name, flags | os.O_NONBLOCK)

    @staticmethod
    def _wide(pipe: int) -> int:
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, WIDE)
        except OSError:
            # The kernel limits the total size of a user's pipes, except root's. At that limit the pipe keeps its size.
            pass
        return pipe


def _add_slots(folder: Path, slots: Sequence[Mapping[str, str]]) -> None:
    """Make the files and pipes that `entry.sh` and `slot.sh` use for a list of commands."""
    os.mkfifo(folder / "bell")
    (folder / "bell").chmod(0o666)
    (folder / "slot").write_bytes(Path(__file__).with_name("slot.sh").read_bytes())
    (folder / "slot").chmod(0o644)
    for number, variables in enumerate(slots):
        slot = folder / "slots" / str(number)
        slot.mkdir(parents=True)
        for name in ("go", "output"):
            os.mkfifo(slot / name)
        for name in ("said", "given"):
            (slot / name).touch()
        (slot / "variables").write_bytes(exports(variables).encode(errors="surrogateescape"))
        for name, mode in (("go", 0o666), ("output", 0o666), ("said", 0o666), ("given", 0o644), ("variables", 0o644)):
            (slot / name).chmod(mode)


def exports(environment: Mapping[str, str]) -> str:
    """Return the variables as `export` lines for a POSIX shell. Raises Invalid for a wrong name or a zero byte."""
    for name, value in environment.items():
        if not NAME.fullmatch(name):
            raise Invalid(f"{name!r} is not a valid name for a shell variable: use letters, digits and _")
        if "\0" in value:
            raise Invalid(f"the variable {name} has a zero byte, which an environment variable cannot contain")
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
