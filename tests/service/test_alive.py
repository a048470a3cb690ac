"""The overview of live runs: totals, and the most urgent runs first."""

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Price
from provisioner.core.protocol.messages import Notice
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.silence import SILENT
from provisioner.core.run.records import Record, Verdict
from provisioner.core.run.states import State, Waiting
from tests.service.world import World
from tests.support import samples


def world() -> World:
    """Return a world with a run in each situation.

    One run's machine is silent, and one is under notice. An old and a young run are at work, two runs wait, and one run
    is between attempts.
    """
    world = World()
    now = world.now()
    verdict = Verdict(Outcome.INTERRUPTED, "taken", now - 10)
    records: list[Record] = []
    for name, heard, notice, age in (
        ("young", 1.0, None, 60.0),
        ("old", 1.0, None, 6000.0),
        ("silent", SILENT + 1, None, 600.0),
        ("noticed", 1.0, Notice(now + 60, now), 30.0),
    ):
        said = samples.report(Step.COMMAND, began=now - 20, at=now - heard, notice=notice)
        node = samples.node(id=f"{name}.1.0", run=name, instance_id=f"i-{name}", report=said, reported_at=now - heard)
        price = Price(1.0, "test", now) if name != "young" else None
        machine = samples.machine(id=f"i-{name}", launch_time=now - 20, state=MachineState.RUNNING, price=price)
        records += [samples.at_work(id=name, created_at=now - age), node, machine]
    gone = {"state": MachineState.TERMINATED, "ended_at": now - 10, "ending_at": now - 10}
    records += [
        samples.run("dry", created_at=now - 9000, waiting=Waiting.CAPACITY, next_try_at=now + 30),
        samples.run("dry2", created_at=now - 8000, waiting=Waiting.CAPACITY, next_try_at=now + 10),
        samples.at_work(State.QUEUED, id="again", created_at=now - 100, next_try_at=now, verdict=verdict),
        samples.node(id="again.1.0", run="again", instance_id="i-again"),
        samples.machine(id="i-again", launch_time=now - 100, price=Price(36.0, "test", now), **gone),
    ]
    world.store.save(records)
    return world


def test_overview_lists_silent_and_noticed_runs_first() -> None:
    """Silent runs come first, then runs under notice, then runs with machines by age, then waiting runs by age.

    Only as many rows are returned as requested.
    """
    here = world()
    found = here.runs.overview(100)
    assert [each.run.id for each in found.runs] == ["silent", "noticed", "old", "young", "dry", "dry2", "again"]
    assert found.more == 0
    few = here.runs.overview(2)
    assert ([each.run.id for each in few.runs], few.more) == (["silent", "noticed"], 5)
    assert few.states == {State.RUNNING: 4, State.QUEUED: 3}


def test_money_and_waiting_are_counted_over_all() -> None:
    """The totals do not depend on the rows: price per hour, unpriced machines, and waiting runs by cause."""
    here = world()
    found = here.runs.overview(0)
    assert (found.machines, found.dollars_an_hour, found.unpriced) == (4, 3.0, 1)
    assert [(each.cause, each.runs, each.next_try_at - here.now()) for each in found.waiting] == [
        ("capacity", 2, 10.0),
        ("the next attempt", 1, 0.0),
    ]


def test_a_row_has_the_cost_of_all_its_attempts() -> None:
    """The cost includes ended machines and is unknown without a price; between attempts a run has no machine."""
    rows = {each.run.id: each for each in world().runs.overview(100).runs}
    assert rows["again"].machine is None
    assert rows["again"].dollars_at_most == 0.91
    assert rows["young"].dollars_at_most is None
    assert rows["dry"].dollars_at_most == 0.0
    assert rows["old"].machine is not None


def test_machines_that_need_attention_come_first_and_then_the_oldest() -> None:
    here = world()
    here.store.save([samples.machine(id="i-older", launch_time=here.now() - 500, lifetime=3600.0)])
    found = here.runs.machines(100)
    assert [each.machine.id for each in found.machines][:3] == ["i-silent", "i-noticed", "i-older"]
    assert {each.machine.id for each in found.machines[3:]} == {"i-old", "i-young"}
    few = here.runs.machines(1)
    assert ([each.machine.id for each in few.machines], few.more) == (["i-silent"], 4)


def test_machine_has_its_run_its_cost_and_the_end_of_its_lifetime() -> None:
    here = world()
    now = here.now()
    here.store.save([samples.machine(id="i-builder", launch_time=now - 500, lifetime=3600.0)])
    found = {each.machine.id: each for each in here.runs.machines(100).machines}
    old = found["i-old"]
    assert (old.run, old.attempt, old.rank, old.state, old.step) == ("old", 1, 0, State.RUNNING, Step.COMMAND)
    assert old.dollars_at_most == pytest.approx(60 / 3600)
    assert found["i-young"].dollars_at_most is None
    assert found["i-silent"].silent_since == now - SILENT - 1
    assert found["i-noticed"].notice_at == now + 60
    builder = found["i-builder"]
    assert (builder.run, builder.dollars_at_most, builder.lifetime_ends_at) == (None, None, now + 3100)


def test_lifetime_in_a_forged_tag_can_be_shown() -> None:
    here = World()
    here.store.save([samples.machine(id="i-forged", launch_time=here.now(), lifetime=1e300)])
    [found] = here.runs.machines(1).machines
    assert found.lifetime_ends_at is not None
    assert found.lifetime_ends_at < here.now() + 1e9


def test_foreign_machines_are_known_to_every_process() -> None:
    """Machines of foreign launches that a pass saw are known to other processes; each is logged once."""
    here = World()
    here.start()
    _, service = here.incarnate()
    while not here.model.alive(here.now()):
        service.operator.step()
        here.advance(10)
    # The store loses the launch, so the machine is foreign.
    other = World()
    other.cloud, other.model, other.clock = here.cloud, here.model, here.clock
    _, acting = other.incarnate()
    _, looking = other.incarnate()
    acting.operator.step()
    acting.operator.step()
    [seen] = looking.operator.foreign()
    assert seen == here.store.nodes(here.store.runs()[0].id)[0].instance_id
    told = [line for line in other.journal.told if "until its lifetime ends" in str(line.get("error"))]
    assert [line["instance"] for line in told] == [seen]
