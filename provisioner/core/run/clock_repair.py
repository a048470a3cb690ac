"""Correct stored times that are in the future: a wrong clock set them, and waiting for them could take days.

The time of a past event is at most now. The time of a future event is at most now plus the longest wait of its kind.
A later time becomes now. Differences of up to SLACK seconds are not corrected, because two clocks never agree exactly.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from provisioner.core.cloud.caps import affording, budget
from provisioner.core.cloud.clock_skew import TOLERANCE
from provisioner.core.run import capacity, launch_answers, launching, records, survivors, verdicts
from provisioner.core.run.lists import joining
from provisioner.core.run.machines import silence
from provisioner.core.run.records import Drought, KnownMachine, Launch, Live, Node, Run, TemplateHealth
from provisioner.core.run.states import Waiting
from provisioner.core.run.work_order import recipe_of

#: Differences of up to this many seconds are not corrected: the clock may have been TOLERANCE ahead when the time was
#: stored, and be TOLERANCE behind now.
SLACK = 2 * TOLERANCE
#: By cause: the longest wait, in seconds, of a run. A run without a cause waits for its next attempt (see
#: `core/run/verdicts.py`).
LONGEST: Mapping[Waiting | None, float] = {
    Waiting.CAPACITY: capacity.LONGEST,
    Waiting.QUOTA: launch_answers.LONGEST,
    Waiting.THROTTLE: launch_answers.LONGEST,
    Waiting.OPERATOR: launch_answers.LONGEST,
    Waiting.LIMIT: max(launching.ROOM_EVERY, budget.LATER, affording.PRICES_EVERY),
    Waiting.CONFIGURATION: launching.TEMPLATE_EVERY,
}
#: Maximum number of seconds that a launch is reserved for the process that uses its machine: the longest time to make
#: an AMI.
LONGEST_HELD = 2 * 3600.0


Record = TypeVar("Record", Run, Node, KnownMachine, Launch, Drought, TemplateHealth)


def run(item: Run, now: float, backoff: float = 0.0) -> Run:
    """Return the run without future times. `backoff` is the pause in seconds that its recipe sets after a failure."""
    longest = LONGEST.get(item.waiting, max(backoff, *verdicts.BACKOFF)) if item.verdict or item.waiting else 0.0
    waits = {"next_try_at": longest, "followed_until": silence.HEARING, "kept_until": survivors.LONGEST}
    item = _repaired(item, now, ("created_at", "ended_at", "certain_at"), waits=waits)
    if item.verdict and item.verdict.at > now + SLACK:
        item = replace(item, verdict=replace(item.verdict, at=now))
    if item.stop and item.stop.at > now + SLACK:
        item = replace(item, stop=replace(item.stop, at=now))
    if item.joining and item.joining.next_try_at > now + SLACK + LONGEST.get(item.joining.waiting, joining.PAUSE):
        item = replace(item, joining=replace(item.joining, next_try_at=now))
    if item.ranks_stop and item.ranks_stop.at > now + SLACK:
        item = replace(item, ranks_stop=replace(item.ranks_stop, at=now, begin_at=0.0, kill_at=0.0))
    return item


def node(item: Node, now: float) -> Node:
    """Return the node without future times. If `result_sought_at` is in the future, the result is looked for again."""
    past = ("bound_at", "work_put_at", "peers_put_at", "stop_put_at", "reported_at", "archived_at")
    item = _repaired(item, now, past, again=("result_sought_at",))
    if item.verdict and item.verdict.at > now + SLACK:
        item = replace(item, verdict=replace(item.verdict, at=now))
    return item


def machine(item: KnownMachine, now: float) -> KnownMachine:
    """Return the machine without future times. If `end_asked_at` is in the future, termination is requested again."""
    past = ("bound_at", "seen_at", "impaired_at", "running_at", "ending_at", "end_wanted_at", "end_accepted_at")
    return _repaired(item, now, past, again=("alive_at", "end_asked_at"))


def launch(item: Launch, now: float) -> Launch:
    """Return the launch without future times."""
    return _repaired(item, now, ("created_at", "sent_at", "listed_at"), waits={"held_until": LONGEST_HELD})


def dry(item: Drought, now: float) -> Drought:
    return _repaired(item, now, waits={"until": capacity.LONGEST})


def health(item: TemplateHealth, now: float) -> TemplateHealth:
    return _repaired(item, now, ("failed_at",), waits={"probe_at": launching.PROBE_EVERY})


def repaired(live: Live, now: float, passed_at: float | None, known: Collection[str]) -> list[records.Record]:
    """Return corrected copies of the records that have a wrong time.

    `passed_at` is when the last pass ended, or None, and `known` are the ids of the runs that this pass read. Any other
    run was stored after the pass, so it cannot have been created long before `passed_at`.
    """

    def repaired_run(item: Run) -> Run:
        late = item.next_try_at > now + SLACK
        recipe = recipe_of(item) if late and item.verdict else None
        if passed_at is not None and item.id not in known and item.created_at < passed_at - SLACK:
            item = replace(item, created_at=now)
        return run(item, now, recipe.spec.retry.backoff if recipe else 0.0)

    pairs: list[tuple[records.Record, records.Record]] = []
    pairs += [(each, repaired_run(each)) for each in live.runs]
    pairs += [(each, node(each, now)) for each in live.nodes]
    pairs += [(each, machine(each, now)) for each in live.machines]
    pairs += [(each, launch(each, now)) for each in live.launches]
    pairs += [(each, dry(each, now)) for each in live.droughts]
    pairs += [(each, health(each, now)) for each in live.templates]
    return [new for old, new in pairs if new is not old]


def _repaired(
    item: Record,
    now: float,
    past: Collection[str] = (),
    *,
    again: Collection[str] = (),
    waits: Mapping[str, float] = MappingProxyType({}),
) -> Record:
    """Return the record with its future times corrected.

    Times of past events (`past`) become now. Times of calls (`again`) become None, so that the call is repeated. Times
    of future events (`waits`) become now, if they are later than now plus the longest wait in seconds.
    """
    longest = dict.fromkeys((*past, *again), 0.0) | dict(waits)
    late = [name for name, wait in longest.items() if (getattr(item, name) or 0.0) > now + SLACK + wait]
    changes: dict[str, Any] = {name: None if name in again else now for name in late}
    return replace(item, **changes) if changes else item
