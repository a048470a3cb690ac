"""The steps of a pass for lists: record the ends of commands, close machines that are over, and hand commands out.

All changes of one run in a step are made on one ledger and saved in one transaction, under the lease's epoch. What a
step puts into the bucket follows from saved records alone, so any pass may be lost or repeated.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.batches import BatchHead, Range, encode_batch
from provisioner.core.protocol.keys import batch_key
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run import story
from provisioner.core.run.lists import closing, doubting, handing, recalling, repeating, stopping
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.lists.receiving import NO_RETRIES, blocks_of, take_records
from provisioner.core.run.plan import Plan
from provisioner.core.run.ranks import stop_of
from provisioner.core.run.records import Live, Node, Record, Run, Verdict
from provisioner.core.run.work_order import loaded
from provisioner.ports.bucket import Entry
from provisioner.service.control_loop.inbox import Received
from provisioner.service.control_loop.lists.reading import Entries, Pieces, Reading
from provisioner.service.control_loop.lists.texts import Texts
from provisioner.service.control_loop.one_pass import Pass
from provisioner.service.installation import Installation

#: Maximum number of blocks with commands that wait, from which a pass hands out the commands of one run.
WAITING_MOST = 10


@dataclass(frozen=True)
class _OfRun:
    """The live records of one run that has a list."""

    run: Run
    commands: CommandList
    nodes: list[Node] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


class Lists:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._reading = Reading(installation)
        self._texts = Texts(installation.store, installation.bucket)
        #: Objects in inboxes whose records are stored, or are never read: they can be deleted.
        self.done: Sequence[Entry] = ()

    def receive(self, current: Pass, before: Plan, received: Received) -> None:
        """Record the ends of commands in the listed inboxes, and set `done`.

        The records of `before` were read before the inboxes were listed.
        """
        self.done = ()
        if not received.ends:
            return
        live = current.live()
        nodes = {node.id: node for node in live.nodes}
        workers = [worker for worker in live.workers if worker.closed_at is None and worker.box in received.ends]
        waiting = {worker.box: _next(worker.records_read, received.ends[worker.box]) for worker in workers}
        pieces = self._reading.read(
            current, {worker.box: (nodes[worker.id], waiting[worker.box]) for worker in workers if waiting[worker.box]}
        )
        self._change(current, {worker.run for worker in workers}, partial(self._recorded, before, received, pieces))
        known = {worker.box: worker for worker in current.live().workers}
        self.done = [
            entry
            for box, ends in received.ends.items()
            for offset, entry in ends.items()
            # What follows a gap that nothing can fill any more is never read.
            if box in known and (offset < known[box].records_read or known[box].listed_at is not None)
        ]

    def _recorded(
        self, before: Plan, received: Received, pieces: Mapping[str, Pieces], mine: _OfRun
    ) -> Sequence[Record]:
        now, news = self._installation.now(), list[Record]()
        suspected = doubting.to_load(mine.workers, pieces)
        ledger = self._ledger(mine, [batch for batch in mine.batches if batch.node in pieces], suspected)
        options = repeating.options_of(mine.run)
        goes_on = repeating.goes_on(mine.run, mine.commands, options)
        for node in mine.nodes:
            several, again = pieces.get(node.id, ()), options if goes_on else NO_RETRIES
            taken = [take_records(ledger, node.id, offset, data, now, again) for offset, data in several]
            if unreadable := sum(each.unreadable for each in taken):
                news.append(replace(node, unreadable=node.unreadable + unreadable))
                if not node.unreadable:
                    why = next(each.why for each in taken if each.unreadable)
                    news.append(story.unreadable(mine.run, node, why, now))
        if pieces and repeating.goes_on(mine.run, ledger.commands, options):
            bad = {worker.id for worker in doubting.judge(ledger, now)}
            news += [story.bad_machine(mine.run, node, now) for node in mine.nodes if node.id in bad]
        for held in before.assignments.get(mine.run.id, ()):
            box = held.node.box
            if (worker := ledger.workers.get(held.node.id)) and box in received.ends:
                sizes = {offset: entry.size for offset, entry in received.ends[box].items()}
                # A listing is in the order of offsets: one with a later chunk has all chunks before it.
                enough = box in received.whole or max(sizes, default=0) > worker.records_read
                closing.note_listing(ledger, held, sizes, enough, now)
        return [*ledger.changed(), *news, *_early(mine, ledger, options, now)]

    def close(self, current: Pass) -> None:
        """Take commands without a record back from machines that are over, and seal the lists of ended runs."""
        if not current.live().lists:
            return
        plan = current.plan()
        workers = [worker for worker in plan.live.workers if worker.listed_at is not None and worker.closed_at is None]
        self._change(current, {worker.run for worker in workers}, partial(self._closed, plan))
        self._change(current, _unsealed(plan.live, ended=True), self._sealed)

    def _closed(self, plan: Plan, mine: _OfRun) -> Sequence[Record]:
        ledger, options = self._ledger(mine, mine.batches), repeating.options_of(mine.run)
        now = self._installation.now()
        for held in plan.assignments[mine.run.id]:
            if held.node.id in ledger.workers:
                closing.close(ledger, held, mine.run, now, options)
        return [*ledger.changed(), *_early(mine, ledger, options, now)]

    def _sealed(self, mine: _OfRun) -> Sequence[Record]:
        ledger = self._ledger(mine, waiting=closing.SEAL_MOST, fresh=1)
        closing.seal(ledger, mine.run, self._installation.now())
        return ledger.changed()

    def hand_out(self, current: Pass) -> None:
        """Hand commands out: store the batches, and put them into the machines' mailboxes.

        Before that, take back what machines give back; after it, recall commands for idle machines, or release these.
        """
        self._change(current, _unsealed(current.live(), ended=False), self._handed_out)
        live, due = current.live(), dict[str, list[Batch]]()
        for batch in live.batches:
            if batch.put_at is None:
                due.setdefault(batch.node, []).append(batch)
        runs = {run.id: run for run in live.runs}
        nodes = [node for node in live.nodes if node.id in due and not node.verdict]
        current.do(lambda pair: self._put(*pair, due[pair[1].id]), [(runs[node.run], node) for node in nodes])

    def _handed_out(self, mine: _OfRun) -> Sequence[Record]:
        known = {worker.id for worker in mine.workers}
        new = [node for node in mine.nodes if node.id not in known and not node.verdict]
        slots = loaded(mine.run.recipe).spec.nprocs or 1 if new else 0
        workers = [Worker(each.id, each.run, each.box, each.attempt, each.rank, slots) for each in new]
        nodes, now = {node.id: node for node in mine.nodes}, self._installation.now()
        kept = recalling.answers(mine.batches, nodes)
        options = repeating.options_of(mine.run)
        early, want = repeating.too_many(mine.commands, options), dict[str, int]()
        if not early:
            want = handing.wanted(mine.run, mine.commands, [*mine.workers, *workers], mine.batches, nodes)
        ledger = self._ledger(
            mine,
            [batch for batch in mine.batches if batch.id in kept],
            waiting=WAITING_MOST if want else 0,
            fresh=sum(want.values()) or mine.commands.next in mine.commands.stops,
        )
        ledger.workers |= {worker.id: worker for worker in workers}
        stopping.cancel_next(ledger)
        handing.hand_out(ledger, want)
        for id, count in kept.items():
            recalling.give_back(ledger, ledger.batches[id], count, now)
        if not stop_of(mine.run):
            recalling.dismiss(ledger, now, all_machines=early)
        if len(ledger.workers) > 1 and not stop_of(mine.run) and not early:
            recalling.recall(ledger, nodes, now)
            recalling.release(ledger, nodes, now)
        return ledger.changed()

    def _put(self, run: Run, node: Node, batches: Iterable[Batch]) -> Sequence[Record]:
        """Put batches into the node's mailbox; return them, or the node as lost if another batch is there."""
        bucket, put = self._installation.bucket, list[Record]()
        for batch in sorted(batches, key=lambda batch: batch.number):
            head = BatchHead(run.id, node.attempt, node.rank, batch.number, batch.ranges)
            key, data = batch_key(node.box, batch.number), encode_batch(head, self._texts.texts_of(run, batch.ranges))
            if not bucket.put(key, data, if_absent=True) and bucket.get(key, length=len(data) + 1) != data:
                verdict = Verdict(Outcome.LOST, "its mailbox holds another batch of commands", self._installation.now())
                return [*put, replace(node, verdict=verdict)]
            put.append(replace(batch, put_at=self._installation.now()))
        return put

    def _ledger(
        self,
        mine: _OfRun,
        batches: Iterable[Batch] = (),
        ranges: Iterable[Range] = (),
        *,
        waiting: int = 0,
        fresh: int = 0,
    ) -> Ledger:
        """Return the ledger of a run.

        It has the blocks of `batches` and `ranges`, at most `waiting` blocks with commands that wait, and those of the
        next `fresh` commands.
        """
        store, commands = self._installation.store, mine.commands
        several = (*ranges, *(each for batch in batches for each in batch.ranges))
        numbers = {*blocks_of(commands, several), *handing.fresh_blocks(commands, fresh)}
        blocks = {block.id: block for block in store.blocks(mine.run.id, numbers)} if numbers else {}
        if waiting and commands.waiting:
            blocks |= {block.id: block for block in store.waiting_blocks(mine.run.id, waiting)}
        return Ledger(commands, mine.workers, mine.batches, blocks.values())

    @staticmethod
    def _change(current: Pass, runs: Collection[str], changed: Callable[[_OfRun], Sequence[Record]]) -> None:
        """Save the records that `changed` returns for each of these runs."""
        if runs:
            lists = _by_run(current.live(), runs)
            current.save(current.attempt(partial(changed, mine), mine.run) or () for mine in lists)


