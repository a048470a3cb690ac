"""Files and folders that only the agent may read, and that are written completely or not at all."""

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
    """The folder, empty and this process's own; it is gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own(folder: Path) -> None:
    """Have the folder, for nobody else to look into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def inside(base: str, path: str) -> str:
    """`path`, an absolute one of the job's world, as a path under `base`; raises Invalid."""
    if not path.startswith("/") or "\0" in path:
        raise Invalid(f"{path!r} is no absolute path")
    # normpath keeps two leading slashes (POSIX allows them a meaning); `..` cannot climb past the root.
    return base + "/" + posixpath.normpath(path).lstrip("/")


def replace(path: Path, data: bytes) -> None:
    """Write the file whole or not at all: whoever reads it sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        # On a full disk it stands there, empty.
        part.unlink(missing_ok=True)
