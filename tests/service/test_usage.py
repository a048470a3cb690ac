"""Usage against the double's own history: owners, jobs, types, markets and days, to the cent."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.views.costs.usage import UsageRow
from provisioner.ports.control.usage import UsageQuery
from provisioner.rehearsal.ec2.conditions import Conditions, Interruption, PriceRule, Where
from tests.service.agents import Script
from tests.service.process_ports import Clock
from tests.service.world import World
from tests.support.billed import billed

CENT = 0.01

#: Dollars an hour, and dollars a month for a GiB of disk.
CONDITIONS: dict[str, Any] = {
    "boot_delay": 6.4,
    "end_delay": 31.7,
    "prices": (
        PriceRule(1.006, Where(type="g5.xlarge")),
        PriceRule(0.4021, Where("spot", "g5.xlarge")),
        PriceRule(0.526, Where(type="g4dn.xlarge")),
        PriceRule(0.1578, Where("spot", "g4dn.xlarge")),
    ),
    "disk": (0.08, 0.0, 0.0),
}


class Uneven(World):
    """A world in which the pauses between passes are uneven, as on a computer that has other work."""

    def __init__(self, chance: random.Random, *arguments: Any, **named: Any) -> None:
        self._chance = chance
        super().__init__(*arguments, **named)

    def installed(self, *arguments: Any) -> Any:
        made = super().installed(*arguments)
        clock = Clock(self.now, lambda: self.skew, lambda pause: self.advance(pause * self._chance.uniform(0.5, 1.5)))
        return replace(made, clock=clock)


def played(runs: int, seed: int, busy: float) -> World:
    """Return a world in which two owners started these runs, with failures, stops, interruptions and gangs."""
    chance = random.Random(seed)
    interruptions = tuple(Interruption(chance.uniform(30, 6000)) for _ in range(runs // 3))

    def script(_: int) -> Script:
        failed, long = chance.random() < 0.2, chance.random() < 0.15
        return Script(
            command=chance.uniform(3000, 5000) if long else chance.uniform(5, 900),
            exit_code=3 if failed else 0,
            setup=chance.uniform(0, 60),
        )

    world = Uneven(chance, Conditions(**CONDITIONS, interruptions=interruptions), script, busy=busy)
    for number in range(runs):
        spec = {
            "owner": ("ann", "lab/bob")[number % 2],
            "use_spot_instance": number % 3 > 0,
            "instance_type": ("g5.xlarge", "g4dn.xlarge")[number % 5 == 0],
            "retries": number % 2,
            "scale": 2 if number % 25 == 7 else 1,
            "tags": {"team": ("vision", "speech")[number % 4 > 1]},
            "limits": {"runtime": "3h"},
        }
        at = chance.uniform(0, 4 * 3600) if runs > 100 else chance.uniform(0, 900)

        def start(name: str = f"job-{number % 7}", spec: Mapping[str, Any] = spec, number: int = number) -> None:
            run = world.start(name, **spec)
            if number % 10 == 3:
                world.plan(world.now() - world.began + 900.0, lambda: world.runs.stop(run.id))

        world.plan(at, start)
    world.run()
    return world


#: Number of runs, and seconds between passes. `scripts/bench usage` does the same with 500 runs.
RUNS, BUSY = 40, 3.0


@pytest.fixture(scope="module")
def world() -> World:
    return played(RUNS, 16, BUSY)


def truth(world: World, *by: str) -> Mapping[tuple[str, ...], float]:
    """Return the dollars of machines and disks by group, from the double's history."""
    owners = {node.instance_id: world.store.run(node.run) for node in world.store.nodes(*_ids(world))}
    found = defaultdict[tuple[str, ...], float](float)
    for one in billed(world.model.every(), world.model.price, 8.0):
        run = owners[one.instance_id]
        assert run
        told = {
            "owner": run.owner,
            "job": f"{run.owner}/{run.job_name}",
            "instance_type": one.instance_type,
            "market": one.market,
        }
        found[tuple(told[name] for name in by)] += one.dollars + one.disk_dollars
    return found


def _ids(world: World) -> Sequence[str]:
    from provisioner.ports.store import RunFilter

    return [run.id for run in world.store.runs(RunFilter(limit=10_000))]


def rows(world: World, *by: str) -> Mapping[tuple[str, ...], UsageRow]:
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (world.began, world.now()))
    found = world.users.usage.read(UsageQuery(by, first, last))
    assert found.estimated.total == 0
    assert found.uncounted == 0
    return {row.group: row for row in found.rows}


@pytest.mark.parametrize("by", [(), ("owner",), ("job",), ("instance_type", "market")])
def test_usage_equals_the_doubles_own_history_to_the_cent(world: World, by: tuple[str, ...]) -> None:
    """The expected amounts are those of AWS's bill, and the bounds contain it."""
    told, known = rows(world, *by), truth(world, *by)
    assert told.keys() == known.keys()
    for group, dollars in known.items():
        amounts = told[group].final
        print(group, round(dollars, 4), round(amounts.total - dollars, 5), amounts)
        assert abs(amounts.total - dollars) < CENT, group
        least = amounts.dollars_at_least + amounts.disk_dollars_at_least
        most = amounts.dollars_at_most + amounts.disk_dollars_at_most
        assert least <= dollars <= most, group
