"""From mailbox to archive: logs copied inside the store, verified, and what is missing is said.

A machine may put any number of chunks, so a log is copied in steps, a few of them in each pass. How far
a copy has come is known in memory only: a new process begins it again, and a repeated copy changes nothing.
"""

from array import array
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

from provisioner.core import archive
from provisioner.core.machine_messages import CHUNK_MOST, CHUNKS_MOST, RESULT_MOST
from provisioner.core.receipt import Receipt, receipt
from provisioner.core.record import Held, Record, Run
from provisioner.core.work import STREAMS, Report, Result, chunk_key, encode, log_prefix, result_key
from provisioner.service.installation import Installation

#: Objects that are listed or deleted by one call, as S3 has it, and copies that are made at once.
PAGE, COPIES = 1000, 32
#: Steps of a log in its first pass: the three streams of a short log take six. Longer logs share COPYING seconds
#: of each later pass.
FIRST_STEPS = 8
COPYING = 0.25


class Copying:
    """The copy of one mailbox's log, a step at a time; a step that raised may be repeated."""

    def __init__(self, installation: Installation, box: str, run: str, attempt: int, rank: int) -> None:
        self._installation = installation
        self._box, self._node = box, (run, attempt, rank)
        self._streams = list(STREAMS)
        #: Of the first of these streams: the key behind which the next page begins, how many objects were listed,
        #: whether that was the last page, and which chunks of it are not copied yet.
        self._after, self._seen, self._listed = "", 0, False
        self._page: list[tuple[int, int]] = []
        #: By stream: offset and size of each copied chunk in turn, which takes 16 bytes a chunk.
        self._copied = {stream: array("q") for stream in STREAMS}

    def step(self) -> bool:
        """List a page of chunks, or copy some of those listed; whether there is more to do."""
        stream = self._streams[0]
        if not self._page:
            self._list(stream)
        else:
            self._copy(stream, self._page[:COPIES])
            self._page = self._page[COPIES:]
        if self._listed and not self._page:
            del self._streams[0]
            self._after, self._seen, self._listed = "", 0, False
        return bool(self._streams)

    def _list(self, stream: str) -> None:
        prefix = log_prefix(self._box, stream)
        entries = list(islice(self._installation.bucket.list(prefix, after=self._after), PAGE))
        self._seen += len(entries)
        # Chunks beyond CHUNKS_MOST are left in the mailbox, and the manifest says from where on they are missing.
        self._listed = len(entries) < PAGE or self._seen >= CHUNKS_MOST
        self._after = entries[-1].key if entries else ""
        self._page = [
            (offset, entry.size)
            for entry in entries
            if (offset := archive.chunk_offset(entry.key, prefix)) is not None and entry.size <= CHUNK_MOST
        ]

    def _copy(self, stream: str, chunks: Sequence[tuple[int, int]]) -> None:
        pairs = [
            (chunk_key(self._box, stream, offset), archive.kept_chunk_key(*self._node, stream, offset))
            for offset, _ in chunks
        ]
        for failure in self._installation.pool.map(lambda pair: self._installation.bucket.copy(*pair), pairs):
            if isinstance(failure, Exception):
                raise failure
        for chunk in chunks:
            self._copied[stream].extend(chunk)

    def chunks(self) -> dict[str, list[tuple[int, int]]]:
        """Offset and size of every chunk that was copied, by stream."""
        return {stream: list(zip(flat[::2], flat[1::2], strict=True)) for stream, flat in self._copied.items()}


