"""Recipes over HTTP: a concurrent change is not lost, and a new recipe never replaces another job."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.recipe.jobs import Job
from tests.api.served import Server, recipe

RULE = {"cron_schedule_options": {"schedule": "@every 4h"}}


@pytest.fixture
def ann(quiet: Server) -> Iterator[httpx.Client]:
    quiet.service.jobs.apply(recipe("changed", "ann"), "the test's recipe")
    with quiet.client(quiet.token("ann")) as client:
        yield client


def test_schedule_change_keeps_a_concurrent_apply(
    quiet: Server, ann: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A concurrent apply is kept, even if it comes between read and write."""
    read, applied = SqlStore.job, list[bool]()

    def outrun(store: SqlStore, owner: str, name: str) -> Job | None:
        found = read(store, owner, name)
        if not applied:
            applied.append(True)
            quiet.service.jobs.apply(recipe("changed", "ann", command="echo meanwhile"), "the test's recipe")
        return found

    monkeypatch.setattr(SqlStore, "job", outrun)
    answer = ann.patch("/api/jobs/changed", json=RULE)
    assert answer.status_code == 200
    job = quiet.service.jobs.record("ann/changed")
    assert job.schedule
    assert job.schedule.cron == "@every 4h"
    assert json.loads(job.recipe)["spec"]["command"] == "echo meanwhile"


@pytest.mark.parametrize("owner", ["ann", {"name": "ann"}, None])
def test_creating_a_recipe_never_replaces_a_job(quiet: Server, ann: httpx.Client, owner: object) -> None:
    """The request is refused for every form in which a client may write the owner."""
    before = quiet.service.jobs.record("ann/changed")
    body = json.loads(recipe("changed", command="echo clone"))
    body["spec"]["owner"] = owner
    assert ann.post("/api/recipes", json=body).status_code == 409
    assert quiet.service.jobs.record("ann/changed") == before


@pytest.mark.parametrize("field", ["name", "owner"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_lone_surrogate_in_a_name_is_refused(ann: httpx.Client, method: str, field: str) -> None:
    """JSON may hold half of a surrogate pair; a name must not."""
    body: dict[str, Any] = json.loads(recipe("changed", "ann"))
    body["spec"][field] = "\ud800"
    answer = ann.request(method, "/api/recipes", content=json.dumps(body))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_the_attempts_of_a_thousand_runs_are_read_together(
    quiet: Server, ann: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the attempts of many runs takes as many store queries as for one run."""
    looks, find = [], SqlStore.find

    def counted(store: SqlStore, *words: Any) -> Any:
        looks.append(words)
        return find(store, *words)

    monkeypatch.setattr(SqlStore, "find", counted)
    id = quiet.service.jobs.record("ann/changed").id
    found = []
    for more in (1, 50):
        for _ in range(more):
            assert ann.post("/api/jobs/changed/start").status_code == 200
        looks.clear()
        history = ann.get("/api/jobs/changed/history").json()["pods"]
        live = ann.get("/api/active/pods", params={"workload_id": id}).json()["pod_summaries"]
        found.append((len(history), len(live), len(looks)))
    assert found == [(1, 1, found[0][2]), (51, 51, found[0][2])]
