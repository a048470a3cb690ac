"""Random worlds: the whole plan of a world follows from its seed."""

import random
from dataclasses import dataclass, replace
from typing import Any

from provisioner.core.cloud.offers import OPEN_MARKETS
from provisioner.core.protocol.words import Outcome, Step
from provisioner.ports.store import Store
from provisioner.rehearsal.ec2.conditions import (
    Breakdown,
    Capacity,
    Conditions,
    FleetLimit,
    Interruption,
    PriceRule,
    Quota,
    Unheeded,
    Where,
    ZoneTrouble,
)
from provisioner.rehearsal.machines.script import CommandScript
from tests.service.agents import Script
from tests.service.plans import Deed, Start, Stop, TurnClock, WorldPlan, build
from tests.service.trouble import Chance, Fate, Outage
from tests.service.world import World

ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
TYPES = ("g5.xlarge", "g5.2xlarge", "g6.xlarge")
#: The number of machines with a script of their own; a run that keeps losing attempts uses most of them.
SCRIPTS = 30
#: Calls that start or end a machine or a command. They are rare, so faults are aimed at them.
AIMED = {
    ("cloud", "launch"),
    ("cloud", "terminate"),
    ("cloud", "machines_of"),
    ("mailbox", "put result"),
    ("mailbox", "put started"),
    ("bucket", "put work"),
    ("bucket", "put peers"),
    ("store", "save Launch"),
    # The handing out of a list's commands, and their records on the way to the archive.
    ("bucket", "put chunks"),
    ("bucket", "put records"),
    ("mailbox", "put records"),
    ("store", "save CommandList"),
    ("store", "save Worker"),
}
AIMED_RATE = 0.15
#: The share of the starts that have a list of commands.
LISTS = 0.25
#: Maximum number of machines of a run.
LARGEST_SCALE = 4


@dataclass(frozen=True)
class Lot:
    """The draw of a seed: a plan without faults, and the rates of faults until the quiet phase begins."""

    plan: WorldPlan
    seed: int
    rates: dict[Fate, float]
    #: Begin of the phase without faults, in seconds since the world's start.
    peace: float

    def fates(self, began: float) -> Chance:
        aimed: dict[Fate, float] = {fate: AIMED_RATE for fate, rate in self.rates.items() if rate}
        return Chance(random.Random(self.seed), self.rates, began + self.peace, AIMED, aimed)


def lot(seed: int) -> Lot:
    """Return the draw of the seed."""
    dice = random.Random(seed)
    # After `peace` no faults occur, so that everything in the world must come to its end.
    peace = dice.choice((300.0, 1800.0, 7200.0))
    rates: dict[Fate, float] = {fate: dice.choice((0.0, 0.0, 0.002, 0.02)) for fate in Fate if fate is not Fate.NONE}
    deeds, conditions = tuple(_deeds(dice, peace)), _conditions(dice, peace)
    most = dice.choice((None, None, 1, 2))
    # A run whose machines never fit into a quota or a limit would wait for ever.
    largest = 1 if conditions.quotas else most or LARGEST_SCALE
    plan = WorldPlan(
        deeds=tuple(_fitting(deed, largest) for deed in deeds),
        conditions=conditions,
        scripts=_scripts(dice),
        outages=tuple(_outages(dice, peace)),
        downtimes=tuple(dice.choice((1.0, 1.0, 30.0, 400.0, 2000.0)) for _ in range(20)),
        busy=dice.choice((5.0, 10.0, 10.0, 30.0)),
        max_machines=most,
        # A run of one machine may cost up to $1.50, if it lives to the end of its lifetime.
        dollars_a_day=dice.choice((None,) * 6 + (1.6, 8.0)),
    )
    return Lot(plan, seed, rates, peace)


def _fitting(deed: Deed, largest: int) -> Deed:
    """Return the deed, with at most `largest` machines if it starts a run."""
    if not isinstance(deed, Start) or deed.spec.get("scale", 1) <= largest:
        return deed
    placement = {name: value for name, value in deed.spec["placement"].items() if name != "group" or largest > 1}
    return replace(deed, spec={**deed.spec, "scale": largest, "placement": placement})


