"""Move the job's output from a pipe into the spool."""

from __future__ import annotations

import errno
import os
import select
import threading

from provisioner.agent.job.shell_dialect import Dialect
from provisioner.agent.logs import mask
from provisioner.agent.logs.pipe_journal import TAKEN, Mark, PipeJournal
from provisioner.agent.logs.spool import Stream

#: After a read of fewer than FEW bytes, the next read waits for GATHER seconds: otherwise a job that writes in small
#: pieces would wake the agent for each piece.
FEW, GATHER = 1 << 16, 0.005


class Pump(threading.Thread):
    """Moves bytes from a pipe into a stream and masks them. While the stream's spool is full, the job waits.

    If an earlier agent process died, the journal has the bytes that the dead process took from the pipe, and the pump
    continues from the journal.
    """

    def __init__(
        self, pipe: int, stream: Stream, secrets: mask.Mask, journal: PipeJournal, dialect: Dialect | None = None
    ) -> None:
        super().__init__(name=f"pump {stream.name}", daemon=True)
        self._pipe = pipe
        self._stream = stream
        self._journal = journal
        #: Gets a copy of the masked output.
        self.dialect = dialect or Dialect(b"sh")
        self._masking = mask.Stream(secrets, journal.mark.hidden, journal.mark.column)
        stream.forward(journal.mark.produced)
        #: Bytes that the earlier process wrote to the spool after its last mark.
        self._written = stream.produced - journal.mark.produced
        self._over = threading.Event()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        self._pass(self._masking.feed(self._journal.rest()))
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
        """Take the bytes that are in the pipe now, and stop, even if other processes still have the pipe open."""
        self._over.set()
        self.join()

    def _take(self, over: bool) -> bytes:
        try:
            return self._journal.take(self._pipe)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        # The machine's memory is full, so the job must wait. After the job's end the bytes may bypass the journal,
        # because no later agent process needs it.
        if over:
            return os.read(self._pipe, TAKEN)
        self._over.wait(0.5)
        return b""

    def _pass(self, data: bytes) -> None:
        """Write the bytes that the spool does not have yet, and move the journal's mark past them."""
        again = min(self._written, len(data))
        self._written -= again
        self._stream.write(data[again:])
        self.dialect.feed(data[again:])
        masking, produced = self._masking, self._stream.produced - self._written
        self._journal.done(Mark(self._journal.end - masking.held, masking.hidden, masking.column, produced))
