"""Schedules in virtual time: each tick is started once, by any process and through any failure."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.access.owner_limits import OwnerLimits
from provisioner.core.errors import Invalid, NotFound
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Job
from provisioner.core.recipe.schedules.schedule import KEY, run_id
from provisioner.core.run.records import Run
from provisioner.core.views.job import Schedule as View
from provisioner.rehearsal.fakes.clock import CountingIds
from provisioner.service.control import Service
from provisioner.service.jobs import Jobs
from tests.service.agents import Script
from tests.service.trouble import At, Call, Crash, Fate, Fates, calm
from tests.service.world import World
from tests.support.schedules import apply, runs, until

HOUR, MINUTE = 3600.0, 60.0
#: Worlds begin at 08:00 UTC.
EIGHT = 1_800_000_000.0
NAME = "tester/job"


def world(fates: Fates = calm, command: float = 30.0, **schedule: str) -> World:
    """Return a world whose only job has this schedule."""
    made = World(scripts=lambda _: Script(command=command), fates=fates)
    apply(made, **schedule)
    return made


def serve(world: World, hours: float) -> None:
    """Run a daemon until this many hours after the world's start."""
    _, service = world.incarnate()
    service.operator.drive(until(world, hours * HOUR), world.told.extend, schedules=True)
    assert not world.told


def times(world: World) -> list[str]:
    """Return each run's due time, from its key."""
    return [run.idempotency_key.removeprefix(KEY)[11:16] for run in runs(world)]


def shown(world: World) -> View:
    _, service = world.incarnate()
    (found,) = service.schedules.all()
    return found


def test_a_daemon_starts_what_is_due_when_it_is() -> None:
    """The daemon's pause ends at the next tick; the run is launched at once and completes."""
    made = world(schedule="20 * * * *")
    serve(made, 3)
    assert times(made) == ["08:20", "09:20", "10:20"]
    assert [run.created_at for run in runs(made)] == [EIGHT + 20 * MINUTE + hours * HOUR for hours in range(3)]
    assert all(run.verdict and run.verdict.outcome is Outcome.SUCCEEDED for run in runs(made))
    assert len(made.agents) == 3
    assert [each.target for each in made.store.audit(3)] == [run.id for run in reversed(runs(made))]
    assert {(each.who, each.owner) for each in made.store.audit(3)} == {("schedule", "tester")}
    made.check()


def test_the_id_of_a_scheduled_run_is_made_from_its_job_and_time() -> None:
    """A store restored from a backup starts a tick again with the same id, so the archive has one run of it."""
    made = world(schedule="20 * * * *")
    serve(made, 2)
    (job,) = made.store.jobs()
    assert [run.id for run in runs(made)] == [run_id(job, run.created_at) for run in runs(made)]


def test_a_command_that_acts_starts_nothing_by_schedule() -> None:
    """Only long-running processes start scheduled runs."""
    made = world(schedule="* * * * *")
    _, service = made.incarnate()
    service.operator.drive(until(made, HOUR))
    assert runs(made) == []


def test_cron_alone_stores_runs_and_acts_on_nothing() -> None:
    """cron takes no lease, writes nothing to the bucket, and reads only the cloud's clock."""
    made = world(schedule="*/30 * * * *")
    _, service = made.incarnate()
    service.operator.ring(until(made, 2 * HOUR))
    assert times(made) == ["08:30", "09:00", "09:30"]
    assert {call.port for call in made.calls} == {"store", "cloud"}
    assert {call.method for call in made.calls if call.port == "cloud"} == {"machines"}
    assert made.store.lease() is None


def test_two_daemons_start_each_tick_once() -> None:
    """An acting daemon, a standby and a cron process start at every tick at once."""
    made = world(schedule="*/5 * * * *")
    services = [made.incarnate()[1] for _ in range(3)]
    for minute in range(60):
        for service in services[minute % 3 :] + services[: minute % 3]:
            _once(service)
        made.advance(MINUTE)
    assert times(made) == [f"08:{minute:02}" for minute in range(5, 60, 5)]


def _once(service: Service) -> None:
    looks = iter([False, True])
    service.operator.ring(lambda: next(looks, True))