class Archive:
    """Keeps what a run leaves behind; every step may be repeated."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: By mailbox, the copies that one pass did not finish; the one that has waited longest is first.
        self._copying: dict[str, Copying] = {}

    def keep(self, run: Run, held: Held, steps: int = FIRST_STEPS) -> Sequence[Record]:
        """Copy the node's log and result, or the next `steps` of it; empty while there is more to copy.

        Returns the node, archived, and events for its run's story.
        """
        node = held.node
        manifest = self.copy(node.box, node.run, node.attempt, node.rank, node.result, node.report, steps)
        if manifest is None:
            return ()
        if held.machine.console:
            key = archive.console_key(node.run, node.attempt, node.rank)
            self._installation.bucket.put(key, held.machine.console.encode())
        kept = replace(node, archived_at=self._installation.now())
        events = [
            self._installation.event(
                run,
                f"log incomplete: attempt {node.attempt}, {stream}, from byte {part.missing_from}",
                attempt=node.attempt,
                instance_id=node.instance_id,
            )
            for stream, part in manifest.streams.items()
            if part.missing_from is not None
        ]
        return [kept, *events]

    def unfinished(self, boxes: Collection[str]) -> list[str]:
        """Those of these mailboxes whose copy has begun, the longest waiting first; other copies are forgotten."""
        self._copying = {box: copying for box, copying in self._copying.items() if box in boxes}
        return list(self._copying)

    def copy(
        self, box: str, run: str, attempt: int, rank: int, result: Result | None, report: Report | None, steps: int
    ) -> archive.Manifest | None:
        """Copy one mailbox's log in at most so many steps; then its result and manifest. None while there is more."""
        bucket = self._installation.bucket
        copying = self._copying.pop(box, None) or Copying(self._installation, box, run, attempt, rank)
        # Last in the queue from now on; a step that raises is repeated in the next pass.
        self._copying[box] = copying
        for _ in range(steps):
            if not copying.step():
                break
        else:
            return None
        del self._copying[box]
        manifest = archive.Manifest(run, attempt, rank, archive.kept_streams(copying.chunks(), result, report))
        if result:
            self._keep_result(box, archive.kept_result_key(run, attempt, rank), result)
        # The first one stands: who was held up here may find the mailbox emptied by whoever took over.
        bucket.put(archive.manifest_key(run, attempt, rank), encode(manifest), if_absent=True)
        return manifest

    def _keep_result(self, box: str, key: str, result: Result) -> None:
        """Keep the result as the machine wrote it, with every chunk's checksum; or what was made of it."""
        bucket, source = self._installation.bucket, result_key(box)
        sizes = [entry.size for entry in bucket.list(source) if entry.key == source]
        if sizes and sizes[0] <= RESULT_MOST:
            bucket.copy(source, key)
        else:
            bucket.put(key, encode(result))

    def finish(self, run: Run, held: Sequence[Held], until: float) -> bool:
        """Store the receipt, then empty the mailboxes; False where some are not empty by `until`."""
        bucket = self._installation.bucket
        told = bill(self._installation, run, held)
        bucket.put(archive.receipt_key(run.id), encode(told))
        if not all(self.empty(each.node.box, until) for each in held):
            return False
        self._installation.meter.ended(told)
        return True

    def empty(self, box: str, until: float) -> bool:
        """Delete all objects of the inbox and the mailbox, at least a page and more until then; whether none is left.

        Nothing else knows of them any more.
        """
        bucket = self._installation.bucket
        # The mailbox last, and in it the result behind the log: whoever goes on with this finds the result still there.
        for prefix in (f"inbox/{box}/", f"machines/{box}/"):
            while keys := [entry.key for entry in islice(bucket.list(prefix), PAGE)]:
                bucket.delete(keys)
                if len(keys) < PAGE:
                    break
                if self._installation.clock.elapsed() >= until:
                    return False
        return True


def bill(installation: Installation, run: Run, held: Sequence[Held]) -> Receipt:
    """The run's receipt: final when it is done, else as far as it is known now."""
    ids = {each.node.launch for each in held} | ({run.launch} if run.launch else set())
    launches = {id: launch for id in sorted(ids) if (launch := installation.store.launch(id))}
    return receipt(run, held, launches, run.done_at if run.done_at is not None else installation.clock.now())
