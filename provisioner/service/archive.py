"""From mailbox to archive: logs copied inside the store, verified, and what is missing is said."""

from collections.abc import Sequence
from dataclasses import replace

from provisioner.core import archive
from provisioner.core.receipt import Receipt, receipt
from provisioner.core.record import Held, Record, Run
from provisioner.core.work import STREAMS, Report, Result, chunk_key, encode, log_prefix
from provisioner.service.installation import Installation


class Archive:
    """Keeps what a run leaves behind; every step may be repeated."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def keep(self, run: Run, held: Held) -> Sequence[Record]:
        """Copy the node's log and result: the node, archived, and what its run's story must say of that."""
        node = held.node
        manifest = self.copy(node.box, node.run, node.attempt, node.rank, node.result, node.report)
        if held.machine.console:
            key = archive.console_key(node.run, node.attempt, node.rank)
            self._installation.bucket.put(key, held.machine.console.encode())
        kept = replace(node, archived_at=self._installation.clock.now())
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

    def copy(
        self, box: str, run: str, attempt: int, rank: int, result: Result | None, report: Report | None
    ) -> archive.Manifest:
        """Copy one mailbox's log, result and manifest to the run's place in the archive."""
        bucket = self._installation.bucket
        listed = {
            stream: [
                (offset, entry.size)
                for entry in bucket.list(log_prefix(box, stream))
                if (offset := archive.chunk_offset(entry.key, log_prefix(box, stream))) is not None
            ]
            for stream in STREAMS
        }
        manifest = archive.Manifest(run, attempt, rank, archive.kept_streams(listed, result, report))
        pairs = [
            (chunk_key(box, stream, offset), archive.kept_chunk_key(run, attempt, rank, stream, offset))
            for stream, kept in manifest.streams.items()
            for offset, *_ in kept.chunks
        ]
        for failure in self._installation.pool.map(lambda pair: bucket.copy(*pair), pairs):
            if isinstance(failure, Exception):
                raise failure
        if result:
            bucket.put(archive.kept_result_key(run, attempt, rank), encode(result))
        # The first one stands: who was held up here may find the mailbox emptied by whoever took over.
        bucket.put(archive.manifest_key(run, attempt, rank), encode(manifest), if_absent=True)
        return manifest

    def finish(self, run: Run, held: Sequence[Held]) -> None:
        """Store the receipt, then empty the mailboxes: nothing else knows of them any more."""
        bucket = self._installation.bucket
        told = bill(self._installation, run, held)
        bucket.put(archive.receipt_key(run.id), encode(told))
        for each in held:
            self.empty(each.node.box)
        self._installation.meter.ended(told)

    def empty(self, box: str) -> None:
        bucket = self._installation.bucket
        bucket.delete([entry.key for prefix in (f"machines/{box}/", f"inbox/{box}/") for entry in bucket.list(prefix)])


def bill(installation: Installation, run: Run, held: Sequence[Held]) -> Receipt:
    """The run's receipt: final when it is done, else as far as it is known now."""
    ids = {each.node.launch for each in held} | ({run.launch} if run.launch else set())
    launches = {id: launch for id in sorted(ids) if (launch := installation.store.launch(id))}
    return receipt(run, held, launches, run.done_at if run.done_at is not None else installation.clock.now())
