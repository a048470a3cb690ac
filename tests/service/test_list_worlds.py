"""Worlds with one list, each with a fault at the moment when it is most dangerous."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.commands.records import CommandList
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from provisioner.core.views.commands import CommandState
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


POISON = frozenset({3})


def test_a_command_that_panics_its_machine_is_lost_after_three_machines_and_no_other_is() -> None:
    """It runs alone on the third; its neighbour in the other slot, which also saw two machines die, succeeds."""
    dies = Script(pull=5.0, commands=CommandScript(seconds=10.0, panics=POISON, output=20))
    world, run, commands = played(listed(12, scripts=(dies,) * 9))
    assert (commands.succeeded, commands.lost, run.attempt) == (11, 1, 3)
    shown = world.users.commands.get(run.id, 3)
    assert (shown.state, shown.deaths) == (CommandState.LOST, 3)
    assert sum(index == 3 for _, index, _ in world.lists.begun) == 3
    assert run.verdict
    assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.FAILED, 1)


def test_a_command_that_panics_at_once_is_found_though_no_report_names_it() -> None:
    dies = Script(pull=5.0, commands=CommandScript(seconds=0.5, panics=POISON, output=20))
    _, _, commands = played(listed(12, scripts=(dies,) * 9))
    assert (commands.succeeded, commands.lost) == (11, 1)


def test_a_machine_that_fails_everything_at_once_does_not_use_up_the_list() -> None:
    """Its commands run once more elsewhere, and a new machine takes its place."""
    bad = Script(pull=5.0, commands=CommandScript(seconds=0.01, all_fail=True))
    plan = shared(90)
    world, run, commands = played(replace(plan, scripts=(plan.scripts[0], bad, *plan.scripts[1:])))
    assert (commands.succeeded, commands.failed) == (90, 0)
    assert commands.repeated >= 20
    doubted = [worker.rank for worker in world.store.workers(run.id) if worker.doubted_at is not None]
    assert doubted == [1]
    texts = [event.text for event in world.store.events(run.id)]
    assert sum("a bad machine" in text for text in texts) == 1


@pytest.mark.parametrize("how", ["finish", "kill"])
def test_a_list_with_too_many_failures_ends_early(how: str) -> None:
    """Commands that run finish or are killed; nothing else begins, and the failures have their records."""
    script = Script(
        pull=5.0, commands=CommandScript(seconds=40.0, spread=1.0, fails=frozenset({0, 1, 2, 3}), output=20)
    )
    options = {"max_failures": 2, "on_max": how}
    spec = {"command": [f"echo {number}" for number in range(90)], "nprocs": 2, "scale": 3, "list": options}
    plan = replace(shared(90), deeds=(Start(at=0.0, name="job", spec=spec),), scripts=(script,) * 9)
    world, run, commands = played(plan)
    assert run.verdict
    assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.FAILED, 1)
    assert "more than list.max_failures (2)" in run.verdict.reason
    assert 3 <= commands.failed <= 4
    assert commands.not_run > 60
    assert bool(commands.cancelled) == (how == "kill")
    assert commands.lost == 0
    last = world.users.commands.get(run.id, 89)
    assert (last.state, last.why) == (CommandState.NOT_RUN, "max_failures")
    assert any("the list ends early" in event.text for event in world.store.events(run.id))


def test_lost_commands_are_left_if_the_recipe_says_so() -> None:
    """Commands that the lost machine had not begun run on the next one."""
    dies = replace(TEN_SECONDS, off_at=42.0)
    spec = {"command": [f"echo {number}" for number in range(12)], "nprocs": 2, "list": {"restart_lost": False}}
    plan = WorldPlan((Start(at=0.0, name="job", spec=spec),), scripts=(dies, *(TEN_SECONDS,) * 3))
    world, run, commands = played(plan)
    assert (commands.lost, commands.succeeded, run.attempt) == (2, 10, 2)
    assert commands.retried
    assert not {generation for _, index, generation in world.lists.begun if generation > 1} - {2}


def test_failed_commands_run_again_until_they_succeed_or_have_no_retry_left() -> None:
    script = replace(TEN_SECONDS, commands=replace(TEN_SECONDS.commands, fails=frozenset({2})))
    spec = {"command": [f"echo {number}" for number in range(6)], "nprocs": 2, "list": {"retries": 3}}
    world, _, commands = played(WorldPlan((Start(at=0.0, name="job", spec=spec),), scripts=(script,) * 3))
    assert (commands.succeeded, commands.failed, commands.repeated) == (5, 1, 3)
    assert sorted(generation for _, index, generation in world.lists.begun if index == 2) == [1, 2, 3, 4]
    assert len(world.agents) == 1


def test_a_setup_that_fails_on_three_machines_ends_the_run_though_others_boot() -> None:
    """Machines of a list join one after the other, so that one always boots: it would never end."""
    bad = Script(pull=5.0, setup=30.0, fails=Step.SETUP, fails_as=Outcome.FAILED)
    slow = Script(pull=2000.0)
    spec = {"command": [f"echo {number}" for number in range(90)], "nprocs": 2, "scale": 3}
    plan = WorldPlan((Start(at=0.0, name="job", spec=spec),), scripts=(bad, slow, bad, bad, *(bad,) * 9))
    world, run, commands = played(plan)
    assert run.verdict
    assert (run.verdict.outcome, run.verdict.step, run.attempt) == (Outcome.FAILED, Step.SETUP, 1)
    assert commands.not_run == 90
    assert len(world.agents) <= 5
