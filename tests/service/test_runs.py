"""Operations on jobs and runs: what they refuse, and their audit entries."""

import pytest

from provisioner.core.errors import Conflict
from provisioner.core.run.states import State
from tests.service.world import World


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_key_with_the_same_inputs_is_the_same_run(world: World) -> None:
    """A client that repeats a request after a lost answer must not pay twice."""
    world.start()
    first = world.runs.start("tester/job", {"A": "1"}, idempotency_key="order-1")
    assert world.runs.start("tester/job", {"A": "1"}, idempotency_key="order-1").id == first.id


@pytest.mark.parametrize(("env", "command"), [({"A": "2"}, None), ({}, None), ({"A": "1"}, "other")])
def test_the_same_key_with_other_inputs_is_a_conflict(world: World, env: dict[str, str], command: str | None) -> None:
    """Returning the first run would show results of other inputs."""
    world.start()
    world.runs.start("tester/job", {"A": "1"}, idempotency_key="order-1")
    with pytest.raises(Conflict):
        world.runs.start("tester/job", env, command, idempotency_key="order-1")


def test_a_job_with_a_run_that_is_not_done_is_not_deleted(world: World) -> None:
    """The run's machine would work for a job that cannot be found."""
    run = world.start()
    with pytest.raises(Conflict):
        world.jobs.delete("tester/job")
    world.runs.stop(run.id)
    world.run()
    job = world.jobs.delete("tester/job")
    assert world.store.jobs() == ()
    assert job.name == "job"


def test_a_second_stop_changes_nothing(world: World) -> None:
    """The grace counts from the first stop: a second one must not extend it."""
    run = world.start()
    first = world.runs.stop(run.id)
    world.advance(5.0)
    assert world.runs.stop(run.id).stop == first.stop


def test_a_run_that_is_over_is_not_stopped(world: World) -> None:
    """A late stop does not change the run's outcome."""
    run = world.start()
    world.run()
    stopped = world.runs.stop(run.id)
    assert (stopped.state, stopped.stop) == (State.DONE, None)


def test_each_change_leaves_a_line_in_the_audit(world: World) -> None:
    """An owner can find out who started and stopped what."""
    run = world.start()
    world.runs.stop(run.id)
    world.run()
    world.jobs.delete("tester/job")
    lines = [(line.what, line.who, line.owner) for line in reversed(world.store.audit(10))]
    assert lines == [(what, "local:tester", "tester") for what in ("apply", "start", "stop", "delete")]
