"""Take a bucket over for this store, adopt the machines of its runs, and archive the logs of other machines.

A store that was restored from a backup does not have the machines that were launched after the backup. A machine is
adopted if the store has its run. Other machines run until their own end, and then their logs are archived.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from provisioner.core.cloud.machines import ENDING
from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import result_key, work_key
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.run import launch_answers as answers
from provisioner.core.run.machines.messages import CLOCK_SKEW, LONGEST_LIFE, Period
from provisioner.core.run.records import KnownMachine
from provisioner.service.control_loop.archive import EMPTYING, Archive
from provisioner.service.control_loop.launch_sites import LaunchSites
from provisioner.service.control_loop.mailboxes import read_result
from provisioner.service.control_loop.ownership import take
from provisioner.service.installation import Installation

#: Key of the stored list of mailboxes that are still to be archived after a takeover.
ORPHANS = "orphaned mailboxes"
#: Maximum number of calls of Archive.copy in one sweep: one for a short log, one for each step of a long log. The next
#: sweep copies the rest.
STEPS = 40


class Takeover:
    def __init__(self, installation: Installation, sites: LaunchSites) -> None:
        self._installation = installation
        self._sites = sites
        self._archive = Archive(installation)

    def take(self) -> Sequence[str]:
        """Take the bucket over for this store; return a text for each mailbox whose machine the store did not know."""
        take(self._installation)
        boxes = {entry.key.split("/")[1] for entry in self._installation.bucket.list("machines/")}
        instances = {box: box.rpartition(":")[2] for box in boxes}
        known = {machine.id for machine in self._installation.store.machines(list(instances.values()))}
        unknown = {box for box in boxes if instances[box] not in known}
        adopted = self._adopt(unknown)
        return [*adopted.values(), *self._keep(unknown - adopted.keys())]

    def _adopt(self, boxes: Collection[str]) -> Mapping[str, str]:
        """Adopt the live machines of these mailboxes that work for runs of this store; return a text by mailbox."""
        if not boxes:
            return {}
        installation, store = self._installation, self._installation.store
        living = {each.id: each for each in installation.cloud.machines().machines if each.state not in ENDING}
        lease, found = store.lease(), defaultdict[tuple[str, int], list[answers.Found]](list)
        for box in sorted(boxes):
            machine, work = living.get(box.rpartition(":")[2]), installation.bucket.get(work_key(box))
            if machine is None or work is None:
                continue
            try:
                order = decode(WorkOrder, work)
            except Invalid:
                continue
            price, now = self._sites.price(machine.offer), installation.clock.now()
            fresh = KnownMachine(machine.id, machine.launch, machine.offer, bound_at=now, price=price)
            found[order.run, order.attempt].append(answers.Found(order.rank, fresh, box))
        adopted = dict[str, str]()
        for (name, attempt), ranks in sorted(found.items()):
            run, now = store.run(name), installation.clock.now()
            if run is None:
                continue
            records = answers.adopted(run, store.nodes(run.id), attempt, ranks, lease.epoch if lease else 0, now)
            if records:
                installation.save(records)
                for each in ranks:
                    text = f"{each.machine.id}: adopted; it executes attempt {attempt} of run {run.id[:12]}"
                    adopted[each.box] = text
        return adopted

    def sweep(self) -> Sequence[str]:
        """Archive the orphaned mailboxes whose machines have finished. Without orphaned mailboxes, make no call."""
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
                result = read_result(bucket, result_key(box), Period(now - LONGEST_LIFE, now + CLOCK_SKEW))
                if work is None or result is None:
                    waiting.append(box)
                    told.append(f"{instance}: no result yet, or it ended without one; its log is in machines/{box}/")
                    continue
                # Take the run of the log from the work order, because a machine cannot write its work order.
                order = decode(WorkOrder, work)
            except Invalid as error:
                told.append(f"{instance}: {error}; its log stays in machines/{box}/")
                continue
            copied = None
            while copied is None and steps:
                copied = self._archive.copy(box, order.run, order.attempt, order.rank, "", result, None)
                steps -= 1
            if copied is None or not self._archive.empty(box, self._installation.clock.elapsed() + EMPTYING):
                waiting.append(box)
                told.append(f"{instance}: run {order.run[:12]} {result.outcome}, its log is being copied")
                continue
            told.append(f"{instance}: run {order.run[:12]} {result.outcome}, its log is in runs/{order.run}/")
        self._installation.store.remember(ORPHANS, json.dumps(waiting), self._installation.clock.now())
        return told
