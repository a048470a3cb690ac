"""Make the events of a run's story, which is the list of its events; each kind of event has one function.

An event gets its id when it is saved (`Installation.save`). `at` is the Unix time of the event.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from provisioner.core.protocol.messages import Report
from provisioner.core.protocol.words import Step
from provisioner.core.run.machines.console import verdict_of
from provisioner.core.run.records import Event, KnownMachine, Node, Run
from provisioner.core.run.states import TRANSITIONS, State, Waiting

#: Texts when a step begins. When the command begins, the state of the run changes, which is an event of its own.
BEGINS = {
    Step.PULL: "fetching the image",
    Step.CLONE: "cloning the git repositories",
    Step.SETUP: "the start script runs",
    Step.BARRIER: "ready; waiting for the other ranks",
    Step.LOGS: "uploading the rest of the log",
}
#: Texts when a step has succeeded.
DONE = {Step.PULL: "the image is pulled", Step.CLONE: "the git repositories are cloned"}
#: Maximum number of machines that an event names.
NAMED = 4
#: Characters of a console's last line that are shown.
LINE = 200


def event(
    run: Run, text: str, at: float, *, attempt: int | None = None, instance_id: str = "", launch: str = ""
) -> Event:
    """Return an event of the run's latest attempt, or of `attempt`."""
    number = run.attempt if attempt is None else attempt
    return Event("", run.id, at, text, run.job_name, run.owner, number, instance_id, launch)


def triggered(run: Run, at: float) -> Event:
    return event(run, "queued: triggered", at)


def triggered_by_schedule(run: Run, at: float) -> Event:
    return event(run, f"queued: {run.idempotency_key}", at)


def replaced_by_schedule(run: Run, at: float) -> Event:
    return event(run, "stop requested: the next run of its schedule replaces it", at)


def stopped_by_user(run: Run, at: float) -> Event:
    return event(run, "stop requested", at)


def stopped_by_takeover(run: Run, at: float) -> Event:
    return event(run, "stop requested: the store was restored from a backup", at)


def stopped_for_cost(run: Run, at: float) -> Event:
    return event(run, f"stop requested: {run.stop.reason if run.stop else ''}", at)


def moved(old: Run, new: Run, at: float) -> Event:
    """Return the event of a change of state."""
    text = f"{new.state}: {TRANSITIONS[old.state, new.state]}"
    if new.kept_until is not None and old.kept_until is None:
        text += f"; its other machines wait for it for at most {new.kept_until - at:.0f} s"
    if new.state is State.STOPPING and new.verdict:
        text = _ended(new)
    return event(new, text, at)


def moved_by_report(old: Run, new: Run, heard_at: float, at: float) -> Event:
    """Return the event of a change of state that a report caused; `heard_at` is when the report was read.

    The event's time is just before `heard_at`, so that it precedes the other events of that report.
    """
    return replace(moved(old, new, at), at=math.nextafter(min(heard_at, at), 0.0))


def planned(runs: Iterable[Run], causes: Mapping[str, Waiting | None], at: float) -> list[Event]:
    """Return the events of runs after launches were planned: the cause of a run's wait is new, or the run was refused.

    `causes` are the previous causes of the runs' waits, by the run's id.
    """
    events = []
    for run in runs:
        if run.state is State.STOPPING:
            events.append(event(run, _ended(run), at))
        elif run.waiting and run.waiting is not causes.get(run.id):
            events.append(event(run, f"waits, {run.waiting}: {run.waiting_for}", at))
    return events


def no_machine(run: Run, launch: str, at: float) -> Event:
    """Return the event of a launch that gave the run no machine, after which the run waits or has ended."""
    why = f"{run.waiting}: {run.waiting_for}" if run.waiting else str(run.verdict and run.verdict.reason)
    return event(run, f"no machine ({why})", at, launch=launch)


def bound(run: Run, machines: Sequence[KnownMachine], kept: int, at: float, note: str = "") -> Event:
    """Return the event of a new attempt on these machines, which have the same offer, and on `kept` earlier ones.

    `note` is what the user should know of these machines, or "".
    """
    offer = machines[0].offer
    ids, alone = _named(machines)
    again = f"; {kept} machines of the last attempt work again" if kept > 1 else ""
    if kept == 1:
        again = "; 1 machine of the last attempt works again"
    text = f"attempt {run.attempt}: {ids}, {offer}{again}{note and f'; {note}'}"
    return event(run, text, at, instance_id=alone, launch=machines[0].launch)


