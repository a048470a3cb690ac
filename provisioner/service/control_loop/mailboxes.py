"""Read reports and results from the machines' mailboxes, and write work orders and orders to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from provisioner.core.errors import Invalid
from provisioner.core.logs.archive import chunk_offset, kept_result_key
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import orders_key, peers_key, records_prefix, result_key, started_key, work_key
from provisioner.core.protocol.messages import Orders, Peers, Report, Result, WorkOrder
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import story
from provisioner.core.run.lists.receiving import RECORDS_MOST
from provisioner.core.run.machines.messages import (
    RESULT_HEAD,
    RESULT_MOST,
    Period,
    decode_result,
    period,
    printable,
    stream_ends,
)
from provisioner.core.run.progress import orders_digest, proven
from provisioner.core.run.records import Assignment, Event, Live, Node, Record, Run, Verdict
from provisioner.core.run.work_order import work_order
from provisioner.ports.bucket import Bucket, Entry
from provisioner.service.control_loop.inbox import Heard, Inbox, Received
from provisioner.service.installation import Installation

#: Bytes of a result that are read at a time.
BLOCK = 1 << 20
#: Maximum number of bytes by which the work order of another version or with other settings is longer than ours.
WORK_MORE = 64 << 10


class Mailboxes:
    """Reads and writes mailboxes.

    `receive` saves the reports, and `delete_read` then deletes them. The other methods return records, which the caller
    saves.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._inbox = Inbox(installation)
        #: By mailbox, the number of unreadable objects that the stored count does not include yet.
        self._uncounted: dict[str, int] = {}
        #: Objects that the last `receive` has read.
        self._read: list[Entry] = []

    # In

    def receive(self, live: Live, epoch: int) -> Received:
        """Record the newest report of every machine; `delete_read` then deletes the objects that were read.

        The objects with records of ended commands are returned, and neither read nor deleted.
        """
        installation, inbox = self._installation, self._inbox
        listed = inbox.listed()
        runs, nodes = {run.id: run for run in live.runs}, _newest(live.nodes)
        self._uncounted = {box: count for box, count in self._uncounted.items() if box in nodes}
        # Neither read nor delete objects of machines without a live run in this store: another store may own them.
        lists = {box for box, node in nodes.items() if runs[node.run].commands}
        ends = {box: _ends(box, listed.entries.get(box, ())) for box in lists}
        known = [
            (nodes[box], _but(entries, ends.get(box, {}))) for box, entries in listed.entries.items() if box in nodes
        ]
        answers = installation.pool.map(lambda pair: inbox.read(*pair), known)
        health = {each.id: each for each in live.templates}
        records: list[Record] = []
        unheard = {node.run for node in live.nodes if not listed.covers(node.box)}
        read: list[Entry] = []
        for (node, entries), heard in zip(known, answers, strict=True):
            if isinstance(heard, Exception):
                unheard.add(node.run)
                continue
            read += entries
            counted, news = self._counted(runs[node.run], node, heard)
            if heard.report:
                now = installation.now()
                counted = _told(counted, heard.report, now)
                news += story.reported(runs[node.run], node, heard.report, now)
                if sound := proven(health.get(node.template), node.report, heard.report):
                    records.append(sound)
                    del health[sound.id]
            if counted is not node:
                records += [counted, *news]
        if records:
            installation.save(records, epoch=epoch)
        self._read = read
        return Received(frozenset(unheard), ends, frozenset(filter(listed.has_all, lists)))

    def delete_read(self, ends: Sequence[Entry] = ()) -> None:
        """Delete the objects that the last `receive` has read, and `ends`, objects with records that are stored.

        Raises the first error after all calls were made.
        """
        read, self._read = self._read, []
        self._inbox.delete([*read, *ends])

    def _counted(self, run: Run, node: Node, heard: Heard) -> tuple[Node, list[Event]]:
        """Count unreadable objects; return the node and events.

        The first unreadable object makes an event. The count is stored with a report, or once it has about doubled.
        """
        count = node.unreadable + self._uncounted.pop(node.box, 0) + heard.unreadable
        if count == node.unreadable:
            return node, []
        if not heard.report and count.bit_length() == node.unreadable.bit_length():
            self._uncounted[node.box] = count - node.unreadable
            return node, []
        counted, news = replace(node, unreadable=count), list[Event]()
        if not node.unreadable:
            news.append(story.unreadable(run, node, heard.why, self._installation.now()))
        return counted, news

    def seek(self, held: Assignment) -> Sequence[Record]:
        """Read the node's result; return the node with the result, or with the time at which no result was found."""
        installation, node = self._installation, held.node
        now = installation.now()
        try:
            within = period(node, now)
            result = read_result(installation.bucket, result_key(node.box, node.later), within)
            if result is None:
                # A store that was restored from a backup may lack a result that is already in the archive.
                kept = kept_result_key(node.run, node.attempt, node.rank)
                result = read_result(installation.bucket, kept, within)
        except Invalid as error:
            result = _unreadable(node, printable(str(error), 200))
        if result and (result.run, result.attempt, result.rank) != (node.run, node.attempt, node.rank):
            result = _unreadable(node, "it is the result of another run or attempt")
        if result:
            return [replace(node, result=result)]
        started = node.started or installation.bucket.get(started_key(node.box, node.later), length=1) is not None
        return [replace(node, result_sought_at=now, started=started)]

    # Out

    def put_work(
        self, run: Run, recipe: Recipe, held: Assignment, gpus: int, paid_for: float | None = None
    ) -> Sequence[Record]:
        """Write the node's work order; return the node as lost if another work order is in the mailbox.

        `paid_for` is as in `work_order`.
        """
        installation = self._installation
        policy, keys, node = installation.policy, installation.keys, held.node
        launched_at = held.machine.launch_time if node.reused else None
        order = encode(
            work_order(
                run,
                recipe,
                attempt=node.attempt,
                rank=node.rank,
                gpus=gpus,
                engine=policy.engine,
                terms=policy.terms,
                authorized_key=keys.public(run.id, node.attempt) if keys else "",
                used_before=0.0 if launched_at is None else node.bound_at - launched_at,
                paid_for=paid_for,
            )
        )
        key, now = work_key(node.box, node.later), installation.now()
        if not installation.bucket.put(key, order, if_absent=True) and not self._is_there(node, len(order)):
            verdict = Verdict(Outcome.LOST, "its mailbox holds another work order", now)
            return [replace(node, verdict=verdict)]
        return [replace(node, work_put_at=now)]

    def _is_there(self, node: Node, length: int) -> bool:
        """Return whether the node's work order, which has about `length` bytes, is in the mailbox.

        A process that died before it could save the node may have put it, with other settings or in another version.
        """
        data = self._installation.bucket.get(work_key(node.box, node.later), length=length + WORK_MORE)
        try:
            found = decode(WorkOrder, data or b"")
        except Invalid:
            return False
        return (found.run, found.attempt, found.rank) == (node.run, node.attempt, node.rank)

    def put_peers(self, node: Node, peers: Peers) -> Sequence[Record]:
        """Write the addresses of all ranks to the node's mailbox; return the node with the time."""
        self._installation.bucket.put(peers_key(node.box), encode(peers))
        return [replace(node, peers_put_at=self._installation.now())]

    def put_orders(self, node: Node, orders: Orders) -> Sequence[Record]:
        """Write the orders to the machine's mailbox; return the node with their digest."""
        self._installation.bucket.put(orders_key(node.box), encode(orders))
        told = replace(node, orders=orders_digest(orders))
        if orders.stop and node.stop_put_at is None:
            told = replace(told, stop_put_at=self._installation.now())
        return [told]


