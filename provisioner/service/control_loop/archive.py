"""Copy logs and results from a mailbox to the archive, verify the logs, and report missing parts.

A log may have any number of chunks, so it is copied in steps. A short log takes one pass. A long log gets one step in
each pass and further steps between passes, so that its copy delays no other run. The progress of a copy is only in
memory: a new process lists the chunks of a long log that are in the archive, and copies the other chunks.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

from provisioner.core.cost.receipt import Receipt, receipt
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import chunk_key, log_prefix, result_key
from provisioner.core.protocol.messages import Report, Result
from provisioner.core.protocol.words import STREAMS
from provisioner.core.run import story
from provisioner.core.run.machine_messages import CHUNK_MOST, CHUNKS_MOST, RESULT_MOST
from provisioner.core.run.records import Assignment, Record, Run
from provisioner.ports.bucket import Entry
from provisioner.ports.store import Store
from provisioner.service.installation import Installation

#: Maximum number of objects that one call of S3 lists or deletes, and maximum number of chunks that one step copies. A
#: step copies its chunks concurrently: a pass that becomes due meanwhile waits only as long as one copy takes.
PAGE, COPIES = 1000, 8
#: Maximum number of seconds for which one pass empties mailboxes.
EMPTYING = 0.1


class Copying:
    """Copies one mailbox's log, one step at a time; a step that raised an error may be repeated."""

    def __init__(self, installation: Installation, box: str, run: str, attempt: int, rank: int) -> None:
        self._installation = installation
        self._box, self._node = box, (run, attempt, rank)
        self._streams = list(STREAMS)
        #: State of the present stream, the first of `_streams`: the key after which the next page begins, the number of
        #: listed objects, and whether the last page was listed.
        self._after, self._seen, self._listed = "", 0, False
        #: The page's chunks that are not copied yet: offset, size, offset, size, … An array takes a tenth of the memory
        #: of a list of pairs, and hundreds of logs may wait for their next step.
        self._page = array("q")
        #: Offsets and sizes of the chunks of a long page that are already in the archive.
        self._kept: set[tuple[int, int]] = set()
        #: By stream: the copied chunks, as in `_page`.
        self._copied = {stream: array("q") for stream in STREAMS}

    @property
    def long(self) -> bool:
        """Whether the chunks that are listed but not copied take more than one step."""
        return len(self._page) > 2 * COPIES

    @property
    def complete(self) -> bool:
        return not self._streams

    def step(self) -> None:
        """List a page of chunks, or copy some of the listed chunks."""
        stream = self._streams[0]
        if not self._page:
            self._list(stream)
        else:
            self._copy(stream, self._page[: 2 * COPIES])
            del self._page[: 2 * COPIES]
        if self._listed and not self._page:
            del self._streams[0]
            self._after, self._seen, self._listed = "", 0, False

    def _list(self, stream: str) -> None:
        prefix, after = log_prefix(self._box, stream), self._after
        entries = list(islice(self._installation.bucket.list(prefix, after=after), PAGE))
        self._seen += len(entries)
        # Chunks beyond CHUNKS_MOST are not copied; the manifest has the offset from which they are missing.
        self._listed = len(entries) < PAGE or self._seen >= CHUNKS_MOST
        self._after = entries[-1].key if entries else ""
        self._page = array("q", chain.from_iterable(_chunks(entries, prefix)))
        self._kept = set()
        if self.long:
            kept = archive.kept_log_prefix(*self._node, stream)
            after = after and kept + after.removeprefix(prefix)
            self._kept = set(_chunks(islice(self._installation.bucket.list(kept, after=after), PAGE), kept))

    def _copy(self, stream: str, chunks: "array[int]") -> None:
        pairs = [
            (chunk_key(self._box, stream, offset), archive.kept_chunk_key(*self._node, stream, offset))
            for offset, size in _pairs(chunks)
            if (offset, size) not in self._kept
        ]
        for failure in self._installation.pool.map(lambda pair: self._installation.bucket.copy(*pair), pairs):
            if isinstance(failure, Exception):
                raise failure
        self._copied[stream].extend(chunks)

    def chunks(self) -> dict[str, list[tuple[int, int]]]:
        """Return the offset and size of every copied chunk, by stream."""
        return {stream: list(_pairs(chunks)) for stream, chunks in self._copied.items()}


def _pairs(flat: "array[int]") -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _chunks(entries: Iterable[Entry], prefix: str) -> list[tuple[int, int]]:
    """Return the offset and size of each object that is a chunk."""
    return [
        (offset, entry.size)
        for entry in entries
        if (offset := archive.chunk_offset(entry.key, prefix)) is not None and entry.size <= CHUNK_MOST
    ]


