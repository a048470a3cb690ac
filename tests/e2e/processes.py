"""Processes of this computer, as every user can see them."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Watch:
    """Collects the command lines of all processes while its `with` block runs."""

    def __init__(self) -> None:
        self.lines: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self.lines.add((process / "cmdline").read_bytes())
                except OSError:
                    pass  # The process has ended meanwhile.


def agents(machine: Path) -> list[int]:
    """Return the processes that run the agent of the machine in this folder."""
    found, program = [], f"{machine.resolve()}/var/lib/provision/agent".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if program in words:
            found.append(int(process.name))
    return found


def processes_with(text: str) -> list[int]:
    """Return the processes with this text in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in line:
            found.append(int(process.name))
    return found
