"""Lists of jobs with their last runs, and the revisions of jobs."""

import json
from dataclasses import replace

import pytest

from provisioner.core.access.callers import Caller
from provisioner.core.errors import NotFound
from provisioner.core.recipe.jobs import Job, Revision
from provisioner.service.control import OnBehalf
from provisioner.service.control_loop.loop import Intervals
from tests.service.memory_store import MemoryStore
from tests.service.world import World, parts

SPEC = {"name": "job", "image": "i", "instance_type": "g5.xlarge", "command": "true"}
ANN = Caller("t", ("ann",), admin=False, source="here")


def text(**spec: object) -> str:
    return json.dumps({"type": "job", "spec": SPEC | spec})


@pytest.fixture
def world() -> World:
    return World()


def stored(world: World) -> Job:
    (job,) = world.store.jobs()
    return job


def forget(world: World, number: int) -> None:
    """Delete a stored revision, as if an earlier version of the program had stored the job."""
    assert isinstance(world.store, MemoryStore)
    world.store.lose(Revision, f"{stored(world).id}-{number}")


def test_each_apply_that_changes_the_recipe_stores_a_revision(world: World) -> None:
    """The audit says who applied the job, the revision says what changed."""
    world.jobs.apply(text(), "f")
    world.advance(5.0)
    world.jobs.apply(text(command="false", retries=2), "f")
    world.jobs.apply(text(command="false", retries=2), "f")
    second, first = world.users.history.revisions("job").revisions
    assert (second.number, second.changed) == (2, ("command", "retries"))
    assert (first.number, first.changed) == (1, None)
    assert second.applied_by == first.applied_by == world.users.caller.name
    assert first.applied_at is not None
    assert second.applied_at == first.applied_at + 5.0
    recipes = [world.users.history.revision("job", number).recipe["spec"]["command"] for number in (1, 2)]
    assert recipes == ["true", "false"]


def test_change_of_the_schedule_alone_is_no_revision(world: World) -> None:
    world.jobs.apply(text(), "f")
    world.users.schedules.set("job", {"schedule": "@daily"})
    assert len(world.users.history.revisions("job").revisions) == 1


def test_revision_that_an_earlier_version_stored_is_kept_when_it_is_replaced(world: World) -> None:
    """The earlier version has stored the recipe only in the job, and an apply replaces it there."""
    world.jobs.apply(text(), "f")
    forget(world, 1)
    assert [each.applied_by for each in world.users.history.revisions("job").revisions] == [""]
    world.jobs.apply(text(command="false"), "f")
    second, first = world.users.history.revisions("job").revisions
    assert (second.changed, first.applied_by) == (("command",), "")
    assert world.users.history.revision("job", 1).recipe["spec"]["command"] == "true"


def test_older_revision_is_shown_as_far_as_runs_have_it(world: World) -> None:
    """Its recipe may have the run's own inputs, so the run is named."""
    world.jobs.apply(text(), "f")
    run = world.runs.start("job", {"A": "1"})
    world.jobs.apply(text(command="false"), "f")
    forget(world, 1)
    second, first = world.users.history.revisions("job").revisions
    assert (second.run, second.changed) == (None, None)
    assert (first.number, first.run, first.applied_at) == (1, run.id, None)
    found = world.users.history.revision("job", 1)
    assert (found.run, found.recipe["spec"]["environment_variables"]) == (run.id, {"A": "1"})
    with pytest.raises(NotFound, match="revision 7 of job job is not stored"):
        world.users.history.revision("job", 7)


def test_revisions_are_read_in_pages_without_gaps(world: World) -> None:
    for number in range(5):
        world.jobs.apply(text(command=f"echo {number}"), "f")
    first = world.users.history.revisions("job", None, 2)
    assert ([each.number for each in first.revisions], first.next_before) == ([5, 4], 4)
    assert first.revisions[-1].changed == ("command",)
    last = world.users.history.revisions("job", 3, 2)
    assert ([each.number for each in last.revisions], last.next_before) == ([2, 1], None)


def test_list_of_jobs_has_the_last_runs_and_what_happens_now(world: World) -> None:
    world.start(schedule="@hourly", tags={"team": "a"})
    world.run()
    world.runs.start("tester/job", {})
    (line,) = world.users.history.jobs().jobs
    assert (line.owner, line.name, line.tags, line.states) == ("tester", "job", {"team": "a"}, {"queued": 1})
    assert [each.outcome for each in line.past.runs] == [None, "succeeded"]
    assert (line.past.reliability, line.schedule) == (1.0, "@hourly")
    assert line.next_at is not None
    assert line.next_at > world.users.history.jobs().at


def test_pages_of_jobs_show_only_those_of_the_callers_owners(world: World) -> None:
    for owner, name in [("ann", "a"), ("ann", "b"), ("bob", "a")]:
        world.jobs.apply(text(name=name, owner=owner), "f")
    ann = OnBehalf(parts(world.installation, "users", Intervals()), ANN).history
    first = ann.jobs(limit=1)
    assert [each.name for each in first.jobs] == ["a"]
    assert first.next_key
    assert [(each.owner, each.name) for each in ann.jobs(cursor=first.next_key).jobs] == [("ann", "b")]
    assert ann.jobs("bob").jobs == ()
    job = next(each for each in world.store.jobs() if each.owner == "bob")
    for read in (ann.revisions, ann.runs):
        with pytest.raises(NotFound):
            read(job.id)


def test_runs_of_a_job_are_read_in_short(world: World) -> None:
    run = world.start()
    world.run()
    past = world.users.history.runs("tester/job", 5)
    assert [each.id for each in past.runs] == [run.id]
    assert past.median_seconds is not None
    assert json.loads(stored(world).recipe)["spec"]["name"] == "job"
    assert replace(past, runs=()).reliability == 1.0