def test_two_processes_at_once_on_one_file(tmp_path: Path) -> None:
    """Each process has its own connection; both handle the same ticks in two threads."""
    made = [World(store=SqlStore(tmp_path / "store.db", CountingIds())) for _ in range(2)]
    for _ in range(1000):
        made[1].ids.new()  # Its events get different ids.
    apply(made[0], schedule="*/5 * * * *")
    services = [world.incarnate()[1] for world in made]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(12):
            for world in made:
                world.advance(5 * MINUTE)
            list(pool.map(_once, services))
    assert times(made[0]) == [f"08:{minute:02}" for minute in range(5, 60, 5)] + ["09:00"]
    for service in services:
        service.close()


@pytest.mark.parametrize("first", ["save", "scheduled", "run", "changes"])
def test_a_process_that_is_outrun_at_any_step_starts_nothing(first: str) -> None:
    """Another process decides the tick just before one of this process's calls."""

    def outrun(call: Call) -> Fate:
        if call.method == first and not outran and made.now() >= EIGHT + 5 * MINUTE:
            outran.append(call)
            _once(other)
        return Fate.NONE

    outran: list[Call] = []
    made = world(outrun, schedule="5 * * * *")
    _, service = made.incarnate()
    _, other = made.incarnate()
    service.operator.ring(until(made, 10 * MINUTE))
    assert outran
    assert times(made) == ["08:05"]


@pytest.mark.parametrize("fate", [Fate.CRASH_BEFORE, Fate.CRASH_AFTER])
def test_kill_9_at_any_step_loses_nothing_and_doubles_nothing(fate: Fate) -> None:
    """This includes a kill between tick and start: a process that restarts in time continues."""
    made = world(schedule="5 * * * *")
    _ring(made)
    steps = [call for call in made.calls if call.at >= EIGHT + 5 * MINUTE]
    assert len([call for call in steps if call.method != "changes"]) >= 3
    for step in steps:
        made = world(At(fate, step.number), schedule="5 * * * *")
        _ring(made)
        assert times(made) == ["08:05"], step
        (event,) = made.store.events(runs(made)[0].id)
        assert event.text == "queued: schedule 2027-01-15T08:05:00Z"


def _ring(world: World) -> None:
    """Run cron processes, one after the other."""
    while not until(world, 7 * MINUTE)():
        life, service = world.incarnate()
        try:
            service.operator.ring(until(world, 7 * MINUTE))
        except Crash:
            life.dead = True
            world.advance(1.0)


@pytest.mark.parametrize(
    ("catchup", "back", "expected"),
    [
        ("last", "10:35", ["08:30", "10:30", "11:00"]),
        ("last", "10:45", ["08:30", "11:00"]),
        ("none", "10:35", ["08:30", "11:00"]),
        ("all", "10:45", ["08:30", "09:00", "09:30", "10:00", "10:30", "11:00"]),
    ],
)
def test_missed_ticks_follow_the_catchup_rule(catchup: str, back: str, expected: list[str]) -> None:
    """The job's catch-up rule applies; missed ticks that are not started are logged."""
    made = world(schedule="*/30 * * * *", schedule_catchup=catchup)
    serve(made, 0.75)
    hour, minute = map(int, back.split(":"))
    made.advance(EIGHT + (hour - 8) * HOUR + minute * MINUTE - made.now())
    serve(made, 3.1)
    assert sorted(times(made)) == expected
    missed = [line for line in made.journal.told if "missed" in str(line.get("text"))]
    assert len(missed) == (0 if "10:30" in expected else 1)


@pytest.mark.parametrize(("policy", "count"), [("Allow", 6), ("Forbid", 1), ("Replace", 1)])
def test_missed_times_that_are_made_up_for_keep_the_concurrency_policy(policy: str, count: int) -> None:
    """After three hours, Allow starts a run for each missed tick; the other policies start only the newest."""
    made = world(schedule="*/30 * * * *", schedule_catchup="all", concurrency_policy=policy)
    made.advance(3 * HOUR)
    _, service = made.incarnate()
    service.operator.ring(until(made, 3 * HOUR + 5 * MINUTE))
    assert sorted(times(made)) == ["08:30", "09:00", "09:30", "10:00", "10:30", "11:00"][-count:]


