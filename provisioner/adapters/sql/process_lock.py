"""Show that a process is alive, by a file lock that the kernel releases when the process ends."""

import fcntl
import os
import threading
from pathlib import Path
from typing import BinaryIO

from provisioner.adapters import private


class ProcessLock:
    """A lock on a file beside the store; the kernel releases it when its process ends.

    Without the lock, other processes would wait for the lease of a killed process to expire. A process that hangs keeps
    the lock, and loses the lease when the lease expires.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened()
        self._held = False
        #: The lock belongs to the process, so `unheld` must not release the lock that another thread has taken.
        self._one = threading.RLock()

    def _opened(self) -> BinaryIO:
        """Open or make the lock file. A process that can open it can lock it, so only the store's owner may open it."""
        private.make_file(self._path)
        return open(self._path, "ab")

    def _reopen(self) -> None:
        """Open the lock file again if it was removed or replaced: other processes lock the new file."""
        try:
            found = os.stat(self._path)
            if os.path.samestat(found, os.fstat(self._file.fileno())):
                return
        except FileNotFoundError:
            pass
        fresh = self._opened()
        self._file.close()
        self._file, self._held = fresh, False

    def take(self) -> bool:
        with self._one:
            self._reopen()
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._held = True
            return True

    def unheld(self) -> bool:
        """Return whether no process holds the lock, this process included."""
        with self._one:
            if self._held or not self.take():
                return False
            self.give()
            return True

    def close(self) -> None:
        self._file.close()

    def give(self) -> None:
        with self._one:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._held = False
