"""Divide a run's time into named phases, without gaps or overlaps.

The main line begins with the trigger, and has the phases of the machine that ends last in each attempt. Phases that are
parallel to it (git while the image is pulled, other ranks, a machine that ends while the next one starts) are `beside`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby, zip_longest

from provisioner.core.protocol.messages import Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Assignment, KnownMachine, Launch, Node, Run
from provisioner.core.run.states import State

#: LaunchTime and the time in a transition reason have no fractions (EC2 API, "Instance").
WHOLE_SECOND = 1.0
#: Seconds by which a listing may be out of date (EC2 User Guide, "Eventual consistency"; the figure is assumed, and
#: larger than every observed lag).
LISTING_LAG = 60.0


class Source(StrEnum):
    """Where a time was recorded."""

    STORE = "store"
    LAUNCH_TIME = "LaunchTime"
    LISTING = "listing"
    AGENT = "agent"
    TRANSITION_REASON = "transition reason"


@dataclass(frozen=True)
class Bound:
    """A recorded time, in Unix seconds by the control plane's clock."""

    at: float
    source: Source
    #: Maximum number of seconds by which the true time differs. This is not certain for an agent's time: if its clock
    #: is ahead by less than the delay of its report, the control plane cannot detect that.
    error: float = 0.0

    def within(self, floor: float, ceiling: float) -> "Bound":
        """Return the bound, moved between two more certain times; the distance of the move is added to its error."""
        at = max(floor, min(self.at, ceiling))
        return self if at == self.at else replace(self, at=at, error=self.error + abs(at - self.at))

    def after(self, floor: float, latest: float) -> "Bound":
        """Return the bound, moved to `floor` if its `at` is earlier; the true time lies between that `at` and `latest`.

        A bound after `floor` is returned unchanged. The move is within the bound's own error.
        """
        at = min(max(self.at, floor), latest)
        return self if at == self.at else replace(self, at=at, error=max(at - self.at, latest - at))


@dataclass(frozen=True)
class Phase:
    """A part of a run's time; `ended` is None while it lasts."""

    name: str
    attempt: int
    rank: int
    #: Whether the phase is parallel to the main line, which already counts these seconds.
    beside: bool
    began: Bound
    ended: Bound | None


@dataclass(frozen=True)
class _Life:
    """The phases of one node's machine, from its own recorded times only."""

    node: Node
    #: Name and beginning of each phase; a phase ends when the next one begins.
    marks: tuple[tuple[str, Bound], ...]
    gone: Bound | None
    #: Phases of its agent that are parallel to `marks`.
    beside: tuple[Phase, ...]

    def line(self) -> Iterator[Phase]:
        ends: list[Bound | None] = [began for _, began in self.marks[1:]]
        for (name, began), ended in zip(self.marks, [*ends, self.gone], strict=True):
            yield Phase(name, self.node.attempt, self.node.rank, False, began, ended)


def phases(run: Run, held: Sequence[Assignment], launches: Mapping[str, Launch], now: float) -> tuple[Phase, ...]:
    """Return the phases as known at `now`: the main line in order, then the phases beside it.

    The main line begins with the trigger and ends when the run is done; until then its last phase has no end.
    """
    end = run.done_at if run.done_at is not None else now
    ordered = sorted(held, key=lambda each: (each.node.attempt, each.node.rank))
    again = {(each.machine.id, each.node.attempt): each.node.bound_at for each in ordered if each.node.reused}
    lives = [
        _led(_life(each, launches.get(each.node.launch), end, _next_use(each, again)) for each in several)
        for _, several in groupby(ordered, lambda each: each.node.attempt)
    ]
    starts = [leader.marks[0][1] for leader, *_ in lives]
    main: list[Phase] = []
    beside: list[Phase] = []
    at: Bound | None = Bound(run.created_at, Source.STORE)
    for (leader, *others), cut in zip_longest(lives, starts[1:]):
        if at is not None and (not leader.node.reused or at.at < leader.marks[0][1].at):
            main.append(Phase("queued", leader.node.attempt, 0, False, at, leader.marks[0][1]))
        # The next attempt may begin while this machine still ends: the main line continues with the next attempt.
        for phase in leader.line():
            whole, rest = _split(phase, cut)
            main += whole
            beside += rest
        beside += leader.beside
        beside += [replace(phase, beside=True) for other in others for phase in (*other.line(), *other.beside)]
        at = leader.gone if cut is None or (leader.gone and leader.gone.at < cut.at) else cut
    if at is not None:
        attempt = ordered[-1].node.attempt if ordered else 0
        main += _tail(run, [each.node for each in ordered if each.node.attempt == attempt], launches, at)
    fitted = (_fitted(phase, run.created_at, end) for phase in beside)
    return (*_joined(main, run.created_at, end), *fitted)


