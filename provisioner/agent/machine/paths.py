"""Paths of the agent's files on this machine. A rehearsed machine has a root folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The installation's settings, as the user-data wrote them."""

    bucket: str
    #: The prefix of all keys: empty, or text that ends in a slash.
    prefix: str
    region: str
    role_id: str


@dataclass(frozen=True)
class Paths:
    #: The root folder of a rehearsed machine; "" on a real one.
    root: str

    @property
    def home(self) -> Path:
        """The folder for files that must outlive a restart of the agent."""
        return Path(f"{self.root}/var/lib/provision")

    @property
    def job_dir(self) -> Path:
        """The folder that the agent and the job share. It contains secrets, so on a real machine it is in memory."""
        return Path(f"{self.root}/run/provision")

    @property
    def credentials(self) -> Path:
        """The folder for credentials that only the agent may read. It is in memory, and empty before the job starts."""
        return Path(f"{self.root}/run/provision-credentials")

    @property
    def memory(self) -> Path:
        """The folder with the state for the next agent process. It contains secrets, so it is in memory."""
        return Path(f"{self.root}/run/provision-agent")

    @property
    def fuse(self) -> Path:
        return self.home / "fuse"

    @property
    def boot(self) -> Path:
        """The file with the kernel's id of the boot in which the command began."""
        return self.home / "boot"

    @property
    def attempt(self) -> Path:
        """The file with the number of the attempt, if it is not the machine's first one."""
        return self.home / "attempt"

    def log(self, later: int) -> Path:
        """Return the folder for log bytes that are not shipped yet; `later` is as in `work_key`."""
        return self.home / (f"log-{later}" if later else "log")

    def settings(self) -> Settings:
        return Settings(**json.loads((self.home / "settings.json").read_bytes()))
