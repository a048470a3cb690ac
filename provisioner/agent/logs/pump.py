"""Carries what the job writes from a pipe into the spool."""

from __future__ import annotations

import errno
import os
import select
import threading

from provisioner.agent.job.shell_dialect import Dialect
from provisioner.agent.logs import mask
from provisioner.agent.logs.pipe_journal import TAKEN, Mark, Tape
from provisioner.agent.logs.spool import Stream

#: Where there was less than `FEW`, what is written within so many seconds is gathered: else a job that
#: writes in small pieces would wake us for each.
FEW, GATHER = 1 << 16, 0.005


class Pump(threading.Thread):
    """Carries bytes from a pipe into a stream, masked; while the stream's spool is full the writer waits.

    It goes on where an earlier process's was: the tape has what that one took, the spool what came of it.
    """

    def __init__(
        self, pipe: int, stream: Stream, secrets: mask.Mask, tape: Tape, dialect: Dialect | None = None
    ) -> None:
        super().__init__(name=f"pump {stream.name}", daemon=True)
        self._pipe = pipe
        self._stream = stream
        self._tape = tape
        #: Gets a copy of the masked output.
        self.dialect = dialect or Dialect(b"sh")
        self._masking = mask.Stream(secrets, tape.mark.hidden, tape.mark.column)
        stream.forward(tape.mark.produced)
        #: What the earlier process wrote and did not mark any more.
        self._written = stream.produced - tape.mark.produced
        self._over = threading.Event()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        self._pass(self._masking.feed(self._tape.rest()))
        while True:
            over = self._over.is_set()
            events = poll.poll(0 if over else 50)
            if events and events[0][1] & select.POLLIN:
                data = self._take(over)
                self._pass(self._masking.feed(data))
                if len(data) < FEW:
                    self._over.wait(GATHER)
            elif over:
                self._pass(self._masking.finish())
                return
            elif events:
                self._over.wait(0.05)

    def finish(self) -> None:
        """Take what is in the pipe now, and stop; whoever still holds the pipe is not waited for."""
        self._over.set()
        self.join()

    def _take(self, over: bool) -> bytes:
        try:
            return self._tape.take(self._pipe)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        # Who fills the machine's memory waits; at the end there is no successor to think of.
        if over:
            return os.read(self._pipe, TAKEN)
        self._over.wait(0.5)
        return b""

    def _pass(self, data: bytes) -> None:
        """Write what the spool has not, then mark it."""
        again = min(self._written, len(data))
        self._written -= again
        self._stream.write(data[again:])
        self.dialect.feed(data[again:])
        masking, produced = self._masking, self._stream.produced - self._written
        self._tape.done(Mark(self._tape.end - masking.held, masking.hidden, masking.column, produced))
