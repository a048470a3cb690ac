"""Measure the room on the machine's disks, and reserve some of it for the agent."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

#: A disk with fewer free bytes than this counts as full.
LITTLE = 64 << 20

#: Bytes that the agent needs to report the end of a job that filled the disk.
BALLAST = 16 << 20

#: Error messages of C libraries, and so of git and Docker, for ENOSPC and EDQUOT.
NO_SPACE = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)


class Disks:
    """The least room that was measured on the disks of some folders."""

    def __init__(self, root: Path, folders: Iterable[str]) -> None:
        """`root` is on the machine's root disk; the job writes to the last of the folders first."""
        self._root = root
        self._folders = [str(root), *folders]
        self._least: dict[str, int] = {}

    def look(self) -> None:
        """Measure the room now. This takes some microseconds, so it may be done while a job runs."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                now = os.statvfs(folder)
                # Without a free inode there is no room for a new file.
                room = now.f_bavail * now.f_frsize if now.f_favail or not now.f_files else 0
                self._least[folder] = min(room, self._least.get(folder, room))

    def full(self, told: str) -> str:
        """Return which disk ran full, and advice; empty if none did and `told`, a tool's message, reports none."""
        for folder, room in self._least.items():
            if room < LITTLE:
                return f"the disk of {folder} ran full ({room >> 20} MiB left): {self._advice(folder)}"
        # A tool may have deleted its files after the error, so that there is room again.
        return f"the disk ran full: {self._advice(self._folders[-1])}" if NO_SPACE.search(told) else ""

    def _advice(self, folder: str) -> str:
        with contextlib.suppress(OSError):
            if os.stat(folder).st_dev != os.stat(self._root).st_dev:
                return "an instance type with a larger instance store has more room"
        return "a larger placement.disk_size gives more room"


class Ballast:
    """A file that reserves room on the root disk; it is deleted when the agent needs the room."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST)
        except OSError:
            # The disk is full already, or its file system cannot reserve room: continue without.
            self.drop()

    def drop(self) -> None:
        """Delete the file; may be repeated."""
        with contextlib.suppress(OSError):
            self._path.unlink()