def world(seed: int, store: Store | None = None) -> World:
    """Build the world of the seed, with all planned actions of its users."""
    drawn = lot(seed)
    return build(drawn.plan, lambda began: drawn.fates(began), store)


def recorded(seed: int, played: World) -> WorldPlan:
    """Return the plan of the seed's world with the faults that it met, which replays the same world."""
    return replace(lot(seed).plan, faults=tuple(played.met))


def _conditions(dice: random.Random, peace: float) -> Conditions:
    slow = dice.random() < 0.5
    return Conditions(
        boot_delay=dice.uniform(0, 90) if slow else 0.0,
        end_delay=dice.uniform(0, 120) if slow else 0.0,
        lag=dice.choice((0.0, 0.0, 5.0, 40.0)),
        flap=dice.choice((0.0, 0.0, 5.0, 40.0)),
        template_lag=dice.choice((0.0, 0.0, 3.0)),
        capacity=(*(_capacity(dice) for _ in range(dice.choice((0, 0, 1, 4)))), Capacity(None, at=peace)),
        prices=tuple(PriceRule(dice.uniform(0.1, 2), Where(type=kind)) for kind in TYPES if dice.random() < 0.7),
        quotas=(Quota(dice.choice((8, 12)), Where(market=dice.choice(OPEN_MARKETS))),) if dice.random() < 0.15 else (),
        interruptions=tuple(
            Interruption(dice.uniform(1, 200), dice.choice((0.0, 120.0, 120.0)), times=dice.randint(1, 3))
            for _ in range(dice.choice((0, 0, 1, 2)))
        ),
        breakdowns=tuple(_breakdown(dice) for _ in range(dice.choice((0, 0, 1)))),
        zone_troubles=tuple(
            ZoneTrouble(begins := dice.uniform(0, 600), begins + dice.choice((30.0, 600.0)), dice.choice(ZONES))
            for _ in range(dice.choice((0, 0, 0, 1)))
        ),
        fleet_limits=tuple(
            FleetLimit(begins := dice.uniform(0, 600), begins + dice.uniform(10, 300))
            for _ in range(dice.choice((0, 0, 0, 1)))
        ),
        unheeded=(Unheeded(dice.choice((1, 1, 3))),) if dice.random() < 0.3 else (),
        replay_errors=dice.random() < 0.3,
    )


def _capacity(dice: random.Random) -> Capacity:
    where = Where(dice.choice(("*", "spot", "on-demand")), dice.choice(("*", *TYPES)), dice.choice(("*", *ZONES)))
    return Capacity(dice.choice((0, 0, 1, 2, None)), where, dice.choice((0.0, dice.uniform(0, 300))))


def _breakdown(dice: random.Random) -> Breakdown:
    code = dice.choice(("Server.InternalError", "Server.InsufficientInstanceCapacity", "Client.InternalError"))
    return Breakdown(dice.uniform(0, 100), code, "made up", times=dice.choice((1, 2, 4, 8)))


def _scripts(dice: random.Random) -> tuple[Script, ...]:
    mishaps, fuse = dice.choice((0.0, 0.1, 0.5, 0.9)), dice.random() < 0.5
    # If every machine fails in the same way, runs reach the caps on lost attempts.
    always = _mishap(dice) if dice.random() < 0.1 else None
    # A command that panics does so on every machine.
    panics = frozenset(dice.sample(range(60), dice.choice((0,) * 4 + (1, 2))))
    scripts = [_script(dice, mishaps, always, fuse) for _ in range(SCRIPTS)]
    return tuple(replace(each, commands=replace(each.commands, panics=panics)) for each in scripts)


def _script(dice: random.Random, mishaps: float, always: dict[str, Any] | None, fuse: bool) -> Script:
    plain = Script(
        boot=dice.uniform(0, 40),
        pull=dice.uniform(0, 60),
        setup=dice.choice((0.0, dice.uniform(0, 60))),
        command=dice.choice((0.0, dice.uniform(0, 120), dice.uniform(0, 900))),
        exit_code=dice.choice((0, 0, 0, 1, 137)),
        exit_on_notice=dice.choice((0, 143)),
        skew=dice.choice((0.0, dice.uniform(-90, 90))),
        fuse=fuse,
        commands=_commands(dice),
    )
    mishap = always or _mishap(dice)
    return replace(plain, **mishap) if always or dice.random() < mishaps else plain


