"""Where things are on this machine. A rehearsed machine lives in a folder of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


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
