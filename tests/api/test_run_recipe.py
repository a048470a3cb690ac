"""What a run executes, and who started and stopped it: over HTTP, and with the remote client."""

import contextlib

import pytest

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.system import RandomIds, SystemClock
from provisioner.core.errors import NotFound
from tests.api.served import Server, recipe


def test_recipe_of_a_run_has_the_inputs_of_its_start(quiet: Server) -> None:
    """A later revision of the job changes nothing in it."""
    variables = {"A": "1", "B": "2"}
    quiet.service.jobs.apply(recipe("inputs", "ann", environment_variables=variables), "the test's recipe")
    run = quiet.service.runs.start("ann/inputs", {"B": "3"}, "python train.py").id
    quiet.service.jobs.apply(recipe("inputs", "ann", command="false"), "the test's recipe")
    with quiet.client(quiet.token("ann")) as ann:
        found = ann.get(f"/api/runs/{run}/recipe").json()
    assert (found["run"], found["job_revision"]) == (run, 1)
    spec = found["recipe"]["spec"]
    assert (spec["command"], spec["environment_variables"]) == ("python train.py", {"A": "1", "B": "3"})


def test_remote_client_gets_the_same_recipe(quiet: Server) -> None:
    quiet.service.jobs.apply(recipe("remote", "ann"), "the test's recipe")
    run = quiet.service.runs.start("ann/remote", {}).id
    there = address(quiet.url, quiet.token("ann"))
    with contextlib.closing(Remote(there, SystemClock(), RandomIds(), lambda _: None)) as control:
        assert control.runs.recipe(run) == quiet.service.runs.recipe(run)
        with pytest.raises(NotFound, match=r"^no run 'beef'"):
            control.runs.recipe("beef")


def test_recipe_of_another_owners_run_is_hidden(quiet: Server) -> None:
    quiet.service.jobs.apply(recipe("hidden", "ann"), "the test's recipe")
    run = quiet.service.runs.start("ann/hidden", {}).id
    with quiet.client(quiet.token("bob")) as bob:
        assert bob.get(f"/api/runs/{run}/recipe").status_code == 404


def test_story_says_who_started_and_stopped_the_run(quiet: Server) -> None:
    quiet.service.jobs.apply(recipe("told", "ann"), "the test's recipe")
    made = quiet.service.tokens.create(["ann"], admin=False)
    with quiet.client(made.token) as ann:
        run = ann.post("/api/jobs/told/start", json={}).json()["run"]["id"]
        ann.post(f"/api/runs/{run}/stop")
        events = ann.get(f"/api/runs/{run}").json()["events"]
    assert [(each["text"], each["who"]) for each in events] == [
        ("queued: triggered", made.id),
        ("stop requested", made.id),
    ]
