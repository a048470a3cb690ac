"""Count unfinished runs and their machines, and choose the runs to show first."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from provisioner.core.access.callers import Caller
from provisioner.core.cloud.caps.budget import Caps
from provisioner.core.cloud.machines import ENDING, Machine
from provisioner.core.cost.receipt import bills_of, receipt
from provisioner.core.errors import Invalid
from provisioner.core.protocol.codec import decode
from provisioner.core.run.machines.messages import LONGEST_LIFE
from provisioner.core.run.machines.silence import is_silent
from provisioner.core.run.records import Assignment, KnownMachine, Node, Run
from provisioner.core.run.records import Live as LiveRecords
from provisioner.core.run.states import State, Waiting
from provisioner.core.views import from_records
from provisioner.core.views.codec import moment
from provisioner.core.views.overview import Alive, Live, Machines, Queue, Top
from provisioner.ports.store import Store
from provisioner.service.installation import budget_for

#: Key of the stored reason for which the process that makes passes decides nothing, such as a wrong clock.
HINDRANCE = "hindrance"
#: Key of the stored foreign machines: those of the last listing whose launch is not in this store.
FOREIGN = "foreign machines"


@dataclass(frozen=True)
class Foreign:
    """The foreign machines, in the form in which the store has them."""

    machines: tuple[Machine, ...] = ()


def live_overview(store: Store, caller: Caller, limit: int, now: float, caps: Caps) -> Top:
    """Return the counts of the caller's unfinished runs and machines, and the `limit` most urgent runs."""
    every = store.live()
    budget = budget_for(store, caps, every, now)
    live = _seen(every, caller)
    nodes = {(node.run, node.attempt): node for node in live.nodes}
    current = {run.id: nodes.get((run.id, run.attempt)) for run in live.runs}
    first = heapq.nsmallest(limit, live.runs, key=lambda run: _rank(run, current[run.id], now))
    held = _held(store, live, {run.id for run in first})
    billed = [machine for machine in live.machines if machine.state not in ENDING]
    # Machines in a reservation are paid for already.
    paying = [machine for machine in billed if not machine.reservation]
    return Top(
        at=moment(now),
        states=dict(Counter(run.state for run in live.runs)),
        machines=len(billed),
        dollars_an_hour=sum(machine.price.dollars for machine in paying if machine.price),
        unpriced=sum(machine.price is None for machine in paying),
        waiting=_queues([run for run in live.runs if run.state is State.QUEUED]),
        foreign=tuple(each.id for each in foreign(store)) if caller.admin else (),
        hindrance=hindrance(store),
        more=len(live.runs) - len(first),
        runs=tuple(_row(run, held[run.id], live, now) for run in first),
        budget=from_records.budget(budget) if budget else None,
    )


def hindrance(store: Store) -> str:
    """Return the reason for which the process that makes passes can do nothing now, such as a wrong clock; or ""."""
    noted = store.remembered(HINDRANCE)
    return noted[0] if noted else ""


def _seen(live: LiveRecords, caller: Caller) -> LiveRecords:
    if caller.admin:
        return live
    runs = tuple(run for run in live.runs if caller.may(run.owner))
    ids = {run.id for run in runs}
    nodes = tuple(node for node in live.nodes if node.run in ids)
    held = {node.instance_id for node in nodes}
    return replace(live, runs=runs, nodes=nodes, machines=tuple(each for each in live.machines if each.id in held))


def _rank(run: Run, node: Node | None, now: float) -> tuple[int, float]:
    if run.state in (State.QUEUED, State.LAUNCHING) or node is None:
        return 3, run.created_at
    if is_silent(node, now):
        return 0, node.reported_at or 0.0
    if node.report and node.report.notice and node.verdict is None:
        return 1, node.report.notice.at
    return 2, run.created_at


def _held(store: Store, live: LiveRecords, runs: set[str]) -> defaultdict[str, list[Assignment]]:
    nodes = [node for node in live.nodes if node.run in runs]
    ids = {node.instance_id for node in nodes}
    machines = {machine.id: machine for machine in live.machines if machine.id in ids}
    if missing := ids - machines.keys():
        machines |= {machine.id: machine for machine in store.machines(missing)}
    held: defaultdict[str, list[Assignment]] = defaultdict(list)
    for node in nodes:
        held[node.run].append(Assignment(node, machines[node.instance_id]))
    return held


