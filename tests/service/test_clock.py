"""A clock that is wrong for a while: nothing is decided meanwhile, and everything continues when it is right."""

import itertools
import json
from dataclasses import replace
from functools import partial

import pytest

from provisioner.core.errors import ClockWrong
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.machines.listings import ASK_AGAIN
from provisioner.core.run.records import Drought, TemplateHealth
from tests.service.agents import Script
from tests.service.trouble import Call, Fate
from tests.service.world import World

DAYS = 2 * 86400.0
WRONG = [DAYS, 3600.0, 20.0, -20.0, -3600.0, -DAYS]


def outcomes(world: World) -> list[tuple[Outcome | None, int]]:
    """Return the outcome and the number of attempts of each run."""
    return [(run.verdict.outcome if run.verdict else None, run.attempt) for run in world.store.runs()]


def turned(world: World, begins: float, ends: float, ahead: float) -> None:
    world.plan(begins, lambda: world.turn_clock(ahead))
    world.plan(ends, lambda: world.turn_clock(0.0))


@pytest.mark.parametrize("ahead", WRONG)
@pytest.mark.parametrize("begins", [0.5, 60.0, 290.0])
def test_healthy_run_survives_a_wrong_clock(ahead: float, begins: float) -> None:
    """The clock jumps for some seconds, forward or back, during the launch, the work or the end of a run."""
    world = World(scripts=lambda _: Script(command=240.0), busy=1.0)
    world.start(limits={"queue_time": "2m", "silence": "3m"})
    turned(world, begins, begins + 6.0, ahead)
    world.run()
    world.check()
    assert (outcomes(world), len(world.agents)) == ([(Outcome.SUCCEEDED, 1)], 1)
    assert world.now() - world.began < 600


@pytest.mark.parametrize("ahead", WRONG)
def test_run_that_is_started_under_a_wrong_clock_begins_once_it_is_right(ahead: float) -> None:
    """The run's queue limit counts from its true arrival, whatever the clock showed."""
    world = World(scripts=lambda _: Script(command=30.0), busy=1.0)
    world.start()
    turned(world, 20.0, 26.0, ahead)
    world.plan(23.0, lambda: world.start("late", limits={"queue_time": "2m"}))
    world.run()
    assert outcomes(world) == [(Outcome.SUCCEEDED, 1)] * 2
    [late] = [run for run in world.store.runs() if run.job_name == "late"]
    began = next(event.at for event in world.store.events(late.id) if "attempt 1" in event.text)
    assert began < world.began + 30


def test_machine_whose_end_is_wanted_is_asked_to_end_under_a_wrong_clock() -> None:
    """Terminations are refused at first, and the clock stays wrong for an hour; the machine costs money meanwhile."""

    def refuses(call: Call) -> Fate:
        early = call.at < world.began + 700
        return Fate.REFUSE if (call.port, call.method) == ("cloud", "terminate") and early else Fate.NONE

    world = World(scripts=lambda _: Script(command=3600.0, deaf=True), fates=refuses, busy=1.0)
    run = world.start()
    world.plan(20.0, lambda: world.runs.stop(run.id))
    turned(world, 400.0, 4000.0, DAYS)
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() > world.began + 1000, world.told.extend)
    assert not world.cloud.model.alive(world.now())
    asked = [call.at for call in world.calls if call.method == "terminate" and call.at > world.began + 400]
    assert len(asked) > 20
    assert min(later - before for before, later in itertools.pairwise(asked)) >= ASK_AGAIN


def test_process_outlives_a_denied_listing_under_a_wrong_clock() -> None:
    """The denial is shown, and the run continues when clock and rights are right."""

    def denies(call: Call) -> Fate:
        denied = call.method == "machines" and 20.0 <= call.at - world.began < 40.0
        return Fate.DENY if denied else Fate.NONE

    world = World(scripts=lambda _: Script(command=60.0), fates=denies, busy=1.0)
    world.start()
    turned(world, 20.0, 50.0, 3600.0)
    world.run()
    assert outcomes(world) == [(Outcome.SUCCEEDED, 1)]
    assert any("UnauthorizedOperation" in line for line in world.told)


@pytest.mark.parametrize("ahead", [DAYS, -DAYS])
def test_clock_that_jumps_within_a_pass_decides_nothing(ahead: float) -> None:
    """The clock may jump between any two calls."""
    worlds: dict[int, World] = {}

    def jump(number: int, call: Call) -> Fate:
        if call.number in (number, number + 2):
            worlds[number].turn_clock(ahead if call.number == number else 0.0)
        return Fate.NONE

    for number in range(40, 120, 7):
        world = World(scripts=lambda _: Script(command=100.0), fates=partial(jump, number), busy=1.0)
        worlds[number] = world
        world.start(limits={"silence": "3m"})
        world.plan(120.0, partial(world.turn_clock, 0.0))
        world.run()
        assert outcomes(world) == [(Outcome.SUCCEEDED, 1)], (number, world.story())


