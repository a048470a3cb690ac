"""A journal of the bytes that were taken from a pipe and may not be in the spool yet.

If the agent process dies, the next one continues from the journal, so that no byte is lost or written twice.
"""

from __future__ import annotations

import os
import struct
from dataclasses import astuple, dataclass
from pathlib import Path

from provisioner.agent.machine import files

#: Maximum bytes that are taken from the pipe at once.
TAKEN = 1 << 18

#: Bytes after which the journal continues in a new file.
LONG = 1 << 20

#: The format of a mark: four numbers. They are written together, by one call, so the file never has a part of a mark.
FORM = struct.Struct("<4q")


@dataclass(frozen=True)
class Mark:
    """The position up to which the pipe's bytes are in the spool, and the mask's state at that position."""

    #: Bytes of the pipe that are in the spool.
    position: int
    #: How many of the next bytes are masked already, and the length of the line so far.
    hidden: int
    column: int
    #: Length of the stream, in bytes, once it contains the pipe's bytes before `position`.
    produced: int


class PipeJournal:
    """The bytes since the mark, in a file that is named for the position of its first byte in the pipe."""

    def __init__(self, folder: Path, produced: int) -> None:
        """Open the journal in `folder`, or make one.

        The bytes are not masked, so the folder must be in the machine's memory and readable for this agent only.
        `produced` is the length of the stream when a new journal begins.
        """
        files.own(folder)
        mark, journals = folder / "mark", sorted(path for path in folder.iterdir() if path.name.isdigit())
        if not journals:
            mark.write_bytes(FORM.pack(0, 0, 0, produced))
            journals = [folder / f"{0:015d}"]
            journals[0].touch()
        self.mark = Mark(*FORM.unpack(mark.read_bytes()))
        self._folder = folder
        self._marks = os.open(mark, os.O_WRONLY)
        self._open(journals[-1])
        for older in journals[:-1]:
            older.unlink()

    @property
    def end(self) -> int:
        """Number of bytes that have been taken from the pipe."""
        return self._base + self._length

    def take(self, pipe: int) -> bytes:
        """Move up to TAKEN bytes from the pipe into the journal, by splice(2), and return them.

        Raises OSError if memory is full; the bytes then stay in the pipe.
        """
        if self._length >= LONG:
            self._begin_anew()
        taken = os.splice(pipe, self._file, TAKEN, offset_dst=self._length)
        self._length += taken
        return os.pread(self._file, taken, self._length - taken)

    def rest(self) -> bytes:
        """Return the bytes that were taken since the mark."""
        return os.pread(self._file, self.end - self.mark.position, self.mark.position - self._base)

    def done(self, mark: Mark) -> None:
        """Record that all bytes before the mark are in the spool."""
        os.pwrite(self._marks, FORM.pack(*astuple(mark)), 0)
        self.mark = mark

    def close(self) -> None:
        """Close the files; their content stays for the next agent process."""
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
