"""Making a bucket this store's, and keeping what machines of a lost store leave behind."""

import json
from collections.abc import Sequence

from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import work_key
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.run.machine_messages import CLOCK_SKEW, LONGEST_LIFE, Period
from provisioner.service.control_loop.archive import EMPTYING, Archive
from provisioner.service.control_loop.mailboxes import read_result
from provisioner.service.control_loop.ownership import take
from provisioner.service.installation import Installation

#: Mailboxes whose machines had not finished when the bucket was taken over.
ORPHANS = "orphaned mailboxes"
#: Most calls of Archive.copy in one sweep: one for a short log, one for each step of a long one. The rest waits for
#: the next sweep.
STEPS = 40


class Takeover:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._archive = Archive(installation)

    def take(self) -> Sequence[str]:
        """Write our ids; archive the finished mailboxes of machines we do not know, and note the others."""
        take(self._installation)
        boxes = {entry.key.split("/")[1] for entry in self._installation.bucket.list("machines/")}
        instances = {box: box.rpartition(":")[2] for box in boxes}
        known = {machine.id for machine in self._installation.store.machines(list(instances.values()))}
        return self._keep({box for box in boxes if instances[box] not in known})

    def sweep(self) -> Sequence[str]:
        """Archive what has finished since; costs no call once nothing is waited for."""
        noted = self._installation.store.remembered(ORPHANS)
        boxes = set(json.loads(noted[0])) if noted else set()
        return self._keep(boxes) if boxes else ()

    def _keep(self, boxes: set[str]) -> Sequence[str]:
        bucket, now = self._installation.bucket, self._installation.clock.now()
        told, waiting, steps = [], [], STEPS
        for box in sorted(boxes):
            instance = box.rpartition(":")[2]
            work = bucket.get(work_key(box))
            try:
                result = read_result(bucket, box, Period(now - LONGEST_LIFE, now + CLOCK_SKEW))
                if work is None or result is None:
                    waiting.append(box)
                    told.append(
                        f"{instance}: still at work, or ended without a result; its log waits in machines/{box}/"
                    )
                    continue
                # Whose log it is, the work order says: a machine cannot write that.
                order = decode(WorkOrder, work)
            except Invalid as error:
                told.append(f"{instance}: {error}; its log stays in machines/{box}/")
                continue
            copied = None
            while copied is None and steps:
                copied = self._archive.copy(box, order.run, order.attempt, order.rank, result, None)
                steps -= 1
            if copied is None or not self._archive.empty(box, self._installation.clock.elapsed() + EMPTYING):
                waiting.append(box)
                told.append(f"{instance}: run {order.run[:12]} {result.outcome}, its log is being copied")
                continue
            told.append(f"{instance}: run {order.run[:12]} {result.outcome}, its log is in runs/{order.run}/")
        self._installation.store.remember(ORPHANS, json.dumps(waiting), self._installation.clock.now())
        return told
