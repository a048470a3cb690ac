"""The machines' mailboxes: reports in, results in, work orders and orders out."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from provisioner.core.advance import orders
from provisioner.core.errors import Invalid
from provisioner.core.order import work_order
from provisioner.core.recipe import Recipe
from provisioner.core.record import Event, Held, Node, Record, Run, TemplateHealth, Verdict
from provisioner.core.work import (
    Orders,
    Outcome,
    Report,
    Result,
    Step,
    decode,
    encode,
    orders_key,
    result_key,
    started_key,
    work_key,
)
from provisioner.ports.store import Live
from provisioner.service.installation import Installation

#: The steps as a run's story tells them.
STORY = {
    Step.BOOT: "the machine boots",
    Step.PULL: "the image is pulled",
    Step.CLONE: "git is cloned",
    Step.SETUP: "the start script runs",
    Step.COMMAND: "the command runs",
    Step.LOGS: "the last of the log is shipped",
}


class Mailboxes:
    """Reads and writes the bucket; what it learns is given back to be saved, or saved before a message is deleted."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    # In

    def receive(self, live: Live, epoch: int) -> set[str]:
        """Record the newest report of every machine, then delete all that were listed.

        The runs of whose machines something is there that could not be read: nothing may be
        presumed of their silence.
        """
        installation = self._installation
        newest: dict[str, str] = {}
        listed = [entry.key for entry in installation.bucket.list("inbox/")]
        for key in listed:
            newest[key.split("/")[1]] = key
        if not listed:
            return set()
        runs, nodes = {run.id: run for run in live.runs}, {node.box: node for node in live.nodes}
        known = [(nodes[box], key) for box, key in newest.items() if box in nodes]
        messages = installation.pool.map(lambda pair: installation.bucket.get(pair[1]), known)
        health = {each.id: each for each in live.templates}
        records: list[Record] = []
        for (node, _), message in zip(known, messages, strict=True):
            report = _report(message)
            if report and (node.report is None or report.sequence > node.report.sequence):
                records.append(_told(node, report, installation.clock.now()))
                records += self._news(runs[node.run], node, report)
                if node.report is None and (failing := health.pop(node.template, None)) and failing.failures:
                    records.append(replace(failing, failures=0, reason="", probe_at=0.0))
        # A message of a machine that no live run knows is kept: its store may be elsewhere.
        if records:
            installation.save(records, epoch=epoch)
        answered = {
            key for (_, key), message in zip(known, messages, strict=True) if not isinstance(message, Exception)
        }
        read = {key.split("/")[1] for key in answered}
        installation.bucket.delete([key for key in listed if key.split("/")[1] in read])
        return {node.run for node, _ in known if node.box not in read}

    def _news(self, run: Run, node: Node, report: Report) -> list[Event]:
        """What a reader of the run's story wants to know of a report: the steps, and what the cloud announced."""
        old, texts = node.report, list[str]()
        if report.step is not (old.step if old else Step.BOOT):
            texts.append(STORY[report.step])
        if report.rebalance_at is not None and not (old and old.rebalance_at is not None):
            texts.append("the cloud recommends to move elsewhere: an interruption is likelier from now on")
        if report.notice and not (old and old.notice):
            texts.append("notice: the spot machine will be taken away")
        event = self._installation.event
        return [event(run, text, attempt=node.attempt, instance_id=node.instance_id) for text in texts]

    def seek(self, held: Held) -> Sequence[Record]:
        """Ask the mailbox for the result: the node with what is found, or with the knowledge that nothing was."""
        installation, node = self._installation, held.node
        data = installation.bucket.get(result_key(node.box))
        result = _result(data, node) if data is not None else None
        if result:
            return [replace(node, result=result)]
        started = node.started or installation.bucket.get(started_key(node.box)) is not None
        return [replace(node, result_sought_at=installation.clock.now(), started=started)]

    # Out

    def put_work(self, run: Run, recipe: Recipe, node: Node, gpus: int) -> Sequence[Record]:
        """Put the node's work order, once: the node is bound, so a second one could only be the same."""
        installation = self._installation
        policy, keys = installation.policy, installation.keys
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
            )
        )
        key, now = work_key(node.box), installation.clock.now()
        if not installation.bucket.put(key, order, if_absent=True) and installation.bucket.get(key) != order:
            verdict = Verdict(Outcome.LOST, "its mailbox holds another work order", now)
            return [replace(node, verdict=verdict)]
        return [replace(node, work_put_at=now)]

    def put_orders(self, run: Run, node: Node) -> Sequence[Record]:
        """Tell the machine what the run is to do, if that is news."""
        text = encode(orders(run))
        self._installation.bucket.put(orders_key(node.box), text)
        told = replace(node, orders=digest(run))
        if run.stop and node.stop_put_at is None:
            told = replace(told, stop_put_at=self._installation.clock.now())
        return [told]


def digest(run: Run) -> str:
    """A short name of the run's orders; empty while it has none."""
    wish = orders(run)
    return "" if wish == Orders() else hashlib.sha256(encode(wish)).hexdigest()[:16]


def _told(node: Node, report: Report, now: float) -> Node:
    """Host keys are kept once, apart from the reports, and are the first that were told."""
    keys = node.host_keys or report.host_keys
    return replace(node, report=replace(report, host_keys=()), host_keys=keys, reported_at=now)


def _report(message: bytes | Exception | None) -> Report | None:
    # A machine writes its own inbox alone, but what a job's root can write need not be a report.
    try:
        return decode(Report, message) if isinstance(message, bytes) else None
    except Invalid:
        return None


def _result(data: bytes, node: Node) -> Result:
    try:
        result = decode(Result, data)
    except Invalid as error:
        return _unreadable(node, str(error))
    if (result.run, result.attempt, result.rank) != (node.run, node.attempt, node.rank):
        return _unreadable(node, "it names another run")
    return result


def _unreadable(node: Node, why: str) -> Result:
    reason = f"the machine's result cannot be read: {why}"
    return Result(node.run, node.attempt, node.rank, "", Outcome.LOST, Step.LOGS, None, reason, node.bound_at)


def failed_boot(known: TemplateHealth | None, node: Node, reason: str) -> TemplateHealth:
    """The template's count, one higher, for a node whose machine never reported."""
    known = known or TemplateHealth(node.template)
    return replace(known, failures=known.failures + 1, reason=reason)
