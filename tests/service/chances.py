"""Worlds by chance: everything about one follows from its seed."""

import random
from collections.abc import Callable
from typing import Any

from provisioner.core.launch import Market
from provisioner.core.work import Outcome, Step
from provisioner.ports.store import Store
from provisioner.rehearsal.conditions import Breakdown, Capacity, Conditions, Interruption, PriceRule, Quota, Where
from tests.service.agents import Script
from tests.service.trouble import Chance, Fate, Outage
from tests.service.world import World

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
TYPES = ("g5.xlarge", "g5.2xlarge", "g6.xlarge")


def world(seed: int, store: Store | None = None) -> World:
    """The world of that seed, with all that its users will do planned."""
    dice = random.Random(seed)
    # After its peace a world is left alone, so that all in it must come to its end.
    peace = 1_800_000_000.0 + dice.choice((300.0, 1800.0, 7200.0))
    away: list[tuple[float, float]] = []
    whole = World(
        _conditions(dice, peace - 1_800_000_000.0),
        _scripts(dice),
        _fates(dice, peace, away),
        busy=dice.choice((5.0, 10.0, 10.0, 30.0)),
        max_machines=dice.choice((None, None, 1, 2)),
        store=store,
    )
    whole.away = away
    for _ in range(dice.randint(1, 5)):
        _plan_run(dice, whole)
    for _ in range(dice.choice((0, 0, 1, 3))):
        whole.plan(dice.uniform(0, 900), lambda: whole.turn_clock(dice.uniform(-20, 20)))
    # Nothing is decided by a wrong clock, so in the end it is right.
    whole.plan(peace - 1_800_000_000.0, lambda: whole.turn_clock(0.0))
    return whole


def _conditions(dice: random.Random, peace: float) -> Conditions:
    slow = dice.random() < 0.5
    return Conditions(
        boot_delay=dice.uniform(0, 90) if slow else 0.0,
        end_delay=dice.uniform(0, 120) if slow else 0.0,
        lag=dice.choice((0.0, 0.0, 5.0, 40.0)),
        template_lag=dice.choice((0.0, 0.0, 3.0)),
        capacity=(*(_capacity(dice) for _ in range(dice.choice((0, 0, 1, 4)))), Capacity(None, at=peace)),
        prices=tuple(PriceRule(dice.uniform(0.1, 2), Where(type=kind)) for kind in TYPES if dice.random() < 0.7),
        quotas=(Quota(dice.choice((8, 12)), Where(market=dice.choice(list(Market)))),) if dice.random() < 0.15 else (),
        interruptions=tuple(
            Interruption(dice.uniform(1, 200), dice.choice((0.0, 120.0, 120.0)), times=dice.randint(1, 3))
            for _ in range(dice.choice((0, 0, 1, 2)))
        ),
        breakdowns=tuple(_breakdown(dice) for _ in range(dice.choice((0, 0, 1)))),
    )


def _capacity(dice: random.Random) -> Capacity:
    where = Where(dice.choice(("*", "spot", "on-demand")), dice.choice(("*", *TYPES)), dice.choice(("*", *ZONES)))
    return Capacity(dice.choice((0, 0, 1, 2, None)), where, dice.choice((0.0, dice.uniform(0, 300))))


def _breakdown(dice: random.Random) -> Breakdown:
    code = dice.choice(("Server.InternalError", "Server.InsufficientInstanceCapacity", "Client.InternalError"))
    return Breakdown(dice.uniform(0, 100), code, "made up", times=dice.randint(1, 4))


def _scripts(dice: random.Random) -> Callable[[int], Script]:
    mishaps = dice.choice((0.0, 0.1, 0.5))

    def script(_: int) -> Script:
        plain = Script(
            boot=dice.uniform(0, 40),
            pull=dice.uniform(0, 60),
            setup=dice.choice((0.0, dice.uniform(0, 60))),
            command=dice.choice((0.0, dice.uniform(0, 120), dice.uniform(0, 900))),
            exit_code=dice.choice((0, 0, 0, 1, 137)),
            exit_on_notice=dice.choice((0, 143)),
            skew=dice.choice((0.0, dice.uniform(-90, 90))),
        )
        if dice.random() >= mishaps:
            return plain
        after = dice.uniform(0, 300)
        return Script(
            **vars(plain)
            | dice.choice(
                (
                    {"fails": dice.choice((Step.PULL, Step.SETUP)), "fails_as": dice.choice(list(Outcome)[1:])},
                    {"silent_at": after},
                    {"silent_at": after, "fuse": False},
                    {"off_at": after},
                    {"restart_at": after},
                    {"deaf": True},
                    {"mute": True},
                    {"mute": True, "command": 900.0},
                    {"boot": 5000.0},
                    {"command": 5000.0},
                    {"pull": 5000.0},
                    {"silent_at": 0.0, "fuse": False},
                )
            )
        )

    return script


def _fates(dice: random.Random, peace: float, away: list[tuple[float, float]]) -> Chance:
    rates: dict[Fate, float] = {fate: dice.choice((0.0, 0.0, 0.002, 0.02)) for fate in Fate if fate is not Fate.NONE}
    outages = []
    for port in ("cloud", "bucket", "mailbox"):
        if dice.random() < 0.25:
            begins = 1_800_000_000.0 + dice.uniform(0, 600)
            outages.append(Outage(port, begins, begins + dice.choice((30.0, 300.0, 1500.0))))
    if dice.random() < 0.1:
        begins = 1_800_000_000.0 + dice.uniform(0, 600)
        away.append((begins, begins + 900.0))
        outages += [Outage(port, begins, begins + 900.0) for port in ("bucket", "mailbox")]
    return Chance(random.Random(dice.random()), rates, outages, peace)


def _plan_run(dice: random.Random, whole: World) -> None:
    types = dice.sample(TYPES, dice.randint(1, 2))
    spec: dict[str, Any] = {
        "instance_type": types[0],
        "use_spot_instance": dice.random() < 0.6,
        "retries": dice.choice((0, 0, 2)),
        "placement": {
            "instance_types": types[1:],
            "zones": sorted(dice.sample(ZONES, dice.choice((1, 3)))),
            "spot_fallback": dice.random() < 0.5,
        },
        "limits": {
            "queue_time": dice.choice(("never", "never", "10m")),
            "silence": dice.choice(("never", "never", "3m")),
        },
        "owner": dice.choice(("tester", "rich")),
        "retry": {
            "on": dice.choice(([], [], [137])),
            "backoff": dice.choice(("now", "2m")),
            "rerun": dice.choice(("always", "before_start")),
        },
    }
    if dice.random() < 0.2:
        spec["placement"]["disk_size"] = "300Gi"
    name = f"job-{dice.randint(0, 2)}"
    began = dice.choice((0.0, dice.uniform(0, 600)))

    def start() -> None:
        run = whole.start(name, **spec)
        if dice.random() < 0.25:
            whole.plan(began + dice.uniform(0, 500), lambda: whole.runs.stop(run.id))

    whole.plan(began, start)
