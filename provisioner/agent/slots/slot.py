"""One slot of a list of commands: the pipes to its shell, the try that it executes, and the output of that try."""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
from pathlib import Path
from secrets import token_hex

from provisioner.agent.logs import mask
from provisioner.agent.logs.pipe_journal import Mark, PipeJournal
from provisioner.agent.logs.spool import Stream, add
from provisioner.agent.machine import files
from provisioner.agent.slots.leftovers import Ending
from provisioner.agent.slots.notes import Frame, Given, Notes, insist, write
from provisioner.agent.slots.queue import Assigned
from provisioner.core.protocol.command_lines import Extent

#: A command's output goes to the spool in frames of this many bytes, each contiguous. For every MORE extents the next
#: frames are twice as long, up to LONGEST, so that the record of a command with 16 GiB of output has a bounded size.
FRAME, MORE, LONGEST = 64 << 10, 1024, 4 << 20

#: The exit code of a try whose shell was killed: that of SIGKILL.
KILLED = 137

#: Bytes at the end of the file "said" that are read.
SAID = 4096


class Slot:
    """Gives commands to the slot's shell (`slot.sh`), and moves their output to the spool.

    If an earlier agent process died, its notes and its journal of the pipe have the state of the try, which goes on.
    """

    def __init__(self, number: int, folder: Path, memory: Path, stream: Stream, secrets: mask.Mask) -> None:
        """`folder` is shared with the job; `memory` is readable for this agent only, and stays for the next agent."""
        files.own(memory)
        self.number = number
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        # Opened for writing too: the pipe has no end of file while the slot's shell is being started again.
        self.output = os.open("output", os.O_RDWR | os.O_NONBLOCK, dir_fd=self._folder)
        self._go = os.open("go", os.O_RDWR | os.O_NONBLOCK, dir_fd=self._folder)
        self._said = os.open("said", os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._folder)
        self._stream = stream
        self._secrets = secrets
        self._notes = Notes(memory / "try")
        self._journal = PipeJournal(memory / "pipe", 0)
        #: The masked output that is not in the spool yet.
        self._frame: list[bytes] = []
        self._held = 0
        self._extents: list[Extent] = []
        self._deaths = 0
        given, frames, done = self._notes.read()
        #: The place of the last try: batch and position.
        self.begun = (given.batch, given.position) if given is not None else (0, 0)
        #: The try; None if the slot has none.
        self.given = None if done else given
        self._noted = done
        #: The exit code of the try, once it has one, and when the shell reported it.
        self.code: int | None = None
        self.ended_at = 0.0
        #: Why the try was ended, as in its record; empty if it was not.
        self.why = ""
        #: Ends the try's processes; None if they are not being ended.
        self.ending: Ending | None = None
        self._masking = mask.Stream(secrets)
        if self.given is not None:
            self._go_on(self.given, frames)

    def _go_on(self, given: Given, frames: list[Frame]) -> None:
        """Continue the try of an earlier agent process."""
        last = frames[-1] if frames else Frame(given.start, 0, 0, ())
        self._journal.done(Mark(last.position, last.hidden, last.column, 0))
        self._masking = mask.Stream(self._secrets, last.hidden, last.column)
        for frame in frames:
            for extent in frame.extents:
                add(self._extents, extent)
        self._keep(self._masking.feed(self._journal.rest()))
        said = os.pread(self._said, SAID, 0)
        # If the shell's words are about an earlier try, the earlier agent process died before it wrote this try's line.
        self._tell(given, anew=b"begun " in said and b"begun %d %d\n" % (given.index, given.generation) not in said)

    @property
    def token(self) -> str:
        return self.given.token if self.given is not None else ""

    def begin(self, command: Assigned, run: str) -> None:
        """Let the shell execute a command. Its place is stored before, so that no agent process begins it again."""
        # A process that was left behind may have written since. Its bytes belong to no command.
        self._close_frame()
        token = f"{run}.{command.index}.{command.generation}.{token_hex(8)}"
        given = Given(
            command.batch, command.position, command.index, command.generation, token, time.time(), self._journal.end
        )
        insist(lambda: write("command", command.text, self._folder))
        self._notes.begin(given)
        self.given, self.begun, self._noted = given, (given.batch, given.position), False
        self.code, self.why, self.ending = None, "", None
        self._extents, self._deaths = [], 0
        self._tell(given, anew=True)

    def _tell(self, given: Given, *, anew: bool) -> None:
        """Write the try's line, which the shell ignores if it has read it before.

        With `anew` the line was not written before, so the shell's words about an earlier try are removed.
        """
        # In this order: see `slot.sh`.
        insist(lambda: write("given", b"%d %d\n" % (given.index, given.generation), self._folder))
        if anew:
            os.ftruncate(self._said, 0)
        self._write(f"run {given.index} {given.generation} {given.token}\n".encode())

    def close(self) -> None:
        """Let the shell end when its command has ended."""
        self._write(b"end\n")

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._go, line)
        except BlockingIOError:
            # The job has filled the pipe, or its shell does not read. Then the try ends by a limit only.
            pass

    def listen(self) -> None:
        """Set `code` and `ended_at` if the shell has reported the try's end, or was killed."""
        assert self.given is not None
        given, status = self.given, os.fstat(self._said)
        said = os.pread(self._said, SAID, max(0, status.st_size - SAID))
        _, found, rest = said.partition(b"ended %d %d " % (given.index, given.generation))
        code, end, _ = rest.partition(b"\n")
        if found and end and code.isdigit():
            self.code, self.ended_at = min(int(code), 255), status.st_mtime
        elif (deaths := said.count(b"died\n")) > self._deaths:
            self._deaths = deaths
            if b"begun %d %d\n" % (given.index, given.generation) in said:
                self.code, self.ended_at = KILLED, status.st_mtime
            else:
                # The shell may have read the line before it was killed.
                self._tell(given, anew=False)

    def feed(self) -> int:
        """Move bytes from the pipe to the journal, and full frames to the spool; return the number of bytes.

        Raises OSError if the machine's memory is full; the bytes then stay in the pipe.
        """
        if not _readable(self.output):
            return 0
        data = self._journal.take(self.output)
        self._keep(self._masking.feed(data))
        return len(data)

    def finish(self) -> tuple[Extent, ...]:
        """Take the last output of the try, and return where its output is. Its processes have ended."""
        rest = _readable(self.output)
        while rest > 0:
            rest -= insist(self.feed)
        self._close_frame()
        return tuple(self._extents)

    def rest(self) -> None:
        """Note that the last try's record is written; the slot gets no other command now."""
        if not self._noted:
            self._notes.done()
            self._noted = True

    def _keep(self, masked: bytes) -> None:
        self._frame.append(masked)
        self._held += len(masked)
        if self._held >= min(LONGEST, FRAME << len(self._extents) // MORE):
            self._flush()

    def _close_frame(self) -> None:
        """Move all output to the spool, also bytes that might have been the beginning of a secret."""
        self._frame.append(self._masking.finish())
        self._masking = mask.Stream(self._secrets)
        self._flush()

    def _flush(self) -> None:
        data = b"".join(self._frame)
        self._frame, self._held = [], 0
        if not data:
            return
        extents = self._stream.write(data)
        masking = self._masking
        frame = Frame(self._journal.end - masking.held, masking.hidden, masking.column, tuple(extents))
        if self.given is not None:
            for extent in extents:
                add(self._extents, extent)
            self._notes.add(frame)
        self._journal.done(Mark(frame.position, frame.hidden, frame.column, 0))


def _readable(pipe: int) -> int:
    """Return how many bytes are in the pipe."""
    size = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, size)
    return size[0]
