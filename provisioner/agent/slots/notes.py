"""What a slot notes about its try, in a file of the machine's memory, for an agent process that may take over."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from provisioner.core.errors import Invalid
from provisioner.core.protocol import codec
from provisioner.core.protocol.command_lines import Extent

T = TypeVar("T")

#: Seconds between two tries to write while the machine's memory is full.
AGAIN = 0.5

DONE = b"done\n"


@dataclass(frozen=True)
class Given:
    """A try: the command that a slot has got, since when, and where in the slot's pipe its output begins."""

    batch: int
    position: int
    index: int
    generation: int
    token: str
    began: float
    start: int


@dataclass(frozen=True)
class Frame:
    """Output that is in the spool: up to which position in the pipe, the mask's state there, and where it is."""

    position: int
    hidden: int
    column: int
    extents: tuple[Extent, ...]


class Notes:
    """A file with the slot's last try, then its frames, one JSON text a line, and `done` when its record is written."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)

    def read(self) -> tuple[Given | None, list[Frame], bool]:
        """Return the last try, its frames, and whether its record is written."""
        try:
            with open(self._path, "rb") as file:
                lines = [line for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            return None, [], True
        frames = [line for line in lines[1:] if line != DONE]
        try:
            return codec.decode(Given, lines[0]), [codec.decode(Frame, line) for line in frames], DONE in lines
        except (Invalid, IndexError) as error:
            raise AssertionError(f"{self._path} was not written by an agent") from error

    def begin(self, given: Given) -> None:
        """Replace the notes about an earlier try."""
        insist(lambda: write(self._path, codec.encode(given) + b"\n"))

    def add(self, frame: Frame) -> None:
        self._append(codec.encode(frame) + b"\n")

    def done(self) -> None:
        """Note that the try's record is written."""
        self._append(DONE)

    def _append(self, data: bytes) -> None:
        def append() -> None:
            handle = os.open(self._path, os.O_WRONLY)
            try:
                end = os.lseek(handle, 0, os.SEEK_END)
                if os.write(handle, data) < len(data):
                    os.ftruncate(handle, end)
                    raise OSError(errno.ENOSPC, "no space left")
            finally:
                os.close(handle)

        insist(append)


def write(name: str, data: bytes, folder: int | None = None) -> None:
    """Write a file atomically, readable for every user; `name` is relative to the open folder, if that is given.

    The job may be able to write to the folder, so a link is not followed.
    """
    part = f"{name}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=folder)
    try:
        os.fchmod(handle, 0o644)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)
    os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def insist(act: Callable[[], T]) -> T:
    """Repeat `act` while the machine's memory is full: without its notes, no try could be continued."""
    while True:
        try:
            return act()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        time.sleep(AGAIN)
