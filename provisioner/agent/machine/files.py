"""Make folders that only the agent may read, keep paths within a folder, and write files atomically."""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from provisioner.core.errors import Invalid


@contextlib.contextmanager
def private(folder: Path) -> Iterator[Path]:
    """Make the folder, empty and accessible to this user only; yield it, and delete it afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own(folder: Path) -> None:
    """Make the folder, accessible to this user only, unless it exists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def inside(base: str, path: str) -> str:
    """Return `path`, an absolute path of the job, as a path below `base`. Raises Invalid."""
    if not path.startswith("/") or "\0" in path:
        raise Invalid(f"{path!r} is not an absolute path")
    # normpath keeps two leading slashes, because POSIX allows them a special meaning. `..` cannot leave the root.
    return base + "/" + posixpath.normpath(path).lstrip("/")


def replace(path: Path, data: bytes) -> None:
    """Write the file atomically: a reader gets either all of the old bytes or all of the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        # On a full disk, a failed write leaves an empty file.
        part.unlink(missing_ok=True)
