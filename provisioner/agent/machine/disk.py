"""Room on the machine's disks, and what to do when there is none."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

#: With less than this, what does not fit is bound to have failed.
LITTLE = 64 << 20

#: What the agent itself needs to say how a job ended whose disk is full.
BALLAST = 16 << 20

#: ENOSPC and EDQUOT in the words of C libraries, and so of git and Docker.
NO_SPACE = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)


class Disks:
    """How little room there has been on the disks of some folders."""

    def __init__(self, root: Path, folders: Iterable[str]) -> None:
        """`root` is on the machine's root disk; the last of the folders is where the job's bytes go first."""
        self._root = root
        self._folders = [str(root), *folders]
        self._least: dict[str, int] = {}

    def look(self) -> None:
        """Costs some microseconds, so that it may be done while a job runs."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                now = os.statvfs(folder)
                # Without an inode there is no room for a new file.
                room = now.f_bavail * now.f_frsize if now.f_favail or not now.f_files else 0
                self._least[folder] = min(room, self._least.get(folder, room))

    def full(self, told: str) -> str:
        """Which disk ran full, and what to do, in words; empty when none did, nor a tool has told of one."""
        for folder, room in self._least.items():
            if room < LITTLE:
                return f"the disk of {folder} ran full ({room >> 20} MiB left): {self._advice(folder)}"
        # A tool that tidies up behind itself leaves room again.
        return f"the disk ran full: {self._advice(self._folders[-1])}" if NO_SPACE.search(told) else ""

    def _advice(self, folder: str) -> str:
        with contextlib.suppress(OSError):
            if os.stat(folder).st_dev != os.stat(self._root).st_dev:
                return "an instance type with a larger instance store has more room"
        return "a larger placement.disk_size gives more room"


class Ballast:
    """A piece of the root disk that no job can take; thrown off when the agent needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST)
        except OSError:
            # No room from the beginning, or a file system that cannot: so there is none.
            self.drop()

    def drop(self) -> None:
        """May be repeated."""
        with contextlib.suppress(OSError):
            self._path.unlink()
