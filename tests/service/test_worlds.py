"""Seeded worlds: crashes, lost answers, droughts, interruptions, broken machines, wrong clocks, all at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.tags import LIFETIME_TAG
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.core.run.states import TRANSITIONS, State
from provisioner.rehearsal.ec2.conditions import Absence, Conditions, ZoneTrouble
from provisioner.rehearsal.ec2.instance import FleetAnswer, FleetRequest
from provisioner.rehearsal.fakes.clock import CountingIds
from provisioner.service.collectors.reaper import reap
from tests.service import chances, plans
from tests.service.agents import Script
from tests.service.frozen import FROZEN
from tests.service.memory_store import MemoryStore, R
from tests.service.plans import Start
from tests.service.trouble import Aimed
from tests.service.world import World

#: Seeds of one test: small enough for xdist to share tests and to name a failing seed soon.
EACH = 25
#: Number of seeds, and their number with --fast.
SEEDS, FAST = 300, 50


def live_through(seed: int, world: World) -> None:
    """Run the world to its end and check its rules."""
    try:
        plans.live(chances.lot(seed).plan, world)
    except BaseException as error:
        error.add_note(f"seed {seed}: `scripts/worlds --first {seed} --seeds 1` shrinks it\n{world.story()}")
        raise


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "first" in metafunc.fixturenames:
        metafunc.parametrize("first", range(0, FAST if metafunc.config.getoption("--fast") else SEEDS, EACH))


def test_no_rule_is_broken_in_any_world(first: int) -> None:
    """Every machine ends, every run is done, nothing executes twice, no healthy machine is ended, no log is lost."""
    for seed in range(first, first + EACH):
        live_through(seed, chances.world(seed))


@pytest.mark.parametrize("name", FROZEN)
def test_a_world_that_once_broke_a_rule_breaks_none(name: str) -> None:
    """Each listed fault must be met, otherwise the list proves nothing."""
    plan = FROZEN[name]
    faults = Aimed(plan.faults)
    world = plans.build(plan, lambda _: faults)
    try:
        plans.live(plan, world)
    except BaseException as error:
        error.add_note(world.story())
        raise
    assert faults.unfired == []


@pytest.mark.parametrize("seed", [1000, 1001, 1002])
def test_worlds_pass_on_a_sqlite_file(seed: int, tmp_path: Path) -> None:
    """The worlds' store passes the real store's contract; this test shows that the contract suffices."""
    store = SqlStore(tmp_path / "store.db", CountingIds())
    try:
        live_through(seed, chances.world(seed, store))
    finally:
        store.close()


class Witness(MemoryStore):
    """Records every state change of every run."""

    def __init__(self) -> None:
        super().__init__(CountingIds())
        self.moves: set[tuple[State, State]] = set()

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        before = {item.id: self.run(item.id) for item in records if isinstance(item, Run)}
        stored = super().save(records, epoch=epoch, limits=limits)
        for item in stored:
            if isinstance(item, Run):
                self._see(before[item.id], item)
        return stored

    def _see(self, old: Run | None, new: Run) -> None:
        if old and old.state is not new.state:
            self.moves.add((old.state, new.state))
        if old and new.state is State.QUEUED and new.next_try_at > old.next_try_at:
            # A waiting run has a reason: its cause, or the verdict of its last attempt.
            assert new.waiting_for or new.verdict, new


def test_every_edge_of_the_transition_table_is_used() -> None:
    """Every edge of the table is used in some world, and a waiting run always has a reason."""
    moves: set[tuple[State, State]] = set()
    for seed in range(2000, 2200):
        store = Witness()
        live_through(seed, chances.world(seed, store))
        moves |= store.moves
        assert moves <= TRANSITIONS.keys()
        if moves == TRANSITIONS.keys():
            return
    raise AssertionError(f"never gone: {TRANSITIONS.keys() - moves}")


def test_the_same_seed_tells_the_same_story() -> None:
    """Otherwise a failure could not be investigated."""
    stories = []
    for _ in range(2):
        world = chances.world(7)
        live_through(7, world)
        stories.append(world.story())
    assert stories[0] == stories[1]


def test_a_recorded_world_plays_the_same_again() -> None:
    """A seed's recorded faults give the same story, so frozen and shrunk plans show the real events."""
    for seed in range(3000, 3020):
        world = chances.world(seed)
        live_through(seed, world)
        plan = chances.recorded(seed, world)
        again = plans.build(plan)
        plans.live(plan, again)
        assert again.story() == world.story()