def _row(run: Run, held: Sequence[Assignment], live: LiveRecords, now: float) -> Live:
    commands = None
    if run.commands and (found := next((each for each in live.lists if each.id == run.id), None)):
        workers = [worker for worker in live.workers if worker.run == run.id]
        commands = from_records.progress(found, workers, [each.node for each in held], now)
    cost = receipt(run, held, {}, now)
    with_machine = run.state not in (State.QUEUED, State.LAUNCHING)
    current = next((each for each in held if with_machine and each.node.attempt == run.attempt), None)
    node = current.node if current else None
    report = node.report if node else None
    return Live(
        run=from_records.run(run, commands),
        machine=from_records.machine(current.machine) if current else None,
        step=report.step if report else None,
        heard_at=moment(node.reported_at) if node else None,
        silent_since=moment(node.reported_at) if node and is_silent(node, now) else None,
        notice_at=moment(report.notice.at) if report and report.notice else None,
        bytes_produced=from_records.log_bytes(report.produced) if report else {},
        dollars_at_least=cost.dollars_at_least,
        dollars_at_most=cost.dollars_at_most,
    )


def live_machines(store: Store, caller: Caller, limit: int, now: float) -> Machines:
    """Return at most `limit` of the caller's machines that are not terminated, with their cost so far."""
    live = _seen(store.live(), caller)
    runs = {run.id: run for run in live.runs}
    nodes: defaultdict[str, list[Node]] = defaultdict(list)
    for node in sorted(live.nodes, key=lambda node: node.attempt):
        nodes[node.instance_id].append(node)
    first = heapq.nsmallest(limit, live.machines, key=lambda machine: _urgency(machine, nodes[machine.id], now))
    shown = tuple(_alive(machine, nodes[machine.id], runs, now) for machine in first)
    return Machines(at=moment(now), machines=shown, more=len(live.machines) - len(first))


def _urgency(machine: KnownMachine, nodes: Sequence[Node], now: float) -> tuple[int, float]:
    node = nodes[-1] if nodes else None
    begun = machine.launch_time or machine.bound_at
    if node and is_silent(node, now):
        return 0, begun
    noticed = node and node.verdict is None and node.report and node.report.notice
    return 1 if noticed else 2, begun


def _alive(machine: KnownMachine, nodes: Sequence[Node], runs: Mapping[str, Run], now: float) -> Alive:
    node = nodes[-1] if nodes else None
    run = runs.get(node.run) if node else None
    report = node.report if node else None
    begun, lasts = machine.launch_time or machine.bound_at, machine.lifetime
    cost = next(iter(bills_of([Assignment(each, machine) for each in nodes], {}, now)), None)
    return Alive(
        machine=from_records.machine(machine),
        bound_at=moment(machine.bound_at),
        # The lifetime is read from a tag, which others may write.
        lifetime_ends_at=None if lasts is None else moment(begun + min(lasts, LONGEST_LIFE)),
        run=run.id if run else None,
        job=run.job_name if run else None,
        owner=run.owner if run else None,
        attempt=node.attempt if node else None,
        rank=node.rank if node else None,
        state=run.state if run else None,
        waits=bool(run and node and node.verdict and run.kept_until is not None and machine.end_wanted_at is None),
        step=report.step if report else None,
        heard_at=moment(node.reported_at) if node else None,
        silent_since=moment(node.reported_at) if node and is_silent(node, now) else None,
        notice_at=moment(report.notice.at) if report and report.notice else None,
        dollars_at_least=cost.dollars_at_least if cost else None,
        dollars_at_most=cost.dollars_at_most if cost else None,
        disk_dollars_at_most=cost.disk_dollars_at_most if cost else None,
    )


def _queues(runs: Sequence[Run]) -> tuple[Queue, ...]:
    """Return one queue of waiting runs for each cause, the longest queue first."""
    tries: defaultdict[str, list[float]] = defaultdict(list)
    for run in runs:
        tries[run.waiting or ("the next attempt" if run.verdict else "its first launch")].append(run.next_try_at)
    needed = next((run.waiting_for for run in runs if run.waiting is Waiting.OPERATOR), "")
    found = [
        Queue(cause, len(times), moment(min(times)), needed if cause == Waiting.OPERATOR else "")
        for cause, times in tries.items()
    ]
    return tuple(sorted(found, key=lambda queue: -queue.runs))


def foreign(store: Store) -> tuple[Machine, ...]:
    """Return the foreign machines that the last pass of any process listed."""
    noted = store.remembered(FOREIGN)
    try:
        return decode(Foreign, noted[0].encode()).machines if noted else ()
    except Invalid:
        return ()  # Another version stored the machines: the next pass replaces them.
