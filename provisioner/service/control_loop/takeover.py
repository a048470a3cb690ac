"""Take a bucket over for this store, adopt the machines of its runs, and archive the logs of other machines.

A store that was restored from a backup does not have the machines that were launched after the backup. A machine is
adopted if the store has its run. Other machines run until their own end, and then their logs are archived.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from provisioner.core.cloud.machines import ENDING
from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import result_key, work_key
from provisioner.core.protocol.messages import Stop, WorkOrder
from provisioner.core.protocol.words import Outcome
from provisioner.core.run import launch_answers as answers
from provisioner.core.run import story
from provisioner.core.run.machines.messages import CLOCK_SKEW, LONGEST_LIFE, Period
from provisioner.core.run.records import KnownMachine, Record
from provisioner.ports.bucket import Bucket
from provisioner.service.collectors import placement_groups, uploads
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
        self._stop_lists()
        take(self._installation)
        placement_groups.expect_any(self._installation)
        uploads.expect(self._installation.store, self._installation.now())
        found = defaultdict[str, list[int]](list)
        for entry in self._installation.bucket.list("machines/"):
            box = entry.key.split("/")[1]
            found[box] += _later(entry.key, box)
        instances = {box: box.rpartition(":")[2] for box in found}
        known = {machine.id: machine for machine in self._installation.store.machines(list(instances.values()))}
        unknown = {box for box in found if instances[box] not in known}
        # The store knows the first attempt of a known machine. It may lack a later attempt.
        works = {box: [each for each in later if each or box in unknown] for box, later in found.items()}
        adopted = self._adopt({box: later for box, later in works.items() if later}, known)
        return [*adopted.values(), *self._keep(unknown - adopted.keys())]

    def _stop_lists(self) -> None:
        """Order the end of unfinished runs of lists: their machines may have run commands that this store hands out."""
        reason = (
            "the store was restored from a backup: it is not known which commands have run since; start the list again"
        )
        now = self._installation.clock.now()
        stop = Stop(Outcome.LOST, reason, now)
        for run in self._installation.store.live().runs:
            if run.commands and run.ended_at is None and not run.stop:
                stopped: list[Record] = [replace(run, stop=stop), story.stopped_by_takeover(run, now)]
                self._installation.save(stopped)

    def _adopt(self, works: Mapping[str, list[int]], known: Mapping[str, KnownMachine]) -> Mapping[str, str]:
        """Adopt the live machines that work for runs of this store; return a text by mailbox.

        `works` are the work orders in each mailbox, as `later` of `work_key`.
        """
        if not works:
            return {}
        installation, store = self._installation, self._installation.store
        living = {each.id: each for each in installation.cloud.machines().machines if each.state not in ENDING}
        lease, found = store.lease(), defaultdict[tuple[str, int], list[answers.Found]](list)
        for box, later in sorted((box, each) for box, several in works.items() for each in several):
            machine, work = living.get(box.rpartition(":")[2]), installation.bucket.get(work_key(box, later))
            if machine is None or work is None:
                continue
            try:
                order = decode(WorkOrder, work)
            except Invalid:
                continue
            now, reservation = installation.clock.now(), machine.reservation
            # A listing does not show whether the reservation is a Capacity Block, which has no price by the hour.
            price = None if reservation else self._sites.price(machine.offer)
            fresh = KnownMachine(machine.id, machine.launch, machine.offer, now, price=price, reservation=reservation)
            ours = answers.Found(order.rank, known.get(machine.id, fresh), box, reused=later > 0)
            found[order.run, order.attempt].append(ours)
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
        told, waiting, steps = [], [], iter(range(STEPS))
        for box in sorted(boxes):
            instance = box.rpartition(":")[2]
            try:
                text, kept = self._keep_logs(box, steps)
            except Invalid as error:
                told.append(f"{instance}: {error}; its log stays in machines/{box}/")
                continue
            told.append(f"{instance}: {text}")
            if not kept:
                waiting.append(box)
        self._installation.store.remember(ORPHANS, json.dumps(waiting), self._installation.clock.now())
        return told

    def _keep_logs(self, box: str, steps: Iterator[int]) -> tuple[str, bool]:
        """Archive the logs of all attempts in a mailbox, in at most these steps, then empty it.

        Returns a text, and whether the mailbox is empty. Raises Invalid.
        """
        bucket, now, text = self._installation.bucket, self._installation.clock.now(), ""
        within = Period(now - LONGEST_LIFE, now + CLOCK_SKEW)
        for later in _works(bucket, box) or [0]:
            work, result = bucket.get(work_key(box, later)), read_result(bucket, result_key(box, later), within)
            if work is None or result is None:
                return f"no result yet, or it ended without one; its log is in machines/{box}/", False
            # Take the run of the log from the work order, because a machine cannot write its work order.
            order = decode(WorkOrder, work)
            text = f"run {order.run[:12]} {result.outcome}, its log is in runs/{order.run}/"
            node = order.run, order.attempt, order.rank
            if not any(self._archive.copy(box, *node, "", result, None, later) for _ in steps):
                return f"run {order.run[:12]} {result.outcome}, its log is being copied", False
        emptied = self._archive.empty(box, self._installation.clock.elapsed() + EMPTYING)
        return text, emptied


def _works(bucket: Bucket, box: str) -> list[int]:
    """Return the work orders in a mailbox, as `later` of `work_key`, in order."""
    return sorted(later for entry in bucket.list(work_key(box)) for later in _later(entry.key, box))


def _later(key: str, box: str) -> list[int]:
    """Return the `later` of `work_key` for a work order's key, or nothing for another key."""
    found = re.fullmatch(r"(?:/([0-9]{1,9}))?", key.removeprefix(work_key(box)))
    return [int(found[1] or 0)] if found and key.startswith(work_key(box)) else []
