"""Stored times that lie in the future: a clock was wrong when they were written, and they must not be waited for.

What happened cannot have happened later than now. What is waited for cannot lie further ahead than the longest wait of
its kind; beyond that it is due now. A few seconds are left alone: two clocks never agree.
"""

from collections.abc import Mapping
from dataclasses import replace

from provisioner.core import attempt, drought, planner, unfilled
from provisioner.core.record import Drought, KnownMachine, Launch, Node, Run, TemplateHealth
from provisioner.core.run import Waiting
from provisioner.core.skew import TOLERANCE

#: The clock may have been wrong by the tolerance one way, and now be wrong the other way.
SLACK = 2 * TOLERANCE
#: The longest wait for each cause. Without a cause a run waits for its next attempt; see `core/attempt.py`.
LONGEST: Mapping[Waiting | None, float] = {
    Waiting.CAPACITY: drought.LONGEST,
    Waiting.QUOTA: unfilled.LONGEST,
    Waiting.THROTTLE: unfilled.LONGEST,
    Waiting.OPERATOR: unfilled.LONGEST_OURS,
    Waiting.LIMIT: planner.ROOM_EVERY,
    Waiting.CONFIGURATION: planner.TEMPLATE_EVERY,
}
#: How long a launch is left to the process that works with its machine: as long as making an AMI takes at most.
LONGEST_HELD = 2 * 3600.0


def run(item: Run, now: float, backoff: float = 0.0) -> Run:
    """The run without times ahead. `backoff` is the pause that its recipe asks for after a failure."""
    limit = now + SLACK
    if item.created_at > limit:
        item = replace(item, created_at=now)
    longest = LONGEST.get(item.waiting, max(backoff, *attempt.BACKOFF)) if item.verdict or item.waiting else 0.0
    if item.next_try_at > limit + longest:
        item = replace(item, next_try_at=now)
    if item.followed_until > limit + attempt.HEARING:
        item = replace(item, followed_until=now)
    if item.verdict and item.verdict.at > limit:
        item = replace(item, verdict=replace(item.verdict, at=now))
    if item.stop and item.stop.at > limit:
        item = replace(item, stop=replace(item.stop, at=now))
    if (item.ended_at or 0.0) > limit:
        item = replace(item, ended_at=now)
    if (item.certain_at or 0.0) > limit:
        item = replace(item, certain_at=now)
    return item


def node(item: Node, now: float) -> Node:
    """The node without times ahead. A result that was sought later than now was not sought yet."""
    limit = now + SLACK
    if item.bound_at > limit:
        item = replace(item, bound_at=now)
    if (item.work_put_at or 0.0) > limit:
        item = replace(item, work_put_at=now)
    if (item.stop_put_at or 0.0) > limit:
        item = replace(item, stop_put_at=now)
    if (item.reported_at or 0.0) > limit:
        item = replace(item, reported_at=now)
    if (item.result_sought_at or 0.0) > limit:
        item = replace(item, result_sought_at=None)
    if (item.archived_at or 0.0) > limit:
        item = replace(item, archived_at=now)
    if item.verdict and item.verdict.at > limit:
        item = replace(item, verdict=replace(item.verdict, at=now))
    return item


def machine(item: KnownMachine, now: float) -> KnownMachine:
    """The machine without times ahead. An end that was asked for later than now is asked for again."""
    limit = now + SLACK
    if item.bound_at > limit:
        item = replace(item, bound_at=now)
    if (item.seen_at or 0.0) > limit:
        item = replace(item, seen_at=now)
    if (item.impaired_at or 0.0) > limit:
        item = replace(item, impaired_at=now)
    if (item.running_at or 0.0) > limit:
        item = replace(item, running_at=now)
    if (item.ending_at or 0.0) > limit:
        item = replace(item, ending_at=now)
    if (item.alive_at or 0.0) > limit:
        item = replace(item, alive_at=None)
    if (item.end_wanted_at or 0.0) > limit:
        item = replace(item, end_wanted_at=now)
    if (item.end_asked_at or 0.0) > limit:
        item = replace(item, end_asked_at=None)
    if (item.end_accepted_at or 0.0) > limit:
        item = replace(item, end_accepted_at=now)
    return item


def launch(item: Launch, now: float) -> Launch:
    """The launch without times ahead. One that was listed later than now is listed again."""
    limit = now + SLACK
    if item.created_at > limit:
        item = replace(item, created_at=now)
    if item.held_until > limit + LONGEST_HELD:
        item = replace(item, held_until=now)
    if (item.sent_at or 0.0) > limit:
        item = replace(item, sent_at=now)
    if (item.listed_at or 0.0) > limit:
        item = replace(item, listed_at=now)
    return item


def dry(item: Drought, now: float) -> Drought:
    return replace(item, until=now) if item.until > now + SLACK + drought.LONGEST else item


def health(item: TemplateHealth, now: float) -> TemplateHealth:
    return replace(item, probe_at=now) if item.probe_at > now + SLACK + planner.PROBE_EVERY else item