class Archive:
    """Archives the logs, results and receipts of runs; every step may be repeated."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Copies by mailbox; the copy that has waited longest for its next step comes first.
        self._copying: dict[str, Copying] = {}

    def keep(self, run: Run, held: Assignment) -> Sequence[Record]:
        """Copy the node's log, or one step of a long log, and then its result.

        Returns the archived node and events for the run's story, or an empty sequence if more steps are needed.
        """
        node = held.node
        manifest = self.copy(node.box, node.run, node.attempt, node.rank, node.result, node.report)
        if manifest is None:
            return ()
        if held.machine.console:
            key = archive.console_key(node.run, node.attempt, node.rank)
            self._installation.bucket.put(key, held.machine.console.encode())
        now = self._installation.now()
        events = [
            story.log_incomplete(run, node, stream, part.missing_from, now)
            for stream, part in manifest.streams.items()
            if part.missing_from is not None
        ]
        return [replace(node, archived_at=now), *events]

    def unfinished(self, boxes: Collection[str]) -> list[str]:
        """Return the mailboxes whose copy needs more steps, the longest waiting first; drop copies not in `boxes`."""
        self._copying = {box: copying for box, copying in self._copying.items() if box in boxes}
        return [box for box, copying in self._copying.items() if not copying.complete]

    def proceed(self) -> bool:
        """Make one step of the copy that has waited longest; return False if no copy needs a step.

        When a copy is complete, the next call of `keep` stores its manifest. Raises the errors of the bucket.
        """
        for box, copying in self._copying.items():
            if not copying.complete:
                self._copying[box] = self._copying.pop(box)
                copying.step()
                return True
        return False

    def copy(
        self, box: str, run: str, attempt: int, rank: int, result: Result | None, report: Report | None
    ) -> archive.Manifest | None:
        """Copy a mailbox's log, then its result; store and return the manifest.

        Of a long log, make one step; return None if more steps are needed.
        """
        bucket = self._installation.bucket
        kept = bucket.get(archive.manifest_key(run, attempt, rank))
        if kept is not None:
            # An earlier pass has copied the whole log, but the records of that pass were not saved.
            self._copying.pop(box, None)
            return decode(archive.Manifest, kept)
        copying = self._copying.pop(box, None) or Copying(self._installation, box, run, attempt, rank)
        # Move the copy to the end of the queue. If a step raises an error, the next pass repeats it.
        self._copying[box] = copying
        while not copying.complete:
            copying.step()
            if copying.long:
                return None
        del self._copying[box]
        manifest = archive.Manifest(run, attempt, rank, archive.kept_streams(copying.chunks(), result, report))
        if result:
            self._keep_result(box, archive.kept_result_key(run, attempt, rank), result)
        # Keep an existing manifest: if this process was delayed, another process may have emptied the mailbox.
        bucket.put(archive.manifest_key(run, attempt, rank), encode(manifest), if_absent=True)
        return manifest

    def _keep_result(self, box: str, key: str, result: Result) -> None:
        """Copy the result unchanged, with the checksums of all chunks; if it is too large, store the decoded result."""
        bucket, source = self._installation.bucket, result_key(box)
        sizes = [entry.size for entry in bucket.list(source) if entry.key == source]
        if sizes and sizes[0] <= RESULT_MOST:
            bucket.copy(source, key)
        else:
            bucket.put(key, encode(result))

    def finish(self, run: Run, held: Sequence[Assignment], until: float) -> Receipt | None:
        """Store the receipt, then empty the mailboxes until the monotonic time `until`.

        Returns the receipt, or None if the mailboxes are not empty yet.
        """
        bucket = self._installation.bucket
        told = bill(self._installation.store, run, held, self._installation.clock.now())
        bucket.put(archive.receipt_key(run.id), encode(told))
        if not all(self.empty(each.node.box, until) for each in held):
            return None
        self._installation.meter.ended(told)
        return told

    def empty(self, box: str, until: float) -> bool:
        """Delete the objects of the inbox and the mailbox: one page, and more pages until the monotonic time `until`.

        Returns whether no object is left. Call this only when no stored record needs the objects any more.
        """
        bucket = self._installation.bucket
        # The result sorts last in the last prefix: a process that continues this deletion still finds it.
        for prefix in (f"inbox/{box}/", f"machines/{box}/"):
            while keys := [entry.key for entry in islice(bucket.list(prefix), PAGE)]:
                bucket.delete(keys)
                if len(keys) < PAGE:
                    break
                if self._installation.clock.elapsed() >= until:
                    return False
        return True


def bill(store: Store, run: Run, held: Sequence[Assignment], now: float) -> Receipt:
    """Return the run's receipt: the final receipt if the run is done, otherwise the receipt at `now`."""
    ids = {each.node.launch for each in held} | ({run.launch} if run.launch else set())
    launches = {id: launch for id in sorted(ids) if (launch := store.launch(id))}
    return receipt(run, held, launches, run.done_at if run.done_at is not None else now)