def test_a_time_that_meets_a_change_of_its_job_is_started_with_the_job_as_it_now_is() -> None:
    """Another process applies the job between the read and the write: the tick is neither lost nor delayed."""
    raced: list[float] = []

    def applying(call: Call) -> Fate:
        if call.method == "save" and call.at >= made.began + 10 * MINUTE and not raced:
            raced.append(call.at)
            apply(made, schedule="10 * * * *", command="echo changed")
        return Fate.NONE

    made = world(fates=applying, schedule="10 * * * *")
    _, service = made.incarnate()
    service.operator.ring(until(made, 10 * MINUTE + 1))
    (run,) = runs(made)
    assert len(raced) == 1
    assert run.job_revision == 2
    assert not [line for line in made.journal.told if "error" in line]


def test_a_schedule_replaces_runs_of_its_own_job_alone() -> None:
    """Two jobs run at the same time: neither stops the other's run."""
    made = world(command=20 * MINUTE, schedule="0 9 * * *", concurrency_policy="Replace")
    apply(made, name="other", schedule="5 9 * * *", concurrency_policy="Replace")
    serve(made, 2)
    assert [run.verdict and run.verdict.outcome for run in runs(made)] == [Outcome.SUCCEEDED] * 2


def test_a_job_whose_schedule_fails_keeps_no_other_from_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed start is logged once, with the job's name, and retried."""
    made = world(schedule="0 9 * * *")
    apply(made, name="broken", schedule="*/3 9 * * *")
    real = Jobs.fresh_run

    def fresh(self: Jobs, job: Job, *rest: Any) -> Run:
        if job.name == "broken":
            raise RuntimeError("broken")
        return real(self, job, *rest)

    monkeypatch.setattr(Jobs, "fresh_run", fresh)
    made.plan(HOUR + MINUTE, lambda: monkeypatch.setattr(Jobs, "fresh_run", real))
    made.plan(HOUR + 2 * MINUTE, lambda: monkeypatch.setattr(Jobs, "fresh_run", fresh))
    serve(made, 1 + 5 / 60)
    assert sorted(run.job_name for run in runs(made)) == ["broken", "job"]
    # The first failure lasts a minute, and is logged once; the second failure is logged again.
    assert [line["job"] for line in made.journal.told if "error" in line] == ["broken", "broken"]


@pytest.mark.parametrize(
    ("policy", "expected", "outcomes"),
    [
        ("Allow", ["08:10", "08:20", "08:30", "08:40", "08:50"], {Outcome.SUCCEEDED}),
        ("Forbid", ["08:10", "08:30", "08:50"], {Outcome.SUCCEEDED}),
        ("Replace", ["08:10", "08:20", "08:30", "08:40", "08:50"], {Outcome.CANCELLED, Outcome.SUCCEEDED}),
    ],
)
def test_a_run_that_outlasts_the_next_tick(policy: str, expected: list[str], outcomes: set[Outcome]) -> None:
    """Depending on the policy both run, the new run is skipped, or the old one is stopped."""
    made = world(command=15 * MINUTE, schedule="*/10 8 * * *", concurrency_policy=policy)
    serve(made, 2)
    assert times(made) == expected
    ended = [run.verdict.outcome for run in runs(made) if run.verdict]
    assert set(ended) == outcomes
    assert ended.count(Outcome.CANCELLED) == (4 if policy == "Replace" else 0)
    skipped = [line["text"] for line in made.journal.told if "skipped" in str(line.get("text"))]
    assert len(skipped) == (2 if policy == "Forbid" else 0)
    made.check()


def test_a_run_that_is_being_stopped_is_not_over() -> None:
    """Forbid excludes any overlap, and a run that is being stopped may still save its work."""
    made = world(command=HOUR, schedule="*/10 * * * *", concurrency_policy="Forbid")
    made.plan(20 * MINUTE - 0.1, lambda: made.runs.stop(runs(made)[0].id))
    serve(made, 0.6)
    assert times(made) == ["08:10", "08:30"]


def test_manual_runs_do_not_affect_the_schedule() -> None:
    """Manual runs do not prevent scheduled runs and are not stopped by them."""
    made = world(command=HOUR / 2, schedule="10 * * * *", concurrency_policy="Replace")
    by_hand = made.runs.start(NAME, {})
    serve(made, 2)
    assert times(made) == ["", "08:10", "09:10"]
    run = made.store.run(by_hand.id)
    assert run
    assert run.verdict
    assert run.verdict.outcome is Outcome.SUCCEEDED