def _led(lives: Iterable[_Life]) -> list[_Life]:
    """Return the lives of an attempt's machines; the first one ends last, and is the main line."""
    several = list(lives)
    leader = max(several, key=lambda life: math.inf if life.gone is None else life.gone.at)
    return [leader, *(life for life in several if life is not leader)]


def _split(phase: Phase, cut: Bound | None) -> tuple[list[Phase], list[Phase]]:
    """Return the part of the phase before `cut`, and the part after it, which is parallel to the next attempt."""
    if cut is None or (phase.ended and phase.ended.at <= cut.at):
        return [phase], []
    if phase.began.at >= cut.at:
        return [], [replace(phase, beside=True)]
    return [replace(phase, ended=cut)], [replace(phase, beside=True, began=cut)]


def _tail(run: Run, last: Sequence[Node], launches: Mapping[str, Launch], at: Bound) -> Iterator[Phase]:
    """Yield the phases after the end of the last machine: another wait, or the closing of the run.

    `last` are the nodes of the last attempt.
    """
    attempt = last[0].attempt if last else 0
    # A run that ended in another wait has a later verdict than each of these nodes.
    ended_so = any(not node.verdict or not run.verdict or run.verdict.at <= node.verdict.at for node in last)
    # The verdict on a list is later, too, if its last records are read after the machine's end.
    ended_so |= bool(run.commands and run.verdict and run.verdict.outcome in (Outcome.SUCCEEDED, Outcome.FAILED))
    if run.ended_at is None or not ended_so:
        launch = launches.get(run.launch) if run.state is State.LAUNCHING else None
        over = Bound(run.ended_at, Source.STORE) if run.ended_at is not None else None
        begun = Bound(launch.created_at, Source.STORE) if launch else over
        yield Phase("queued", attempt + 1, 0, False, at, begun)
        if launch:
            yield Phase("launching", attempt + 1, 0, False, begun or at, over)
        if over is None:
            return
        at = over if over.at > at.at else at
    ended = Bound(run.done_at, Source.STORE) if run.done_at is not None else None
    yield Phase("closing", attempt, 0, False, at, ended)


def _next_use(held: Assignment, again: Mapping[tuple[str, int], float]) -> float | None:
    """Return when the machine was bound to a later attempt, or None. `again` has these times by machine and attempt."""
    later = [at for (id, attempt), at in again.items() if id == held.machine.id and attempt > held.node.attempt]
    return min(later, default=None)


def _life(held: Assignment, launch: Launch | None, now: float, next_use: float | None = None) -> _Life:
    """Return the phases of a node; if its machine is used again, they end at `next_use`."""
    node, machine = held.node, held.machine
    born = Bound(node.bound_at, Source.STORE) if node.reused else _born(machine, launch)
    gone = _listed(machine.ended_at, max(born.at, (machine.alive_at or born.at) - LISTING_LAG))
    ending = _ending(machine, born.at)
    if next_use is not None:
        gone, ending = Bound(next_use, Source.STORE), None
    over = ending or gone
    ceiling = _latest(machine, over) if over else now

    def told(at: float) -> Bound:
        return by_our_clock(at, node).within(born.at, ceiling)

    line, beside = _steps(node)
    steps = [(str(step), told(span.began)) for step, span in line]
    running = _listed(machine.running_at, born.at)
    if running:
        # The agent may report before a listing shows the machine running.
        running = running.within(born.at, steps[0][1].at if steps else ceiling)
    marks = [("launching", Bound(launch.created_at, Source.STORE))] if launch and not node.reused else []
    if node.reused:
        marks.append(("kept", born))
    else:
        marks += [("pending", born), ("boot", running)] if running else [("boot", born)]
    marks += steps
    if node.result:
        marks.append(("kept" if next_use is not None else "ending", told(node.result.at)))
    elif node.report and (over or node.verdict):
        marks.append(("silent", told(node.report.at)))
    if ending:
        marks.append(("gone", ending.after(marks[-1][1].at, ceiling)))
    parallel = [
        Phase(step, node.attempt, node.rank, True, told(span.began), told(span.ended) if span.ended else None)
        for step, span in beside
    ]
    return _Life(node, tuple(marks), gone, tuple(parallel))


