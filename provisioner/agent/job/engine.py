"""The interface of an engine, which runs the job; and the engine of rehearsals, which runs it as plain processes."""

from __future__ import annotations

import os
import posixpath
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from provisioner.agent.job import processes
from provisioner.agent.job.processes import Process, Reached, Tree
from provisioner.agent.machine import files
from provisioner.agent.machine.files import inside
from provisioner.agent.machine.tools import Output, Program, Tools, kill, spawn

#: The port at which rank 0 listens for the other ranks: torchrun's own default.
MASTER_PORT = 29500
#: Addresses of machines that share this computer's network begin with this.
LOOPBACK = "127."
#: The job's home folder, below the machine's root folder.
HOME = "/home/jovyan"

#: Python code that executes its arguments as a program. The program adopts the orphans of the job
#: (PR_SET_CHILD_SUBREAPER, kept across execve), and starts with the default action of every signal.
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

#: Maximum seconds for which SIGKILL is sent to the processes of a job, which may fork without end.
PATIENCE = 10.0


class Termination(Protocol):
    """Sends SIGTERM to the processes of a job until none is left."""

    @property
    def reached(self) -> Reached:
        """How far the sending of SIGTERM has progressed; a restarted agent continues from there."""

    def turn(self, until: float, *, reported: bool) -> bool:
        """Send the signals that are due, and return whether any process of the job may still run.

        See processes.Termination.
        """


class Engine(Protocol):
    def wait(self, tools: Tools) -> None:
        """Return once the engine answers; start it if it does not. Raises Ended."""

    def has_image(self, tools: Tools) -> bool:
        """Return whether exactly the image that the job names is on this machine already. Raises Ended."""

    def pull(self, tools: Tools, login: bytes | None) -> None:
        """Pull the image; `login` is `user:password` for its registry only. Raises Ended."""

    def folder(self, path: str) -> str:
        """Return the path on this machine for `path`, an absolute path of the job. Raises Invalid."""

    def seen(self, path: str) -> str:
        """Return the path that the job must use for `path`; a relative path is below the job's home folder."""

    def folders(self) -> list[str]:
        """Return the folders on this machine's disks that hold the job's image and files."""

    def host(self, name: str, address: str) -> str:
        """Return the host name or address by which the job reaches the machine with this name and address."""

    def port(self, leader: str) -> int:
        """Return the port at which rank 0 listens for the other ranks; `leader` is its name or address, from `host`."""

    def create(self, hosts: Mapping[str, str]) -> None:
        """Prepare everything for `start`; raises Ended. `hosts` are the addresses of the run's machines by name."""

    def start(self) -> None:
        """Start the job's first shell, which reads all that it needs from the job folder."""

    def exit_code(self) -> int | None:
        """Return the exit code of the job's first shell; None while it runs."""

    def left(self) -> list[str]:
        """Return the names of the job's processes that this engine can see."""

    def tree(self) -> Tree | None:
        """Return the job's processes; None if there is none, or if this agent cannot see them."""

    def termination(self, daemons: Sequence[str], reached: Reached, say: Callable[[str], None]) -> Termination:
        """Return a Termination, which ends the job with SIGTERM.

        `daemons` names processes that setup left running; `reached` is how far an earlier agent process got with
        sending SIGTERM; `say` writes a line to the system stream.
        """

    def kill(self) -> None:
        """Kill every process of the job, and return when they have ended. May be repeated."""

    def last_words(self) -> str:
        """Return the engine's own messages about the job's end; empty if there are none."""

    def out_of_memory(self) -> bool:
        """Return whether the engine reports that the kernel killed a process of the job because no memory was left."""

    def adopt(self) -> bool:
        """Take over an earlier agent process's job, or find out how the job ended; return False if there is no job."""


class ProcessEngine:
    """Runs the job as plain processes of this machine. Only work orders of rehearsals use this engine."""

    def __init__(self, root: str, working_directory: str, job_dir: Path) -> None:
        self._root = root
        self._job_dir = job_dir
        self._directory = inside(root, working_directory)
        self._process: Program | None = None
        #: The first shell of a job that an earlier agent process started.
        self._adopted: Process | None = None

    def wait(self, tools: Tools) -> None:
        pass

    def has_image(self, tools: Tools) -> bool:  # noqa: ARG002 - there is no engine to ask
        return False

    def pull(self, tools: Tools, login: bytes | None) -> None:  # noqa: ARG002 - no registry gets the login
        tools.say("no container engine in this rehearsal: the image is not pulled")

    def folder(self, path: str) -> str:
        return inside(self._root, path)

    def seen(self, path: str) -> str:
        return inside(self._root, posixpath.join(HOME, path))

    def folders(self) -> list[str]:
        return [f"{self._root}{HOME}"]

    def host(self, name: str, address: str) -> str:
        # Without a network of its own, the machine has this computer's names.
        return address if address.startswith(LOOPBACK) else name

    def port(self, leader: str) -> int:
        if not leader.startswith(LOOPBACK):
            return MASTER_PORT
        # All machines share this computer's ports. The rehearsal chose a free one for each machine, and the address
        # contains it (LightHost.address).
        high, low = leader.split(".")[2:]
        return int(high) << 8 | int(low)

    def create(self, hosts: Mapping[str, str]) -> None:
        named = [f"{address} {name}\n" for name, address in hosts.items() if not address.startswith(LOOPBACK)]
        if named:
            with open(inside(self._root, "/etc/hosts"), "a") as file:
                file.writelines(named)

    def start(self) -> None:
        home = f"{self._root}{HOME}"
        os.makedirs(home, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
        self._process = spawn(
            [sys.executable, "-I", "-S", "-c", ADOPTING, "sh", str(self._job_dir / "entry")],
            Output.CONSOLE,
            whole_env={**kept, "HOME": home},
            cwd=self._directory,
        )
        shell = processes.find(self._process.pid)
        files.replace(self._job_dir / "shell", (shell.name if shell else "").encode())

    def exit_code(self) -> int | None:
        if self._process is None:
            # The shell reports the command's exit code and then waits, so a shell that is gone was killed.
            return None if self._adopted is not None and processes.alive(self._adopted) else 137
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def left(self) -> list[str]:
        return processes.names(self.tree())

    def termination(self, daemons: Sequence[str], reached: Reached, say: Callable[[str], None]) -> Termination:
        return processes.Termination(self.tree, daemons, reached, say)

    def tree(self) -> Tree | None:
        shell = self._adopted or (self._process and processes.find(self._process.pid))
        return Tree(shell) if shell else None

    def kill(self) -> None:
        # Kill the first shell last: it adopts the orphans, and without it they could not be found.
        if tree := self.tree():
            processes.kill_all(tree, PATIENCE)
        if self._process is not None:
            kill(self._process)
        end = time.monotonic() + PATIENCE
        while self._adopted is not None and processes.alive(self._adopted) and time.monotonic() < end:
            # The shell is not a child of this process, which therefore cannot reap it; the shell's new parent does.
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