def _commands(dice: random.Random) -> CommandScript:
    return CommandScript(
        seconds=dice.choice((0.2, 5.0, dice.uniform(1, 60))),
        spread=dice.choice((0.0, 1.0)),
        fails=frozenset(dice.sample(range(60), dice.choice((0, 0, 10)))),
        all_fail=dice.random() < 0.05,
        output=dice.choice((0, 10, 200)),
        chunk=dice.choice((1 << 20, 1 << 20, 41)),
    )


def _mishap(dice: random.Random) -> dict[str, Any]:
    after = dice.uniform(0, 300)
    mishaps: tuple[dict[str, Any], ...] = (
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
    return dice.choice(mishaps)


def _outages(dice: random.Random, peace: float) -> list[Outage]:
    outages = []
    for port in ("cloud", "bucket", "mailbox"):
        if dice.random() < 0.25:
            begins = dice.uniform(0, 600)
            outages.append(Outage(port, begins, min(begins + dice.choice((30.0, 300.0, 1500.0)), peace)))
    if dice.random() < 0.1:
        begins = dice.uniform(0, 600)
        outages += [Outage(port, begins, min(begins + 900.0, peace)) for port in ("bucket", "mailbox")]
    return [each for each in outages if each.begins < each.ends]


def _deeds(dice: random.Random, peace: float) -> list[Deed]:
    deeds: list[Deed] = []
    for number in range(dice.randint(1, 5)):
        start = Start(dice.choice((0.0, dice.uniform(0, 600))), f"job-{dice.randint(0, 2)}", _spec(dice))
        deeds.append(start)
        if dice.random() < 0.3:
            # The stop may come during the run's launch, or before any listing shows the run's machine.
            deeds.append(Stop(start.at + dice.choice((dice.uniform(0, 60), dice.uniform(0, 500))), number))
    turns = [TurnClock(dice.uniform(0, 900), dice.uniform(-20, 20)) for _ in range(dice.choice((0, 0, 1, 3)))]
    # The control plane decides nothing while its clock is wrong, so in the end the clock is right.
    return [*deeds, *turns, *([TurnClock(max(peace, 900.0), 0.0)] if turns else [])]


def _spec(dice: random.Random) -> dict[str, Any]:
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
            "rerun": dice.choice(("always", "always", "before_start")),
        },
    }
    if dice.random() < 0.2:
        spec["placement"]["disk_size"] = "300Gi"
    if dice.random() < 0.3:
        spec["scale"] = dice.randint(2, LARGEST_SCALE)
        if spec["scale"] > 2:
            spec["placement"]["group"] = "cluster"
        gang = dice.choice(({}, {}, {"success": "leader"}, {"success": "leader", "workers": "ignore"}))
        survivors = dice.choice(({}, {"survivors": "keep"}, {"survivors": "release"}))
        spec["gang"] = gang | ({} if "group" in spec["placement"] else survivors)
    if dice.random() < LISTS:
        # The machines of a list do not work together, and it has no rules for its single command.
        spec = {name: value for name, value in spec.items() if name not in ("gang", "retry")}
        spec["placement"].pop("group", None)
        spec |= {
            "scale": dice.choice((1, 1, dice.randint(2, LARGEST_SCALE))),
            "command": [f"echo {number}" for number in range(dice.choice((1, 3, dice.randint(1, 60))))],
            "nprocs": dice.randint(1, 4),
            "list": {
                "limit": dice.choice(("never", "never", "20s")),
                "retries": dice.choice((0, 0, 1, 3)),
                "retry_on": dice.choice(([], [], [1], [2, "limit"])),
                "max_failures": dice.choice(("never", "never", "never", 0, 3, 12)),
                "on_max": dice.choice(("finish", "kill")),
                "restart_lost": dice.random() < 0.85,
            },
        }
    return spec
