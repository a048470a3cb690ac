"""Where things are on this machine; a rehearsed machine lives in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.errors import Invalid


@dataclass(frozen=True)
class Settings:
    """What the user-data says of the installation."""

    bucket: str
    #: Empty, or ends in a slash.
    prefix: str
    region: str
    role_id: str


@dataclass(frozen=True)
class Place:
    #: Empty on a real machine.
    root: str

    @property
    def home(self) -> Path:
        """What must outlive a restart of the agent."""
        return Path(f"{self.root}/var/lib/provision")

    @property
    def exchange(self) -> Path:
        """What is shared with the job; in memory on a real machine, for it holds secrets."""
        return Path(f"{self.root}/run/provision")

    @property
    def credentials(self) -> Path:
        """What opens doors for this agent alone, in memory; empty before the job starts."""
        return Path(f"{self.root}/run/provision-credentials")

    @property
    def memory(self) -> Path:
        """What an agent process leaves to its successor; in memory, for it holds secrets: gone with this boot."""
        return Path(f"{self.root}/run/provision-agent")

    @property
    def fuse(self) -> Path:
        return self.home / "fuse"

    @property
    def boot(self) -> Path:
        """The boot in which the command began."""
        return self.home / "boot"

    def settings(self) -> Settings:
        return Settings(**json.loads((self.home / "settings.json").read_bytes()))


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