def _early(mine: _OfRun, ledger: Ledger, options: ListOptions, now: float) -> Sequence[Record]:
    """Return the event of the failure or loss with which the list begins to end early."""
    if repeating.too_many(mine.commands, options) or not repeating.too_many(ledger.commands, options):
        return ()
    return [story.ends_early(mine.run, repeating.early_reason(ledger.commands, options), now)]


def _unsealed(live: Live, *, ended: bool) -> set[str]:
    """Return the ids of the runs whose list is not sealed, either of ended runs or of others."""
    unsealed = {each.id for each in live.lists if each.sealed_at is None}
    if not unsealed:
        return set()
    return {run.id for run in live.runs if run.id in unsealed and (run.ended_at is not None) is ended}


def _by_run(live: Live, runs: Collection[str]) -> list[_OfRun]:
    """Return the live records of each of these runs that has a list."""
    lists = {each.id: each for each in live.lists if each.id in runs}
    found = {run.id: _OfRun(run, lists[run.id]) for run in live.runs if run.id in lists}
    for node in live.nodes:
        if node.run in found:
            found[node.run].nodes.append(node)
    for worker in live.workers:
        if worker.run in found:
            found[worker.run].workers.append(worker)
    for batch in live.batches:
        if batch.run in found:
            found[batch.run].batches.append(batch)
    return list(found.values())


def _next(cursor: int, ends: Mapping[int, Entry]) -> Entries:
    """Return the objects that follow each other from byte `cursor` on."""
    found = list[tuple[int, Entry]]()
    while cursor in ends:
        found.append((cursor, ends[cursor]))
        cursor += ends[cursor].size
    return found
