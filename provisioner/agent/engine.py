"""What runs the job: the contract, and the engine of rehearsals, which uses plain processes."""

from __future__ import annotations

import os
import posixpath
import signal
import subprocess
import time
from pathlib import Path
from typing import Protocol

from provisioner.agent.outside import Outside, kill
from provisioner.agent.place import inside

#: The job's own, below the machine's folder.
HOME = "/home/jovyan"


class Engine(Protocol):
    def has_image(self, outside: Outside) -> bool:
        """Whether the very image that the job names is here already. Raises Ended."""

    def pull(self, outside: Outside, login: bytes | None) -> None:
        """Have the image here; `login` is `user:password` for its registry alone. Raises Ended."""

    def folder(self, path: str) -> str:
        """Where the agent finds the job's `path`."""

    def seen(self, path: str) -> str:
        """How the job itself names `path`; a relative one is below HOME."""

    def folders(self) -> list[str]:
        """Where on this machine's disks the job's bytes go."""

    def create(self) -> None:
        """Make all ready for `start`; raises Ended."""

    def start(self) -> None:
        """Start the job's first shell, which finds all it needs in the exchange folder."""

    def exit_code(self) -> int | None:
        """How the job's first shell ended; None while it runs."""

    def terminate(self) -> None:
        """SIGTERM to every process of the job's group."""

    def kill(self) -> None:
        """End every process of the job; returns when they are gone. May be repeated."""

    def last_words(self) -> str:
        """What the engine itself has to say about the job's end; empty when nothing."""

    def out_of_memory(self) -> bool:
        """Whether the engine knows that the kernel ended a process of the job for want of memory."""

    def adopt(self) -> bool:
        """Take the job of an earlier agent process for one's own, or learn how it ended; False when there is none."""


class ProcessEngine:
    """The job as a process group of this machine. Only a work order of a rehearsal asks for it."""

    def __init__(self, root: str, working_directory: str, exchange: Path) -> None:
        self._root = root
        self._exchange = exchange
        self._directory = inside(root, working_directory)
        self._process: subprocess.Popen[bytes] | None = None
        #: The group of a job that an earlier agent process started.
        self._adopted: int | None = None

    def has_image(self, outside: Outside) -> bool:  # noqa: ARG002 - nobody to ask
        return False

    def pull(self, outside: Outside, login: bytes | None) -> None:  # noqa: ARG002 - nobody to show it to
        outside.say("no container engine in this rehearsal: the image is not pulled")

    def folder(self, path: str) -> str:
        return inside(self._root, path)

    def seen(self, path: str) -> str:
        return inside(self._root, posixpath.join(HOME, path))

    def folders(self) -> list[str]:
        return [f"{self._root}{HOME}"]

    def create(self) -> None:
        pass

    def start(self) -> None:
        home = f"{self._root}{HOME}"
        os.makedirs(home, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        self._process = subprocess.Popen(
            ["sh", str(self._exchange / "entry")],
            cwd=self._directory,
            env={**kept, "HOME": home},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        (self._exchange / "pid").write_text(str(self._process.pid))

    def exit_code(self) -> int | None:
        if self._process is None:
            # Its shell says how the command ended, and then waits: without a word it was killed.
            return None if self._adopted is not None and _tell(self._adopted, 0) else 137
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def terminate(self) -> None:
        group = self._adopted or (self._process and self._process.pid)
        assert group
        _tell(group, signal.SIGTERM)

    def kill(self) -> None:
        if self._process is not None:
            kill(self._process)
        while self._adopted is not None and _tell(self._adopted, signal.SIGKILL):
            # It is no child of ours to wait for; whoever has become its parent does.
            time.sleep(0.01)

    def last_words(self) -> str:
        return ""

    def out_of_memory(self) -> bool:
        return False

    def adopt(self) -> bool:
        try:
            group = int((self._exchange / "pid").read_text())
        except FileNotFoundError:
            return False
        self._adopted = group if _tell(group, 0) else None
        return self._adopted is not None


def _tell(group: int, number: int) -> bool:
    """Send the signal, or none where it is 0; False when no process of the group is left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