def test_latest_schedule_wins() -> None:
    """The latest schedule wins, from a recipe or from `schedule`.

    A recipe without a schedule removes only one that came from a recipe.
    """
    made = world(schedule="@daily")
    _, service = made.incarnate()

    def now() -> str | None:
        schedule = service.jobs.record(NAME).schedule
        return schedule.cron if schedule else None

    service.schedules.set(NAME, {"schedule": "@hourly", "timezone": "Asia/Tokyo"})
    assert now() == "@hourly"
    apply(made, schedule="@daily")
    assert now() == "@daily"
    apply(made)
    assert now() is None
    service.schedules.set(NAME, {"schedule": "@hourly"})
    apply(made, retries=1)
    assert now() == "@hourly"
    apply(made, schedule="@hourly")
    apply(made)
    assert now() is None
    apply(made, schedule="@weekly")
    service.schedules.set(NAME, None)
    assert now() is None
    with pytest.raises(Invalid, match=r"schedule: spec\.timezone: .*IANA"):
        service.schedules.set(NAME, {"schedule": "@hourly", "timezone": "Mars/Base"})
    with pytest.raises(NotFound, match="has no schedule"):
        service.schedules.get(NAME, 5)


def test_ticks_before_a_schedules_creation_are_not_started() -> None:
    """A new schedule begins with its next time; an unchanged one continues."""
    made = world()
    made.advance(20 * MINUTE)
    apply(made, schedule="*/15 * * * *")
    made.advance(11 * MINUTE)
    apply(made, schedule="*/15 * * * *", retries=1)
    serve(made, 0.6)
    assert times(made) == ["08:30"]


def test_a_clock_that_was_far_ahead_stops_no_schedule() -> None:
    """A tick decided in the far future is ignored once the clock is right, and the next tick starts."""
    made = world(schedule="20 * * * *")
    made.store.save([replace(made.jobs.record(NAME), tick=EIGHT + 365 * 24 * HOUR)])
    serve(made, 2)
    assert times(made) == ["08:20", "09:20"]


def test_deleting_a_job_ends_its_schedule() -> None:
    """A new job with the same name has no schedule."""
    made = world(schedule="@hourly")
    made.jobs.delete(NAME)
    serve(made, 2)
    apply(made)
    assert (runs(made), made.store.scheduled()) == ([], ())


def test_scheduled_run_without_a_granted_setting_is_refused() -> None:
    """The tick is decided, the reason is shown, and other jobs' schedules continue."""
    made = world(schedule="@hourly")
    job = made.store.jobs()[0]
    recipe = json.loads(job.recipe)
    recipe["spec"]["checkpoint"] = True
    made.store.save([type(job)(**vars(job) | {"recipe": json.dumps(recipe)})])
    apply(made, name="other", schedule="@hourly")
    serve(made, 1.1)
    assert [run.job_name for run in runs(made)] == ["other"]
    _, service = made.incarnate()
    found = service.schedules.get(NAME, 1)
    assert found.last
    assert (found.last.at, found.last.outcome) == (EIGHT + HOUR, "refused")
    assert (found.last.reason or "").startswith("start: spec.checkpoint: ")


def test_the_last_run_is_shown() -> None:
    """The last run is shown with the next time; for a tick without a run, the reason is shown."""
    made = world(schedule="@hourly", timezone="Europe/Berlin")
    assert shown(made).last is None
    serve(made, 1.5)
    found = shown(made)
    assert found.last
    assert (found.last.run, found.last.at, found.next) == (runs(made)[0].id, EIGHT + HOUR, (EIGHT + 2 * HOUR,))


def test_tick_of_an_owner_at_its_limit_starts_nothing_and_says_why() -> None:
    """A schedule obeys the owner's limit; once a run has ended, the next tick starts a run."""
    made = World(scripts=lambda _: Script(command=25 * MINUTE), limits=OwnerLimits(unfinished_runs=1))
    apply(made, schedule="*/20 * * * *", concurrency_policy="Allow")
    _, service = made.incarnate()
    service.operator.drive(until(made, 45 * MINUTE), made.told.extend, schedules=True)
    last = shown(made).last
    assert last
    assert (times(made), last.outcome) == (["08:20"], "skipped")
    service.operator.drive(until(made, 65 * MINUTE), made.told.extend, schedules=True)
    assert times(made) == ["08:20", "09:00"]
