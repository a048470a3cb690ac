"""Jobs that an earlier version stored under fewer rules than `apply` has now."""

import json
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.errors import Invalid
from provisioner.core.recipe.jobs import Job, Schedule, applicable
from provisioner.core.recipe.recipe import refusals
from provisioner.ports.store import RunFilter
from tests.service.world import World

SPEC = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"}
#: A command that `apply` refuses since 2026.11, and that earlier versions stored.
REFUSED = "--epochs 3"
HOUR = 3600.0


def text(**spec: object) -> str:
    return json.dumps({"type": "job", "spec": SPEC | spec})


@pytest.fixture
def world() -> World:
    """Return a world whose only job has a recipe that `apply` would refuse now."""
    made = World()
    job = made.jobs.record(made.jobs.apply(text(), "f").id)
    stored = json.loads(job.recipe)
    stored["spec"]["command"] = REFUSED
    made.store.save([replace(job, recipe=json.dumps(stored, sort_keys=True))])
    return made


def only_job(world: World) -> Job:
    (job,) = world.store.jobs()
    return job


@pytest.mark.parametrize("env", [{}, {"A": "1"}])
def test_stored_recipe_that_a_new_rule_refuses_still_starts(world: World, env: dict[str, str]) -> None:
    """The start may have variables of its own or none."""
    run = world.runs.record(world.runs.start("job", env).id)
    assert json.loads(run.recipe)["spec"]["command"] == REFUSED
    world.run()
    world.check()


def test_apply_of_a_recipe_that_a_new_rule_refuses_is_invalid(world: World) -> None:
    """The stored recipe is unchanged."""
    before = only_job(world)
    with pytest.raises(Invalid, match=r"f:1: spec\.command: "):
        world.jobs.apply(text(command=REFUSED), "f")
    assert only_job(world) == before


def test_start_with_a_command_that_a_new_rule_refuses_is_invalid(world: World) -> None:
    """A caller's input is checked by the present rules, even if it equals the stored recipe."""
    with pytest.raises(Invalid, match=r"start: spec\.command: "):
        world.runs.start("job", {}, REFUSED)
    assert not world.store.runs()


@pytest.mark.parametrize("env", [{"A-B": "1"}])
def test_start_of_a_refused_recipe_names_only_what_the_caller_got_wrong(world: World, env: dict[str, str]) -> None:
    """The caller cannot change the stored recipe by a start."""
    with pytest.raises(Invalid) as error:
        world.runs.start("job", env)
    assert "A-B" in str(error.value)
    assert "spec.command" not in str(error.value)


def test_schedule_of_a_refused_recipe_fires(world: World) -> None:
    """An update of the control host must not end a schedule."""
    world.store.save([replace(only_job(world), schedule=Schedule("30 * * * *"), scheduled_at=world.began)])
    _, service = world.incarnate()
    service.operator.drive(lambda: world.now() >= world.began + HOUR, world.told.extend, schedules=True)
    assert not world.told
    assert len(world.store.runs(RunFilter(limit=10))) == 1


@pytest.mark.parametrize("of_recipe", [True, False])
def test_stored_schedule_that_a_new_rule_refuses_fires_and_is_marked(of_recipe: bool) -> None:
    """The step of the schedule exceeds its field, so the schedule is due hourly, as before the rule."""
    made = World()
    job = made.jobs.record(made.jobs.apply(text(schedule="30 * * * *" if of_recipe else None), "f").id)
    dump = job.recipe.replace("30 * * * *", "*/90 * * * *")
    stored = Schedule("*/90 * * * *")
    made.store.save([replace(job, recipe=dump, schedule=stored, scheduled_at=made.began)])
    assert [reason.startswith("spec.schedule: found '*/90 * * * *'; ") for reason in refusals(only_job(made))] == [True]
    _, service = made.incarnate()
    service.operator.drive(lambda: made.now() >= made.began + HOUR + 60, made.told.extend, schedules=True)
    assert not made.told
    assert len(made.store.runs(RunFilter(limit=10))) == 1
    for refused in ({"schedule": "*/90 * * * *"}, {"schedule": "*/61 * * * *"}):
        with pytest.raises(Invalid, match=r"schedule: spec\.schedule: "):
            service.schedules.set("job", refused)
        with pytest.raises(Invalid, match=r"spec\.schedule: "):
            service.jobs.change("job", refused)
    assert only_job(made).schedule == stored


def test_refused_recipe_can_be_given_a_schedule(world: World) -> None:
    """Only the new schedule is checked, not the rest of the stored recipe."""
    _, service = world.incarnate()
    assert service.schedules.set("job", {"schedule": "0 2 * * *"}).schedule == "0 2 * * *"


def test_jobs_are_marked_with_what_apply_refuses(world: World) -> None:
    """The user sees the reason before the next `apply`."""
    marked = only_job(world)
    (reason,) = refusals(marked)
    assert reason.startswith("spec.command: found '--epochs 3'; ")
    assert world.jobs.apply(text(name="other"), "f").apply_refuses == ()


def test_recipe_of_a_newer_version_is_marked(world: World) -> None:
    """After a downgrade the list shows the jobs that this version cannot start."""
    job = only_job(world)
    stored: dict[str, Any] = json.loads(job.recipe)
    stored["spec"]["gpus"] = 3
    (reason,) = refusals(replace(job, recipe=json.dumps(stored)))
    assert "spec.gpus: unknown field" in reason


def test_stored_recipe_with_a_null_reference_starts_and_can_be_applied_again() -> None:
    """Earlier versions stored an unset reference as null."""
    world = World()
    job = world.jobs.record(world.jobs.apply(text(git_repositories=[{"url": "https://h/a"}]), "f").id)
    stored = json.loads(job.recipe)
    stored["spec"]["git_repositories"][0]["reference"] = None
    before = replace(job, recipe=json.dumps(stored))
    world.store.save([before])
    assert refusals(only_job(world)) == ()
    run = world.runs.record(world.runs.start("job", {}).id)
    assert json.loads(run.recipe)["spec"]["git_repositories"][0]["url"] == "https://h/a"
    assert "reference" not in applicable(before.recipe)["spec"]["git_repositories"][0]
    applied = world.jobs.apply(json.dumps(applicable(before.recipe)), "f")
    assert world.jobs.record(applied.id).recipe == job.recipe