#: A run that takes two and a half hours.
LONG = Start(at=0.0, name="job", spec={"limits": {"runtime": "4h"}})
LONG_SCRIPT = Script(command=9000.0)


def played(plan: plans.WorldPlan) -> World:
    """Run the plan's world to its end, check its rules, and return it."""
    world = plans.build(plan)
    plans.live(plan, world)
    return world


def test_a_run_outlives_two_hours_in_which_its_zone_cannot_be_listed() -> None:
    """EC2's answer by ids lacks the zone's machines, which does not show that they ended."""
    conditions = Conditions(zone_troubles=(ZoneTrouble(at=60.0, ends=7260.0, zone="us-east-1a"),))
    elsewhere = replace(LONG, spec=LONG.spec | {"placement": {"zones": ["us-east-1b"]}}, name="elsewhere")
    here = replace(LONG, spec=LONG.spec | {"placement": {"zones": ["us-east-1a"]}})
    world = played(plans.WorldPlan((here, elsewhere), conditions, (LONG_SCRIPT, LONG_SCRIPT)))
    assert [run.verdict and run.verdict.outcome for run in world.store.runs()] == [Outcome.SUCCEEDED] * 2
    assert len(world.model.every()) == 2


def test_a_run_outlives_half_an_hour_in_which_no_listing_shows_its_machine() -> None:
    """EC2 lists an ended machine for about an hour, so a shorter absence proves nothing."""
    conditions = Conditions(absences=(Absence(at=60.0, ends=1860.0),))
    world = played(plans.WorldPlan((LONG,), conditions, (LONG_SCRIPT,)))
    assert len(world.model.every()) == 1


def test_a_machine_that_is_listed_again_after_it_was_taken_for_gone_is_ended() -> None:
    """The machine's fuse does not work and its agent is silent, so otherwise only the reaper would end it."""
    conditions = Conditions(absences=(Absence(at=30.0, ends=4000.0),))
    script = Script(silent_at=0.0, fuse=False)
    world = played(plans.WorldPlan((replace(LONG, spec={"limits": {"runtime": "20h"}}),), conditions, (script,)))
    first = world.model.every()[0]
    ended = next(change.at for change in first.history if change.state is MachineState.SHUTTING_DOWN)
    assert 4000.0 <= ended - world.began < 4100.0


def test_a_spare_machine_of_a_launch_is_ended() -> None:
    """A fleet with one machine too many costs only seconds."""
    plan = plans.WorldPlan((Start(at=0.0, name="job"),), scripts=(Script(), Script(fuse=False)))
    world = plans.build(plan)
    create = world.model.create_fleet

    def generous(request: FleetRequest, now: float) -> FleetAnswer:
        answer = create(replace(request, count=request.count + 1), now)
        world.rules.overlooked.add(answer.machines[-1][0])
        return answer

    world.model.create_fleet = generous  # type: ignore[method-assign]
    plans.live(plan, world)
    spare = world.model.every()[1]
    assert spare.now.at - spare.launch_time < 60
    assert spare.now.reason_code == "Client.UserInitiatedShutdown"


def test_the_reaper_alone_ends_every_machine_past_its_time() -> None:
    """Control plane and store are gone and no fuse works: LaunchTime and tags suffice."""
    plan = plans.WorldPlan((Start(at=0.0, name="job"),), scripts=(Script(command=1e6, silent_at=0.0, fuse=False),))
    world = plans.build(plan)
    world.advance(1.0)
    _, service = world.incarnate()
    service.operator.step()
    (machine,) = world.model.alive(world.now())
    due = machine.launch_time + float(machine.tags[LIFETIME_TAG]) + world.rules.truth.policy.reaper_grace
    for when, left in ((due - 1, 1), (due + 1, 0)):
        world.advance(when - world.now())
        reap(world.cloud, world.rules.truth.policy.reaper_grace)
        assert len(world.model.alive(world.now())) == left
