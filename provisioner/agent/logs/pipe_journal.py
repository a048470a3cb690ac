"""Bytes that have left a pipe and may not be in the spool yet: no death of the agent loses or doubles one."""

from __future__ import annotations

import os
import struct
from dataclasses import astuple, dataclass
from pathlib import Path

from provisioner.agent.machine import files

#: The most that is taken at once.
TAKEN = 1 << 18

#: A tape this long begins anew.
LONG = 1 << 20

#: Four numbers in one write: it is there whole, or not at all.
FORM = struct.Struct("<4q")


@dataclass(frozen=True)
class Mark:
    """Up to where the pipe's bytes are in the spool, and what the mask must know to go on from there."""

    #: How many bytes of the pipe are done with.
    position: int
    #: How many of the next bytes are hidden already, and how long the line is so far.
    hidden: int
    column: int
    #: How many bytes they have become in the stream.
    produced: int


class Tape:
    """One file, named by how many bytes of the pipe were done with when it began."""

    def __init__(self, folder: Path, produced: int) -> None:
        """`folder` is in the machine's memory and this agent's own: nothing here is masked yet.

        `produced` is how long the stream is, where there is no tape yet.
        """
        files.own(folder)
        mark, tapes = folder / "mark", sorted(path for path in folder.iterdir() if path.name.isdigit())
        if not tapes:
            mark.write_bytes(FORM.pack(0, 0, 0, produced))
            tapes = [folder / f"{0:015d}"]
            tapes[0].touch()
        self.mark = Mark(*FORM.unpack(mark.read_bytes()))
        self._folder = folder
        self._marks = os.open(mark, os.O_WRONLY)
        self._open(tapes[-1])
        for older in tapes[:-1]:
            older.unlink()

    @property
    def end(self) -> int:
        """How many bytes of the pipe have been taken."""
        return self._base + self._length

    def take(self, pipe: int) -> bytes:
        """What the pipe holds, if it holds anything: on the tape before this process has it (splice(2)).

        Raises OSError where there is no room for it; then it is still in the pipe.
        """
        if self._length >= LONG:
            self._begin_anew()
        taken = os.splice(pipe, self._file, TAKEN, offset_dst=self._length)
        self._length += taken
        return os.pread(self._file, taken, self._length - taken)

    def rest(self) -> bytes:
        """What has been taken since the mark."""
        return os.pread(self._file, self.end - self.mark.position, self.mark.position - self._base)

    def done(self, mark: Mark) -> None:
        """All before the mark is in the spool."""
        os.pwrite(self._marks, FORM.pack(*astuple(mark)), 0)
        self.mark = mark

    def close(self) -> None:
        """What is on it stays, for whoever comes next."""
        os.close(self._file)
        os.close(self._marks)

    def _begin_anew(self) -> None:
        old, path = self._path, self._folder / f"{self.mark.position:015d}"
        if path != old:
            files.replace(path, self.rest())
            os.close(self._file)
            self._open(path)
            old.unlink()

    def _open(self, path: Path) -> None:
        self._path = path
        self._base = int(path.name)
        self._file = os.open(path, os.O_RDWR)
        self._length = os.fstat(self._file).st_size
