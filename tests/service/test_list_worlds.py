"""Worlds with one list, each with a fault at the moment when it is most dangerous."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.commands.records import CommandList
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions
from provisioner.rehearsal.machines.script import CommandScript
from tests.service import plans
from tests.service.agents import Script
from tests.service.list_truth import RECORDS
from tests.service.plans import Start, Stop, WorldPlan
from tests.service.rules import RUNTIME_LIMIT
from tests.service.trouble import Fate, Fault
from tests.service.world import World

TEN_SECONDS = Script(pull=5.0, commands=CommandScript(seconds=10.0, output=20))


def listed(count: int, *more: Any, **changes: Any) -> WorldPlan:
    """Return the plan of a world with a list of so many commands, two at once."""
    spec = {"command": [f"echo {number}" for number in range(count)], "nprocs": 2}
    plan = WorldPlan((Start(at=0.0, name="job", spec=spec), *more), scripts=(TEN_SECONDS,) * 9)
    return replace(plan, **changes)


def played(plan: WorldPlan) -> tuple[World, Run, CommandList]:
    """Run the plan's world to its end, check its rules, and return it with its run and list."""
    world = plans.build(plan)
    plans.live(plan, world)
    (run,) = world.store.runs()
    commands = world.store.command_list(run.id)
    assert commands
    return world, run, commands


def test_records_count_though_the_machine_never_got_the_answer_and_lost_its_power() -> None:
    """The machine would have put the same bytes again. Its first two commands do not run again.

    The control plane cannot read the records at once, and only then is the machine listed as terminated.
    """
    calm, _, _ = played(listed(8))
    put = next(call for call in calm.calls if call.port == "mailbox" and re.search("/records/", call.about))
    booted = next(iter(calm.agents.values())).instance.launch_time
    faults = (Fault(Fate.LOSE, "mailbox", "put", put.about, 1), Fault(Fate.REFUSE, "bucket", "get", put.about, 1))
    dies = replace(TEN_SECONDS, off_at=put.at - booted + 1.0)
    world, run, commands = played(listed(8, scripts=(dies, TEN_SECONDS), faults=faults))
    assert world.met == list(faults)
    assert RECORDS.fullmatch(put.about)
    assert (commands.succeeded, commands.retried, run.attempt) == (8, 2, 2)
    assert {index for _, index, generation in world.lists.begun if generation == 2} == {2, 3}


def test_a_machine_works_on_while_the_control_plane_is_away_for_five_minutes() -> None:
    """It has the commands of the next 330 s, once the length of its commands is known."""
    calm, run, _ = played(listed(80))
    passes = sum(call.method == "live" and call.at < calm.began + 80.0 for call in calm.calls)
    fault = Fault(Fate.CRASH_BEFORE, "store", "live", "", passes)
    world, later, commands = played(listed(80, faults=(fault,), downtimes=(300.0,)))
    assert world.met == [fault]
    assert (commands.succeeded, commands.retried, len(world.agents)) == (80, 0, 1)
    assert run.ended_at
    assert later.ended_at
    assert later.ended_at - run.ended_at < 30.0


def test_a_list_that_its_machine_ends_at_the_limit_has_timed_out() -> None:
    """The control plane is away when the limit passes, so it never ordered a stop. Seed 991897 found it."""
    long = Script(pull=5.0, commands=CommandScript(seconds=2 * RUNTIME_LIMIT, output=20))
    plan = listed(2, scripts=(long,), downtimes=(2 * RUNTIME_LIMIT,))
    calm = plans.build(replace(plan, downtimes=()))
    plans.live(plan, calm)
    passes = sum(call.method == "live" and call.at < calm.began + 100.0 for call in calm.calls)
    fault = Fault(Fate.CRASH_BEFORE, "store", "live", "", passes)
    world, run, commands = played(replace(plan, faults=(fault,)))
    assert world.met == [fault]
    assert run.verdict
    assert (run.verdict.outcome, commands.cancelled) == (Outcome.TIMED_OUT, 2), run.verdict


def shared(count: int, **changes: Any) -> WorldPlan:
    """Return the plan of a world with a list of so many commands of 40 s on three machines, two at once on each."""
    spec = {"command": [f"echo {number}" for number in range(count)], "nprocs": 2, "scale": 3}
    scripts = (Script(pull=5.0, commands=CommandScript(seconds=40.0, output=20)),) * 9
    return replace(WorldPlan((Start(at=0.0, name="job", spec=spec),), scripts=scripts), **changes)


def test_idle_machines_get_commands_of_busy_ones_and_then_end() -> None:
    world, run, commands = played(shared(24))
    workers = world.store.workers(run.id)
    assert (len(workers), commands.succeeded, commands.retried) == (3, 24, 0)
    assert [worker.released_at is None for worker in workers] == [True, False, False]
    assert world.lists.given_back, "nothing was recalled"
    assert min(worker.ended for worker in workers) >= 6


@pytest.mark.parametrize("fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER])
def test_a_process_may_die_at_each_save_of_a_recall(fate: Fate) -> None:
    """Between the machine's answer and the new assignment too."""
    calm, _, _ = played(shared(24))
    (first, *_) = [call.at for call in calm.calls if call.about.startswith("machines/") and "/chunks/" in call.about]
    saves = [call for call in calm.calls if (call.port, call.method) == ("store", "save") and "Batch" in call.about]
    late = [call for call in saves if call.at > first + 100.0]
    names = Counter(call.about for call in saves if call.at <= first + 100.0)
    for call in late:
        names[call.about] += 1
        fault = Fault(fate, "store", "save", call.about, names[call.about])
        world, _, commands = played(shared(24, faults=(fault,)))
        assert world.met == [fault]
        assert (commands.succeeded, commands.retried) == (24, 0), fault


def test_a_list_goes_on_with_fewer_machines_while_there_is_no_capacity_for_another() -> None:
    """One machine is lost in a drought, which ends later; then another one joins."""
    none = Capacity(0, at=60.0), Capacity(None, at=260.0)
    dies = Script(pull=5.0, commands=CommandScript(seconds=40.0, output=20), off_at=80.0)
    plan = shared(60, conditions=Conditions(capacity=none))
    world, run, commands = played(replace(plan, scripts=(plan.scripts[0], dies, *plan.scripts[1:])))
    assert (run.attempt, commands.succeeded) == (1, 60)
    workers = sorted(world.store.workers(run.id), key=lambda worker: worker.rank)
    assert [worker.rank for worker in workers][:3] == [0, 1, 2]
    assert workers[-1].rank > 2
    assert workers[-1].ended > 0


def test_a_stopped_list_of_many_blocks_is_sealed_though_the_process_dies_half_way() -> None:
    """One transaction seals ten blocks."""
    fault = Fault(Fate.CRASH_AFTER, "store", "save", "Block CommandList", 1)
    world, run, commands = played(listed(90, Stop(at=60.0, run=0), faults=(fault,)))
    assert world.met == [fault]
    assert run.verdict
    assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.CANCELLED, None)
    assert commands.not_run > 10 * commands.block_size
    assert commands.succeeded + commands.cancelled + commands.not_run == 90
