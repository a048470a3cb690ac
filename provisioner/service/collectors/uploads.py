"""Delete uploads that no run uses, and parts of uploads that were never stored, when they are 24 h old.

An installation without uploads makes no call. Otherwise at most once an hour, by all processes together, a bounded
number of uploads is deleted, and a bounded part of the bucket's listing is compared with the store.
"""

import math
from itertools import islice

from provisioner.core.commands.uploads import PARTS, Upload, part_key, upload_of
from provisioner.ports.bucket import Bucket
from provisioner.ports.store import Store
from provisioner.service.installation import Installation

#: Key of the last key that was listed, stored at the time of the last sweep; "" begins the listing again.
KEY = "uploads"
#: Seconds between two sweeps.
EVERY = 3600.0
#: Seconds after which an upload without a run, and a part without a record, are deleted.
KEPT = 24 * 3600.0
#: Maximum number of uploads and of their parts that a sweep deletes, and of parts that it lists.
UPLOADS_MOST, DELETED_MOST, LISTED_MOST = 200, 5000, 5000


def expect(store: Store, now: float) -> None:
    """Let later sweeps list the parts; for use before the first part of an upload is put."""
    if store.remembered(KEY) is None:
        store.remember(KEY, "", now)


def drop(store: Store, bucket: Bucket, upload: Upload) -> None:
    """Delete an upload, unless a run uses it. After a crash, its parts are deleted as those without a record."""
    if store.drop_upload(upload.id):
        bucket.delete([part_key(upload.id, number) for number in range(len(upload.parts))])


class UploadCollector:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        #: Monotonic time before which there is no other sweep.
        self._next_at = -math.inf

    def collect(self) -> None:
        """Make a sweep if it is due."""
        store, elapsed = self._installation.store, self._installation.clock.elapsed()
        if elapsed < self._next_at:
            return
        now, noted = self._installation.now(), store.remembered(KEY)
        since = now - noted[1] if noted else 0.0
        self._next_at = elapsed + EVERY - (since if 0 < since < EVERY else 0.0)
        if noted and not 0 <= since < EVERY:
            store.remember(KEY, self._sweep(noted[0], now - KEPT), now)

    def _sweep(self, after: str, before: float) -> str:
        """Delete unused uploads older than a time; return the key after which the next sweep lists parts."""
        store, bucket = self._installation.store, self._installation.bucket
        left = DELETED_MOST
        for upload in store.unused_uploads(before, UPLOADS_MOST):
            if left > 0:
                drop(store, bucket, upload)
                left -= len(upload.parts)
        listed = list(islice(bucket.list(PARTS, after=after), LISTED_MOST))
        # No upload takes as long: if such a part has no record, it never gets one.
        old = [entry.key for entry in listed if entry.modified < before]
        unknown = {id for id in set(map(upload_of, old)) if store.upload(id) is None}
        bucket.delete([key for key in old if upload_of(key) in unknown])
        return listed[-1].key if len(listed) == LISTED_MOST else ""
