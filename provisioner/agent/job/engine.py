"""What runs the job: the contract, and the engine of rehearsals, which uses plain processes."""

from __future__ import annotations

import os
import posixpath
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from provisioner.agent.job import processes
from provisioner.agent.job.processes import Process, Reached, Tree
from provisioner.agent.machine import files
from provisioner.agent.machine.files import inside
from provisioner.agent.machine.tools import Tools, kill

#: The job's own, below the machine's folder.
HOME = "/home/jovyan"

#: Python code that executes its arguments as a program. The program adopts the orphans of the job
#: (PR_SET_CHILD_SUBREAPER, kept over execve), and starts with the default action of every signal.
ADOPTING = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
try:
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
os.execvp(sys.argv[1], sys.argv[1:])
"""

#: Most seconds that SIGKILL is sent to new processes of a job that forks without end.
PATIENCE = 10.0


class Termination(Protocol):
    """Sends SIGTERM to the processes of a job until none is left."""

    @property
    def reached(self) -> Reached:
        """The processes that SIGTERM has reached; a restarted agent continues from there."""

    def turn(self, until: float, *, reported: bool) -> bool:
        """Send the signals that are due, and return whether any process of the job may still run.

        See processes.Termination.
        """


class Engine(Protocol):
    def has_image(self, tools: Tools) -> bool:
        """Whether the very image that the job names is here already. Raises Ended."""

    def pull(self, tools: Tools, login: bytes | None) -> None:
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

    def left(self) -> list[str]:
        """Return the names of the job's processes that this engine can see."""

    def termination(self, daemons: Sequence[str], reached: Reached, say: Callable[[str], None]) -> Termination:
        """Return a Termination that ends the job with SIGTERM, continuing that of an earlier agent process (`reached`).

        `daemons` names processes that setup left running; `say` writes a line to the system stream.
        """

    def kill(self) -> None:
        """End every process of the job; returns when they are gone. May be repeated."""

    def last_words(self) -> str:
        """What the engine itself has to say about the job's end; empty when nothing."""

    def out_of_memory(self) -> bool:
        """Whether the engine knows that the kernel ended a process of the job for want of memory."""

    def adopt(self) -> bool:
        """Take the job of an earlier agent process for one's own, or learn how it ended; False when there is none."""


class ProcessEngine:
    """Runs the job as plain processes of this machine. Only work orders of rehearsals use this engine."""

    def __init__(self, root: str, working_directory: str, job_dir: Path) -> None:
        self._root = root
        self._job_dir = job_dir
        self._directory = inside(root, working_directory)
        self._process: subprocess.Popen[bytes] | None = None
        #: The first shell of a job that an earlier agent process started.
        self._adopted: Process | None = None

    def has_image(self, tools: Tools) -> bool:  # noqa: ARG002 - nobody to ask
        return False

    def pull(self, tools: Tools, login: bytes | None) -> None:  # noqa: ARG002 - nobody to show it to
        tools.say("no container engine in this rehearsal: the image is not pulled")

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
            [sys.executable, "-I", "-S", "-c", ADOPTING, "sh", str(self._job_dir / "entry")],
            cwd=self._directory,
            env={**kept, "HOME": home},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        shell = processes.find(self._process.pid)
        files.replace(self._job_dir / "shell", (shell.name if shell else "").encode())

    def exit_code(self) -> int | None:
        if self._process is None:
            # Its shell says how the command ended, and then waits: without a word it was killed.
            return None if self._adopted is not None and processes.alive(self._adopted) else 137
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def left(self) -> list[str]:
        return processes.names(self._tree())

    def termination(self, daemons: Sequence[str], reached: Reached, say: Callable[[str], None]) -> Termination:
        return processes.Termination(self._tree, daemons, reached, say)

    def _tree(self) -> Tree | None:
        shell = self._adopted or (self._process and processes.find(self._process.pid))
        return Tree(shell) if shell else None

    def kill(self) -> None:
        # Kill the first shell last: it adopts the orphans, and without it they could not be found.
        if tree := self._tree():
            processes.kill_all(tree, PATIENCE)
        if self._process is not None:
            kill(self._process)
        while self._adopted is not None and processes.alive(self._adopted):
            # It is no child of ours to wait for; whoever has become its parent does.
            processes.send(self._adopted, signal.SIGKILL)
            time.sleep(0.01)

    def last_words(self) -> str:
        return ""

    def out_of_memory(self) -> bool:
        return False

    def adopt(self) -> bool:
        try:
            name = (self._job_dir / "shell").read_text()
        except FileNotFoundError:
            return False
        self._adopted = processes.named(name)
        return self._adopted is not None