def _born(machine: KnownMachine, launch: Launch | None) -> Bound:
    """Return the machine's LaunchTime, or the time of its binding if LaunchTime is unknown.

    LaunchTime has whole seconds, so it may be earlier than the launch.
    """
    if machine.launch_time is None:
        return Bound(machine.bound_at, Source.STORE)
    born = Bound(machine.launch_time, Source.LAUNCH_TIME, WHOLE_SECOND)
    return born.within(launch.created_at, max(launch.created_at, machine.bound_at)) if launch else born


def _ending(machine: KnownMachine, born: float) -> Bound | None:
    """Return when the machine began to shut down, by the cloud's clock or the first listing that showed it; or None."""
    if machine.ending_at is None:
        return None
    if machine.transition_at is not None:
        return Bound(machine.transition_at, Source.TRANSITION_REASON, WHOLE_SECOND).within(born, machine.ending_at)
    return _listed(machine.ending_at, max(born, (machine.alive_at or born) - LISTING_LAG))


def _latest(machine: KnownMachine, over: Bound) -> float:
    """Return the latest Unix time at which the machine may have begun to shut down.

    The time in a transition reason is truncated to a second, so the agent may still have acted within that second.
    """
    if over.source is not Source.TRANSITION_REASON or machine.transition_at is None or machine.ending_at is None:
        return over.at
    return max(over.at, min(machine.transition_at + WHOLE_SECOND, machine.ending_at))


def _listed(at: float | None, before: float) -> Bound | None:
    """Return the time `at` of the listing that first showed a change, or None; the change came after `before`."""
    return None if at is None else Bound(at, Source.LISTING, max(0.0, at - before))


def by_our_clock(at: float, node: Node) -> Bound:
    """Convert a time of the machine's clock to our clock; the clocks count as equal unless a message proves otherwise.

    A report proves a difference if it seems to be read before it was written, and a work order if the agent seems to
    read it before it was written.
    """
    offset, error = min(0.0, node.clock_ahead), abs(node.clock_ahead)
    boot = _spans(node).get(Step.BOOT)
    if boot and boot.ended is not None and node.work_put_at is not None:
        offset = max(offset, node.work_put_at - boot.ended)
    return Bound(at + offset, Source.AGENT, max(error, abs(offset)))


def _spans(node: Node) -> dict[Step, Span]:
    source = node.result or node.report
    return {step: source.spans[step] for step in Step if step in source.spans} if source else {}


def _steps(node: Node) -> tuple[list[tuple[Step, Span]], list[tuple[Step, Span]]]:
    """Return the agent's steps in order, and the parallel steps: of PULL and CLONE, the one that ended first."""
    spans = _spans(node)
    spans.pop(Step.BOOT, None)
    beside = []
    if Step.PULL in spans and Step.CLONE in spans:
        shorter = min((Step.PULL, Step.CLONE), key=lambda step: _or_never(spans[step].ended))
        beside.append((shorter, spans.pop(shorter)))
    return sorted(spans.items(), key=lambda item: item[1].began), beside


def _or_never(at: float | None) -> float:
    return float("inf") if at is None else at


def _joined(line: Sequence[Phase], floor: float, ceiling: float) -> Iterator[Phase]:
    """Yield the phases of the main line, moved so that none begins before the previous one ends."""
    for phase in line:
        fitted = _fitted(phase, floor, ceiling)
        yield fitted
        floor = fitted.ended.at if fitted.ended else ceiling


def _fitted(phase: Phase, floor: float, ceiling: float) -> Phase:
    began = phase.began.within(floor, ceiling)
    return replace(phase, began=began, ended=phase.ended and phase.ended.within(began.at, ceiling))
