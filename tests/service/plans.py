"""A world as an explicit list of events: actions of users, conditions of the cloud, and failing calls.

A plan is data. It can be printed, pasted into a test, replayed after the code has changed, and shrunk.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from provisioner.core.cloud.caps.budget import Caps
from provisioner.core.run.records import Run
from provisioner.ports.store import Store
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.fakes.clock import StepClock
from tests.service.agents import Script
from tests.service.trouble import Aimed, Fates, Fault, Outage
from tests.service.violation import Violation
from tests.service.world import World


@dataclass(frozen=True)
class Start:
    """A user applies this recipe and starts a run of it."""

    at: float
    name: str
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """A user stops the run of the n-th `Start`, counted from 0."""

    at: float
    run: int


@dataclass(frozen=True)
class TurnClock:
    """From this time the control plane's clock is `ahead` seconds ahead of the true time."""

    at: float
    ahead: float


Deed = Start | Stop | TurnClock


@dataclass(frozen=True)
class WorldPlan:
    """Everything that happens to a world; times are seconds since it began."""

    deeds: tuple[Deed, ...]
    conditions: Conditions = field(default_factory=Conditions)
    #: The script of the n-th machine to boot; later machines have a plain script.
    scripts: tuple[Script, ...] = ()
    faults: tuple[Fault, ...] = ()
    outages: tuple[Outage, ...] = ()
    #: Seconds for which the control plane stays away after its n-th crash; 1 s after every later crash.
    downtimes: tuple[float, ...] = ()
    busy: float = 10.0
    max_machines: int | None = None
    #: Dollars a day; machines of unknown price count as free, otherwise their runs would wait for ever.
    dollars_a_day: float | None = None


def build(plan: WorldPlan, fates: Callable[[float], Fates] | None = None, store: Store | None = None) -> World:
    """Build the plan's world, not yet started; `fates`, called with the start time, replaces the plan's faults."""

    def script(number: int) -> Script:
        return plan.scripts[number] if number < len(plan.scripts) else Script()

    world = World(
        plan.conditions,
        script,
        fates(StepClock().now()) if fates else Aimed(plan.faults),
        busy=plan.busy,
        max_machines=plan.max_machines,
        caps=Caps(plan.dollars_a_day, unknown_prices=True),
        store=store,
        outages=plan.outages,
    )
    started: dict[int, Run] = {}
    starts = [deed for deed in plan.deeds if isinstance(deed, Start)]
    for number, start in enumerate(starts):
        world.plan(start.at, _starting(world, number, start, started))
    for deed in plan.deeds:
        if isinstance(deed, Stop):
            world.plan(deed.at, _stopping(world, deed, started))
        elif isinstance(deed, TurnClock):
            world.plan(deed.at, _turning(world, deed))
    return world


def _starting(world: World, number: int, start: Start, started: dict[int, Run]) -> Callable[[], None]:
    def deed() -> None:
        started[number] = world.start(start.name, **start.spec)

    return deed


def _stopping(world: World, stop: Stop, started: dict[int, Run]) -> Callable[[], None]:
    def deed() -> None:
        if stop.run in started:
            world.runs.stop(started[stop.run].id)

    return deed


def _turning(world: World, turn: TurnClock) -> Callable[[], None]:
    return lambda: world.turn_clock(turn.ahead)


def live(plan: WorldPlan, world: World) -> None:
    """Run the world to its end and check it; raises Violation."""
    downtimes = itertools.chain(plan.downtimes, itertools.repeat(1.0))
    world.run(lambda: next(downtimes))
    world.check()


def violation(plan: WorldPlan) -> str:
    """Return the rule that the plan's world breaks, or ""."""
    try:
        live(plan, build(plan))
    except Violation as error:
        return error.rule
    return ""


# Shrinking


def shrunk(plan: WorldPlan, rule: str) -> WorldPlan:
    """Return a smaller plan that breaks the same rule and needs every remaining event."""
    changed = True
    while changed:
        changed = False
        for name in ("faults", "deeds", "outages", "downtimes", "scripts"):
            plan, fewer = _without(plan, rule, name)
            changed = changed or fewer
        while (simpler := next((each for each in _simpler(plan) if violation(each) == rule), None)) is not None:
            plan, changed = simpler, True
    return plan


def _without(plan: WorldPlan, rule: str, name: str) -> tuple[WorldPlan, bool]:
    """Drop items of one list, in smaller and smaller pieces."""
    changed, piece = False, max(1, len(getattr(plan, name)))
    while piece:
        first = 0
        while first < len(items := getattr(plan, name)):
            changes: dict[str, Any] = {name: (*items[:first], *items[first + piece :])}
            shorter = replace(plan, **changes)
            if _sound(shorter) and violation(shorter) == rule:
                plan, changed = shorter, True
            else:
                first += piece
        piece //= 2
    return plan, changed


def _sound(plan: WorldPlan) -> bool:
    return any(isinstance(deed, Start) for deed in plan.deeds)


def _simpler(plan: WorldPlan) -> Iterator[WorldPlan]:
    """Yield the plan with one value reset to its default."""
    for number, script in enumerate(plan.scripts):
        for plainer in _defaults(script):
            yield replace(plan, scripts=(*plan.scripts[:number], plainer, *plan.scripts[number + 1 :]))
    for milder in _defaults(plan.conditions):
        yield replace(plan, conditions=milder)
    if plan.max_machines is not None:
        yield replace(plan, max_machines=None)
    if plan.dollars_a_day is not None:
        yield replace(plan, dollars_a_day=None)
    if plan.busy != 10.0:
        yield replace(plan, busy=10.0)


def _defaults(value: Any) -> Iterator[Any]:
    """Yield the value with one field reset to its default, or with one list item removed."""
    plain = type(value)()
    for each in fields(value):
        now, default = getattr(value, each.name), getattr(plain, each.name)
        if now == default:
            continue
        yield replace(value, **{each.name: default})
        if isinstance(now, tuple):
            for number in range(len(now)):
                yield replace(value, **{each.name: (*now[:number], *now[number + 1 :])})


def told(plan: WorldPlan) -> str:
    """Return the plan as Python source, without default values."""
    return _told(plan, 0)


def _told(value: Any, depth: int) -> str:
    inner = "    " * (depth + 1)
    if isinstance(value, tuple) and value and not isinstance(value[0], str | int | float):
        items = "".join(f"{inner}{_told(each, depth + 1)},\n" for each in value)
        return f"(\n{items}{'    ' * depth})"
    if hasattr(value, "__dataclass_fields__"):
        given = {
            each.name: getattr(value, each.name)
            for each in fields(value)
            if getattr(value, each.name) != _default(each)
        }
        parts = [f"{name}={_told(item, depth + 1)}" for name, item in given.items()]
        if isinstance(value, WorldPlan | Conditions):
            lines = "".join(f"{inner}{part},\n" for part in parts)
            return f"{type(value).__name__}(\n{lines}{'    ' * depth})"
        return f"{type(value).__name__}({', '.join(parts)})"
    if hasattr(value, "value"):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        return repr(round(value, 3))
    return repr(value)


def _default(each: Any) -> Any:
    if callable(each.default_factory):
        return each.default_factory()
    return each.default