def test_wrong_clock_is_told_once_and_where_people_look() -> None:
    """The journal reports when the clock becomes wrong and when it is right again; every process shows it meanwhile."""
    world = World(scripts=lambda _: Script(command=100.0), busy=1.0)
    world.start()
    turned(world, 30.0, 60.0, DAYS)
    seen = dict[float, str]()

    def look(after: float) -> None:
        _, service = world.incarnate()
        seen[after] = service.runs.overview(1).hindrance
        assert service.operator.hindrance() == seen[after]

    for after in (20.0, 45.0, 70.0):
        world.plan(after, partial(look, after))
    world.run()
    assert [bool(text) for text in seen.values()] == [False, True, False]
    assert [line.get("error") for line in world.journal.told if "error" in line] == [seen[45.0]]


def test_times_that_a_wrong_clock_has_stored_hinder_nobody() -> None:
    """An older version stored droughts, probes and waits of two days: the run still starts at once."""
    world = World(scripts=lambda _: Script(command=30.0), busy=1.0)
    run = world.start()
    far = world.now() + DAYS
    template = TemplateHealth("t", 3, "mute", far)
    world.store.save([replace(run, created_at=far, next_try_at=far)])
    world.store.save([Drought("on-demand", "g5.xlarge", f"us-east-1{zone}", far, 1) for zone in "abc"])
    world.store.save([template])
    world.run()
    assert outcomes(world) == [(Outcome.SUCCEEDED, 1)]
    assert world.now() - world.began < 300
    assert [health.probe_at <= world.now() for health in world.store.live().templates] == [True]


def test_schedule_starts_nothing_by_a_wrong_clock_and_goes_on_when_it_is_right() -> None:
    """The schedule starts no tick of the day after tomorrow, and does not pause until that day."""
    world = World(scripts=lambda _: Script(command=10.0), busy=1.0)
    whole = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true", "schedule": "*/5 * * * *"}
    world.jobs.apply(json.dumps({"type": "job", "spec": whole}), "f")
    turned(world, 400.0, 500.0, DAYS)
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() > world.began + 1000, schedules=True)
    ticks = sorted(run.idempotency_key[-9:-4] for run in world.store.runs())
    assert ticks == ["08:05", "08:10", "08:15"]


def test_cron_alone_compares_the_clock_before_it_starts_anything() -> None:
    """cron runs no passes, so it compares the clock itself."""
    world = World(busy=1.0)
    whole = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true", "schedule": "*/5 * * * *"}
    world.jobs.apply(json.dumps({"type": "job", "spec": whole}), "f")
    world.turn_clock(DAYS)
    _, service = world.incarnate()
    service.operator.ring(lambda: world.now() > world.began + 100)
    assert world.store.runs() == ()
    world.turn_clock(0.0)
    service.operator.ring(lambda: world.now() > world.began + 400)
    assert len(world.store.runs()) == 1


def test_command_without_a_daemon_goes_on_acting_after_the_clock_was_ahead() -> None:
    """The pause between passes uses a clock that is never set."""
    world = World(scripts=lambda _: Script(command=30.0), busy=1.0)
    run = world.start()
    _, service = world.incarnate()
    service.acting.meanwhile()
    world.turn_clock(DAYS)
    world.advance(2.0)
    service.acting.meanwhile()
    world.turn_clock(0.0)
    for _ in range(120):
        world.advance(1.0)
        service.acting.meanwhile()
    found = world.store.run(run.id)
    assert found
    assert found.verdict
    assert found.verdict.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("ahead", [DAYS, -DAYS])
def test_process_that_begins_under_a_wrong_clock_binds_nothing_by_it(ahead: float) -> None:
    """CreateFleet's answer has the true time. The launch stays open, and its machine is adopted later."""
    world = World(scripts=lambda _: Script(command=30.0), busy=1.0)
    world.turn_clock(ahead)
    world.start()
    _, service = world.incarnate()
    service.operator.step()
    live = world.store.live()
    assert (len(live.nodes), len(live.launches), len(world.model.alive(world.now()))) == (0, 1, 1)
    with pytest.raises(ClockWrong):
        service.installation.now()
    world.turn_clock(0.0)
    world.run()
    assert (outcomes(world), len(world.agents)) == ([(Outcome.SUCCEEDED, 1)], 1)
