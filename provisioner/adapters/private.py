"""Make files and folders that only their owner may read, because they contain the variables of jobs."""

import os
import stat
from pathlib import Path

#: Mode bits of group and others.
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path) -> None:
    """Make the folder and its missing parents with mode 0700.

    Existing folders keep their mode: other programs may use them.
    """
    missing = [path] if not path.exists() else []
    missing += [each for each in path.parents if not each.exists()]
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file with mode 0600, or restrict an existing file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        restrict(path)


def restrict(path: Path) -> None:
    """Remove the permissions of group and others from the file, if this user may do that.

    The file is not opened: closing any descriptor of an SQLite file drops the process's locks on it (SQLite, "How To
    Corrupt An SQLite Database File", 2.2).
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except OSError:
        return  # The file is missing, another user's, or on a read-only disk: the next read of the file reports this.
