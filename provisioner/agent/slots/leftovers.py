"""Find the processes of one try by the token in their environment, and end them.

A try's processes are descendants of its slot's shell. Those that outlive the try's first process become children of the
process that adopts the job's orphans. A process that was started with another environment (`env -i`) is not found; it
ends with the job.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

from provisioner.agent.job import processes
from provisioner.agent.job.processes import Process, Reached, Termination, Tree

#: Maximum bytes that are read of a process's environment. The kernel allows 6 MiB (execve(2), "Limits on size of
#: arguments and environment").
ENVIRONMENT = 6 << 20

#: Seconds for which SIGKILL is sent to processes that do not end.
PATIENCE = 10.0

TOKEN = re.compile(rb"(?:\A|\0)PROVISION_TRY=([^\0]*)\0")


class Strangers:
    """The children of the process that adopts the job's orphans, and the tries that they belong to."""

    def __init__(self, tree: Callable[[], Tree | None]) -> None:
        self._tree = tree
        self._root: Process | None = None
        #: The tokens of the children, by process id; empty for a process of no try.
        self._known: dict[bytes, bytes] = {}
        #: The list of children when none of them belonged to a try.
        self._quiet = b""

    def have(self, token: str) -> bool:
        """Return whether a process that its try has left behind has this token."""
        children = self._children()
        if children == self._quiet:
            return False
        pids = children.split()
        known = {pid: self._known[pid] if pid in self._known else _token(int(pid)) for pid in pids}
        # A process that ends shows no environment.
        self._known = {pid: found for pid, found in known.items() if found is not None}
        if len(self._known) == len(pids) and not any(self._known.values()):
            self._quiet = children
        return token.encode() in self._known.values()

    def _children(self) -> bytes:
        """Return the process ids of the children, as the kernel prints them (proc_pid_task_children(5))."""
        if self._root is None:
            tree = self._tree()
            if tree is None:
                return b""
            self._root = tree.root
        pid = self._root.pid
        try:
            handle = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
        except OSError:
            return b""
        try:
            data = b""
            while piece := os.read(handle, 1 << 16):
                data += piece
            return data
        finally:
            os.close(handle)


class Ending:
    """Ends the processes of one try: first SIGTERM, as for a whole job, and SIGKILL at the Unix time `until`."""

    def __init__(self, tree: Callable[[], Tree | None], token: str, until: float) -> None:
        self._tree = tree
        self._token = token.encode()
        self._until = until
        self._termination = Termination(self._own, (), Reached(), lambda _: None)

    def turn(self, *, reported: bool) -> bool:
        """Send the signals that are due; return whether a process of the try may still run.

        `reported` is whether the slot's shell has reported the exit code.
        """
        left = self._termination.turn(self._until, reported=reported)
        now = time.time()
        if left and now >= self._until:
            for process in self._look():
                processes.send(process, signal.SIGKILL)
        # A process in an uninterruptible sleep cannot be killed.
        return left and now < self._until + PATIENCE

    def _look(self) -> list[Process]:
        tree = self._own()
        try:
            return tree.look()[0] if tree else []
        except OSError:
            return []

    def _own(self) -> Tree | None:
        tree = self._tree()
        return Part(tree, self._token) if tree else None


class Part(Tree):
    """The processes of a job that have a token."""

    def __init__(self, whole: Tree, token: bytes) -> None:
        super().__init__(whole.root)
        self._whole = whole
        self._token = token

    def look(self) -> tuple[list[Process], bool]:
        found, complete = self._whole.look()
        return [process for process in found if _token(process.pid) == self._token], complete


def _token(pid: int) -> bytes | None:
    """Return the token in the environment of the process; b"" if it has none; None if it shows no environment."""
    try:
        handle = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
        try:
            data = b""
            while len(data) < ENVIRONMENT and (piece := os.read(handle, 1 << 17)):
                data += piece
        finally:
            os.close(handle)
    except OSError:
        return None
    found = TOKEN.search(data)
    return (found[1] if found else b"") if data else None