def joined(run: Run, machines: Sequence[KnownMachine], at: float) -> Event:
    """Return the event of further machines of a list run; their offers may differ."""
    ids, alone = _named(machines)
    offers = ", ".join(sorted({str(machine.offer) for machine in machines}))
    text = f"{'another machine' if alone else 'more machines'}: {ids}, {offers}"
    return event(run, text, at, instance_id=alone, launch=machines[0].launch)


def _named(machines: Sequence[KnownMachine]) -> tuple[str, str]:
    """Return the ids of the machines, or their number if there are many; and the id of a single machine, or ""."""
    if len(machines) > NAMED:
        return f"{len(machines)} machines", ""
    return ", ".join(machine.id for machine in machines), machines[0].id if len(machines) == 1 else ""


def joiners_wait(old: Run, new: Run, at: float) -> list[Event]:
    """Return the event of a new cause for which the further machines of a list run wait; none if it is not new."""
    before, after = (each.joining.waiting if each.joining else None for each in (old, new))
    if not after or after is before or not new.joining:
        return []
    return [event(new, f"further machines wait, {after}: {new.joining.waiting_for}", at)]


def adopted(run: Run, machine: KnownMachine, at: float) -> Event:
    text = f"attempt {run.attempt}: {machine.id} was found running it after the store was restored"
    return event(run, text, at, instance_id=machine.id, launch=machine.launch)


def reported(run: Run, node: Node, report: Report, at: float) -> list[Event]:
    """Return the events of a new report: steps, a rebalance recommendation, a spot interruption notice."""
    old, texts = node.report, list[str]()
    before = succeeded(old) if old else frozenset()
    if not node.rank:
        # The steps of 1,000 ranks would be too many events to read, so only those of rank 0 are events.
        texts += [text for step, text in DONE.items() if step in succeeded(report) - before]
        if report.step is not (old.step if old else Step.BOOT) and report.step in BEGINS:
            texts.append(BEGINS[report.step])
    if report.rebalance_at is not None and not (old and old.rebalance_at is not None):
        texts.append("rebalance recommendation: the spot machine has a higher risk of interruption")
    if report.notice and not (old and old.notice):
        texts.append("spot interruption notice: EC2 will interrupt the machine")
    return [_of_node(run, node, text, at) for text in texts]


def bad_machine(run: Run, node: Node, at: float) -> Event:
    """Return the event of a machine of a list that gets no more commands, because all of them fail there."""
    text = (
        "a bad machine: its commands fail, and those of other machines succeed; the failed ones run once more elsewhere"
    )
    return _of_node(run, node, text, at)


def ends_early(run: Run, reason: str, at: float) -> Event:
    """Return the event of a list that ends early."""
    return event(run, f"the list ends early: {reason}", at)


def unreadable(run: Run, node: Node, why: str, at: float) -> Event:
    """Return the event of the first object in a machine's inbox that is not a report."""
    text = f"{node.instance_id} wrote an invalid report ({why}); invalid reports are deleted"
    return _of_node(run, node, text, at)


def log_incomplete(run: Run, node: Node, stream: str, offset: int, at: float) -> Event:
    text = f"log incomplete: attempt {node.attempt}, {stream}, from byte {offset}"
    return _of_node(run, node, text, at)


def console_kept(run: Run, node: Node, console: str, at: float) -> Event:
    if said := verdict_of(console):
        return _of_node(run, node, f"the machine left no result; its console says: {said}", at)
    last = console.strip().rsplit("\n", 1)[-1]
    return _of_node(run, node, f"the machine left no result; its console ends: {last[:LINE]}", at)


def succeeded(report: Report) -> frozenset[Step]:
    """Return which of the steps PULL and CLONE succeeded; a report does not mark a failed step.

    Agents end the spans of all steps when the job ends. So a step has succeeded only if setup, barrier or command
    follows it.
    """
    if not {Step.SETUP, Step.BARRIER, Step.COMMAND} & report.spans.keys():
        return frozenset()
    return frozenset(step for step in DONE if step in report.spans and report.spans[step].ended is not None)


def _ended(run: Run) -> str:
    return f"{run.state}: {run.verdict.outcome}, {run.verdict.reason}" if run.verdict else str(run.state)


def _of_node(run: Run, node: Node, text: str, at: float) -> Event:
    text = f"rank {node.rank}: {text}" if node.rank else text
    return event(run, text, at, attempt=node.attempt, instance_id=node.instance_id)
