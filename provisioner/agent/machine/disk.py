"""Measure the free space on the machine's disks, and reserve some of it for the agent."""

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
    """The smallest free space that was measured on the disks of some folders."""

    def __init__(self, root: Path, folders: Iterable[str]) -> None:
        """`root` is on the root disk. If `full` cannot tell which disk was full, it names the last of `folders`."""
        self._root = root
        self._folders = [str(root), *folders]
        self._least: dict[str, int] = {}

    def look(self) -> None:
        """Measure the free space now. This takes some microseconds, so it may be done while a job runs."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                now = os.statvfs(folder)
                # Without a free inode no new file can be made.
                room = now.f_bavail * now.f_frsize if now.f_favail or not now.f_files else 0
                self._least[folder] = min(room, self._least.get(folder, room))

    def full(self, told: str) -> str:
        """Return a message that names the disk that ran full, with advice; empty if no disk did.

        `told` is a tool's message, which may report a full disk.
        """
        for folder, room in self._least.items():
            if room < LITTLE:
                return f"the disk of {folder} was full ({room >> 20} MiB free): {self._advice(folder)}"
        # A tool may have deleted its files after the error, so that space is free again.
        return f"a disk was full: {self._advice(self._folders[-1])}" if NO_SPACE.search(told) else ""

    def _advice(self, folder: str) -> str:
        with contextlib.suppress(OSError):
            if os.stat(folder).st_dev != os.stat(self._root).st_dev:
                return "use an instance type with a larger instance store"
        return "set a larger placement.disk_size"


class Ballast:
    """A file that reserves space on the root disk; it is deleted when the agent needs the space."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST)
        except OSError:
            # The disk is full already, or its file system cannot reserve space: continue without the file.
            self.drop()

    def drop(self) -> None:
        """Delete the file; may be repeated."""
        with contextlib.suppress(OSError):
            self._path.unlink()