def _ends(box: str, entries: Iterable[Entry]) -> dict[int, Entry]:
    """Return the objects with records of ended commands, by offset, without those that no agent writes."""
    prefix, found = records_prefix(box), dict[int, Entry]()
    for entry in entries:
        offset = chunk_offset(entry.key, prefix) if entry.key.startswith(prefix) else None
        if offset is not None and 0 < entry.size <= RECORDS_MOST:
            found[offset] = entry
    return found


def _but(entries: Sequence[Entry], ends: Mapping[int, Entry]) -> Sequence[Entry]:
    keys = {entry.key for entry in ends.values()}
    return [entry for entry in entries if entry.key not in keys] if keys else entries


def _newest(nodes: Iterable[Node]) -> dict[str, Node]:
    """Return the node of each mailbox's machine; of several attempts on a machine, the newest."""
    return {node.box: node for node in sorted(nodes, key=lambda node: node.attempt)}


def _told(node: Node, report: Report, now: float) -> Node:
    """Return the node with the report, and with the SSH host keys of the first report that has any."""
    keys = node.host_keys or report.host_keys
    return replace(node, report=replace(report, host_keys=()), host_keys=keys, reported_at=now)


def read_result(bucket: Bucket, key: str, within: Period) -> Result | None:
    """Return the result at `key`, without its list of chunks, or None; uses bounded memory. Raises Invalid."""
    head = bucket.get(key, length=RESULT_HEAD)
    if head is None:
        return None
    if len(head) < RESULT_HEAD:
        return decode_result(head, within)
    size = sum(entry.size for entry in bucket.list(key) if entry.key == key)
    tail = bucket.get(key, start=max(0, size - RESULT_HEAD), length=RESULT_HEAD) or b""
    result = decode_result(head, within, tail)
    if size > RESULT_MOST:
        # No agent writes so large a result. Without its stream ends, the log cannot be verified as complete.
        return result
    blocks = (bucket.get(key, start=at, length=BLOCK) or b"" for at in range(0, size, BLOCK))
    return replace(result, streams=stream_ends(blocks))


def _unreadable(node: Node, why: str) -> Result:
    reason = f"the machine's result cannot be read: {why}"
    return Result(node.run, node.attempt, node.rank, "", Outcome.LOST, Step.LOGS, None, reason, node.bound_at)
