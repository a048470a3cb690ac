"""Failures that are recorded only when it is known that no interruption caused them.

The agent may read a spot notice NOTICE_INTERVAL seconds late, and a program may read it earlier and exit. So a failure
is recorded only after a later request has found no notice. If there is a notice, the failure is not recorded, and the
command executes again on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.agent.machine import files
from provisioner.agent.slots.notes import insist
from provisioner.agent.slots.slot import KILLED
from provisioner.core.protocol import codec
from provisioner.core.protocol.command_lines import CommandEnd


@dataclass(frozen=True)
class Held:
    at: float
    end: CommandEnd


class HeldFailures:
    """The failures, also in a file for an agent process that may take over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = [codec.decode(Held, line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def killed(self) -> bool:
        """Whether one of the commands was killed, perhaps because the machine had no memory left."""
        return any(held.end.code == KILLED for held in list(self._held))

    def add(self, at: float, end: CommandEnd) -> None:
        self._held.append(Held(at, end))
        self._store()

    def before(self, at: float, *, out_of_memory: bool) -> Iterator[CommandEnd]:
        """Yield the failures that ended before this Unix time; each is removed after the caller has recorded it."""
        while self._held and self._held[0].at < at:
            end = self._held[0].end
            yield replace(end, why="oom") if out_of_memory and end.code == KILLED else end
            self._held.pop(0)
            self._store()

    def drop(self) -> None:
        self._held.clear()
        self._store()

    def _store(self) -> None:
        data = b"".join(codec.encode(held) + b"\n" for held in self._held)
        insist(lambda: files.replace(self._path, data))
