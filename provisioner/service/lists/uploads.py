"""Store uploaded lists of commands within the rights of one caller: the parts in the bucket, then the record."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from provisioner.core.access.callers import Caller
from provisioner.core.access.owner_limits import UNLIMITED, Usage
from provisioner.core.commands.uploads import Upload, part_key
from provisioner.core.errors import CloudError, Failed, Forbidden
from provisioner.core.run.lists.uploading import cut
from provisioner.core.run.records import Record
from provisioner.core.views.upload import Upload as View
from provisioner.ports.bucket import Bucket
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.pool import Pool
from provisioner.ports.store import Store
from provisioner.service.collectors.uploads import drop, expect
from provisioner.service.installation import Policy
from provisioner.service.recorder import Recorder

T = TypeVar("T")

#: Maximum number of parts that are in memory, and put at the same time.
TOGETHER = 4
#: Maximum number of seconds that an upload takes. Parts without a record are deleted when they are older than 24 h.
LONGEST = 4 * 3600.0


class Uploads:
    """The implementation of provisioner.ports.control.uploads.Uploads."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        pool: Pool,
        recorder: Recorder,
        clock: Clock,
        ids: Ids,
        policy: Policy,
        caller: Caller,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._pool = pool
        self._recorder = recorder
        self._clock = clock
        self._ids = ids
        self._limits = UNLIMITED if caller.admin else policy.limits
        self._caller = caller

    def add(self, lines: Iterable[bytes], owner: str = "", *, null: bool = False) -> View:
        return view(self.record(lines, owner or self._caller.owner, null=null))

    def record(self, lines: Iterable[bytes], owner: str, *, null: bool = False) -> Upload:
        """Store the list as `add` does, and return its record."""
        if not self._caller.may(owner):
            own = ", ".join(self._caller.owners)
            raise Forbidden(f"you may not upload for {owner}; your token has the owners {own}")
        expect(self._store, self._clock.now())
        id, put = self._ids.new(), list[str]()
        try:
            upload = self._put(id, cut(self._timely(lines), null=null), owner, put)
            audit = self._recorder.audit(self._caller, "upload", owner, id)
            records: list[Record] = [upload, audit]
            self._recorder.save(records, limits=self._limits)
        except BaseException:
            # Without the rights or the network for it, the parts are deleted later, because they have no record.
            with contextlib.suppress(CloudError):
                self._bucket.delete(put)
            raise
        return upload

    def _put(self, id: str, found: Iterator[tuple[int, bytes]], owner: str, put: list[str]) -> Upload:
        """Put the parts and return the upload, not stored yet. `put` gets the keys of all parts that may exist."""
        now = self._clock.now()
        firsts, total, size, longest, digest = list[int](), 0, 0, 0, hashlib.sha256()
        for parts in _groups(found, TOGETHER):
            first = len(firsts)
            for count, data in parts:
                firsts.append(total)
                total, size = total + count, size + len(data)
                longest = max(longest, *map(len, data.split(b"\0")))
                digest.update(data)
            # The record is checked again when it is saved; here an upload ends that can never be saved.
            self._limits.check(owner, Usage(0, 0), Usage(0, size))
            keys = [part_key(id, number) for number in range(first, len(firsts))]
            put += keys
            pairs = zip(keys, (data for _, data in parts), strict=True)
            for answer in self._pool.map(lambda pair: self._bucket.put(*pair), pairs):
                if isinstance(answer, Exception):
                    raise answer
        return Upload(id, owner, now, total, size, tuple(firsts), digest.hexdigest(), longest)

    def _timely(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        end = self._clock.elapsed() + LONGEST
        for piece in lines:
            if self._clock.elapsed() > end:
                raise Failed(f"the upload took more than {LONGEST / 3600:.0f} h: upload a shorter list")
            yield piece

    def drop(self, upload: Upload) -> None:
        """Delete an upload, unless a run uses it."""
        drop(self._store, self._bucket, upload)


def view(upload: Upload) -> View:
    return View(upload.id, upload.total, upload.size)


def _groups(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group
