"""Correct stored times that lie in the future: a wrong clock wrote them, and waiting for them would take days.

The time of a past event is at most now. The time of a future event is at most now plus the longest wait of its kind;
a later one becomes now. Differences of up to SLACK seconds are not corrected, because two clocks never agree exactly.
"""

from collections.abc import Mapping
from dataclasses import replace

from provisioner.core import attempt, drought, planner, unfilled
from provisioner.core.record import Drought, KnownMachine, Launch, Node, Run, TemplateHealth
from provisioner.core.run import Waiting
from provisioner.core.skew import TOLERANCE

#: Seconds that are not corrected: the clock may have been TOLERANCE ahead then, and be TOLERANCE behind now.
SLACK = 2 * TOLERANCE
#: The longest wait, in seconds, of a run that waits for each cause. Without a cause it waits for its next attempt;
#: see `core/attempt.py`.
LONGEST: Mapping[Waiting | None, float] = {
    Waiting.CAPACITY: drought.LONGEST,
    Waiting.QUOTA: unfilled.LONGEST,
    Waiting.THROTTLE: unfilled.LONGEST,
    Waiting.OPERATOR: unfilled.LONGEST_OURS,
    Waiting.LIMIT: planner.ROOM_EVERY,
    Waiting.CONFIGURATION: planner.TEMPLATE_EVERY,
}
#: Most seconds that a launch is reserved for the process that uses its machine: the longest time to make an AMI.
LONGEST_HELD = 2 * 3600.0


def run(item: Run, now: float, backoff: float = 0.0) -> Run:
    """Return the run without future times. `backoff` is the pause in seconds that its recipe sets after a failure."""
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
    """Return the node without future times. If its result was last looked for in the future, it is looked for again."""
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
    """Return the machine without future times. A termination requested in the future is requested again."""
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
    """Return the launch without future times."""
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
