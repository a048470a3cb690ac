"""Read and write the machine's mailbox in the bucket. Writes are retried without end, except those of reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from provisioner.agent.aws.client import S3, ServiceError
from provisioner.agent.aws.http import NoAnswer
from provisioner.agent.machine.paths import Settings
from provisioner.core.protocol import codec, keys
from provisioner.core.protocol.messages import Chunk, Orders, Peers, Report, Result, Started, WorkOrder
from provisioner.core.protocol.words import RECORDS

#: S3's codes for a key that does not exist: AccessDenied (status 403) if the role may not ListBucket (S3 API reference,
#: GetObject).
ABSENT = frozenset({"AccessDenied", "NoSuchKey"})

#: An error of a request to the bucket.
Trouble = NoAnswer | ServiceError


class Mailbox:
    def __init__(self, settings: Settings, instance_id: str, say: Callable[[str], None], later: int = 0) -> None:
        """`later` is the attempt in the keys of messages; 0 for the machine's first attempt."""
        self._prefix = settings.prefix
        self._box = keys.mailbox(settings.role_id, instance_id)
        self._later = later
        self._say = say
        self._said = ""
        #: Whether S3 has answered a read: with an object, that there is none, or that S3 itself is in trouble.
        self.reached = False
        #: The error of the last read that failed, and of the last report; None if there was none.
        self.trouble: Trouble | None = None
        self.unsent: Trouble | None = None
        self._s3 = S3(settings.bucket, settings.region)

    def work(self) -> WorkOrder | None:
        return self.later_work(self._later)

    def later_work(self, later: int) -> WorkOrder | None:
        """Return the work order of a later attempt, or None."""
        data = self._get(keys.work_key(self._box, later))
        return None if data is None else codec.decode(WorkOrder, data)

    def peers(self) -> Peers | None:
        data = self._get(keys.peers_key(self._box))
        return None if data is None else codec.decode(Peers, data)

    def orders(self) -> Orders | None:
        data = self._get(keys.orders_key(self._box))
        return None if data is None else codec.decode(Orders, data)

    def batch(self, number: int) -> bytes | None:
        """Return the batch of commands with that number, as `encode_batch` made it, or None."""
        return self._get(keys.batch_key(self._box, number))

    def report(self, report: Report) -> bool:
        """Put the report and return whether that succeeded. It is not retried: the next report replaces it."""
        try:
            self._s3.put(self._prefix + keys.report_key(self._box, report.sequence), codec.encode(report))
        except (NoAnswer, ServiceError) as error:
            self.unsent = _bare(error)
            print(f"a report was lost: {error}", file=sys.stderr, flush=True)
            return False
        self.unsent = None
        return True

    def started(self) -> Started | None:
        data = self._get(keys.started_key(self._box, self._later))
        return None if data is None else codec.decode(Started, data)

    def start(self, started: Started) -> Started:
        """Put the `started` mark unless the mailbox has one, and return the mark that the mailbox has now.

        Only the agent process that this mark names executes the command.
        """
        if self._put_once(keys.started_key(self._box, self._later), codec.encode(started)):
            return started
        while (standing := self.started()) is None:
            time.sleep(1)
        return standing

    def result(self, result: Result) -> None:
        """Put the result, unless there is one. When this returns, the mailbox has a result."""
        self._put_once(keys.result_key(self._box, self._later), codec.encode(result))

    def wait(self) -> bool:
        """Put the mark that this machine can wait for a later work order; return False if its role may not, or fails.

        A role with the rights of an earlier version may write only the keys of a machine's first attempt.
        """
        try:
            self._s3.put(self._prefix + keys.waits_key(self._box), b"")
        except (NoAnswer, ServiceError) as error:
            print(f"this machine waits for no later work order: {error}", file=sys.stderr, flush=True)
            return False
        return True

    def chunk(self, stream: str, chunk: Chunk, data: bytes) -> None:
        """Put a chunk. When this returns, the bucket has verified the bytes by their checksum."""
        if stream == RECORDS:
            key = self._prefix + keys.records_key(self._box, chunk.offset)
        else:
            key = self._prefix + keys.chunk_key(self._box, stream, chunk.offset, self._later)

        def put() -> bool:
            self._s3.put(key, data, chunk.sha256)
            return True

        self._insist(put, f"a chunk of {stream}")

    def _put_once(self, key: str, data: bytes) -> bool:
        """Put an object; return False if the key exists, perhaps from an earlier try whose response was lost."""

        def put() -> bool:
            try:
                self._s3.put(self._prefix + key, data, once=True)
            except ServiceError as error:
                if error.status == 412:
                    return False
                raise
            return True

        return self._insist(put, key.rpartition("/")[2])

    def _insist(self, put: Callable[[], bool], what: str) -> bool:
        pause = 1.0
        while True:
            try:
                return put()
            except (NoAnswer, ServiceError) as error:
                # Print to the console, not to the log: the log cannot be shipped now either.
                print(
                    f"{what} cannot be put, again in {pause:.0f} s: {error}",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(pause)
            pause = min(30.0, pause * 2)

    def _get(self, key: str) -> bytes | None:
        try:
            data = self._s3.get(self._prefix + key)
        except (NoAnswer, ServiceError) as error:
            absent = isinstance(error, ServiceError) and error.code in ABSENT
            self.reached |= absent or (isinstance(error, ServiceError) and error.status >= 500)
            if not absent:
                self.trouble = _bare(error)
            words = "" if absent else f"{key.rpartition('/')[2]} cannot be read: {error}"
        else:
            self.reached = True
            return data
        # The same error may last for hours, so it is logged once.
        if words not in ("", self._said):
            self._say(words)
        self._said = words or self._said
        return None


def _bare(error: Trouble) -> Trouble:
    """Return the error, and its cause, without tracebacks: these would keep connections alive."""
    if error.__cause__ is not None:
        error.__cause__.__traceback__ = error.__cause__.__context__ = None
    error.__context__ = None
    return error.with_traceback(None)
