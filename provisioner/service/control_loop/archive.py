"""Copy logs and results from a mailbox to the archive, verify the logs, and report missing parts.

A short log is copied in one pass. A long log is copied in steps, in each pass and between passes, so that its copy
delays no other run.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice

from provisioner.core.cost.receipt import Receipt, receipt
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import log_folder, result_key
from provisioner.core.protocol.messages import Report, Result
from provisioner.core.run import story
from provisioner.core.run.machines.messages import RESULT_MOST
from provisioner.core.run.records import Assignment, Record, Run
from provisioner.core.run.work_order import recipe_of
from provisioner.ports.store import Store
from provisioner.service.control_loop.log_copies import PAGE, Copying, LongLogs
from provisioner.service.control_loop.log_indexes import LogIndexes
from provisioner.service.installation import Installation

#: Maximum number of seconds for which one pass empties mailboxes.
EMPTYING = 0.1


class Archive:
    """Archives the logs, results and receipts of runs; every step may be repeated."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._long = LongLogs()
        self._indexes = LogIndexes(installation)

    def keep(self, run: Run, held: Assignment) -> Sequence[Record]:
        """Copy the node's log, or one step of a long log, and then its result.

        Returns the archived node and events for the run's story, or an empty sequence if more steps are needed.
        """
        node = held.node
        manifest = self.copy(
            node.box, node.run, node.attempt, node.rank, run.owner, node.result, node.report, node.later
        )
        if manifest is None:
            return ()
        if held.machine.console:
            key = archive.console_key(node.run, node.attempt, node.rank)
            self._installation.bucket.put(key, held.machine.console.encode())
        now = self._installation.now()
        self._indexes.add(replace(node, archived_at=now), manifest)
        events = [
            story.log_incomplete(run, node, stream, part.missing_from, now)
            for stream, part in manifest.streams.items()
            if part.missing_from is not None
        ]
        return [replace(node, archived_at=now), *events]

    def unfinished(self, folders: Collection[str]) -> list[str]:
        """Return the folders of logs whose copy needs more steps, the next one first; drop copies not in `folders`."""
        self._long.keep_only(folders)
        return self._long.incomplete()

    def proceed(self) -> bool:
        """Make the next step of the long logs; return False if no copy needs a step.

        When a copy is complete, the next call of `keep` stores its manifest. Raises the errors of the bucket.
        """
        for folder in self._long.incomplete()[:1]:
            if copying := self._long.get(folder):
                self._long.step(folder, copying)
                return True
        return False

    def index(self) -> bool:
        """Make the next step of an index of an archived log; return False if none waits."""
        return self._indexes.step()

    def copy(
        self,
        box: str,
        run: str,
        attempt: int,
        rank: int,
        owner: str,
        result: Result | None,
        report: Report | None,
        later: int = 0,
    ) -> archive.Manifest | None:
        """Copy the log of an owner's mailbox, then its result; store and return the manifest.

        Of a long log, make one step; return None if more steps are needed. `later` is as in `work_key`.
        """
        bucket, folder = self._installation.bucket, log_folder(box, later)
        kept = bucket.get(archive.manifest_key(run, attempt, rank))
        if kept is not None:
            # An earlier pass has copied the whole log, but the records of that pass were not saved.
            self._long.remove(folder)
            return decode(archive.Manifest, kept)
        copying = self._long.get(folder) or Copying(self._installation, folder, run, attempt, rank, owner)
        while not copying.complete:
            self._long.step(folder, copying)
            if copying.long:
                self._long.add(folder, copying)
                return None
        self._long.remove(folder)
        manifest = archive.Manifest(run, attempt, rank, archive.kept_streams(copying.chunks(), result, report))
        if result:
            self._keep_result(result_key(box, later), archive.kept_result_key(run, attempt, rank), result)
        # Keep an existing manifest: if this process was delayed, another process may have emptied the mailbox.
        bucket.put(archive.manifest_key(run, attempt, rank), encode(manifest), if_absent=True)
        return manifest

    def _keep_result(self, source: str, key: str, result: Result) -> None:
        """Copy the result unchanged, with the checksums of all chunks; if it is too large, store the decoded result."""
        bucket = self._installation.bucket
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
        boxes = sorted({each.node.box for each in held})
        emptied = self._installation.pool.map(lambda box: self.empty(box, until), boxes)
        for failure in emptied:
            if isinstance(failure, Exception):
                raise failure
        if not all(emptied):
            return None
        self._installation.meter.ended(told)
        return told

    def empty(self, box: str, until: float) -> bool:
        """Delete the objects of the inbox and the mailbox: one page, and more pages until the monotonic time `until`.

        Returns whether no object is left. Call this only when no stored record needs the objects any more.
        """
        bucket = self._installation.bucket
        # The result and the work order sort after the log: a process that continues this deletion mostly finds both.
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
    recipe = recipe_of(run)
    found = receipt(run, held, launches, run.done_at if run.done_at is not None else now)
    return replace(found, cost_limit=recipe.spec.limits.cost if recipe else None)
