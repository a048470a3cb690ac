"""Limits of one owner: a request beyond them is refused, and other owners are not affected."""

from pathlib import Path

import pytest

from provisioner.settings import Limits, Settings
from tests.api.conftest import settings
from tests.api.served import Server, recipe


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return settings(tmp_path)


def limited(place: Settings, **limits: int) -> Server:
    return Server(place.model_copy(update={"limits": Limits(**limits)}), acting=False)


def test_start_beyond_the_limit_of_runs_is_429_and_names_the_limit(place: Settings) -> None:
    """Another owner, an admin and the control host can still start runs."""
    server = limited(place, unfinished_runs=2)
    with server, server.client(server.token("ann")) as ann, server.client(server.token("bob")) as bob:
        for client in (ann, bob):
            assert client.put("/api/recipes", content=recipe("job")).is_success
        assert [ann.post("/api/jobs/job/start", json={}).status_code for _ in range(3)] == [200, 200, 429]
        refused = ann.post("/api/jobs/job/start", json={}).json()
        assert (refused["code"], refused["detail"]) == ("limit_reached", {"limit": "limits.unfinished_runs"})
        assert bob.post("/api/jobs/job/start", json={}).is_success
        with server.client(server.token("root", admin=True)) as admin:
            assert admin.post("/api/jobs/job/start?owner_name=ann", json={}).is_success
        assert server.service.runs.start("ann/job", {})


def test_recipes_and_variables_beyond_the_limit_of_bytes_are_429(place: Settings) -> None:
    """The limit counts the bytes of runs' variables and of jobs' recipes."""
    server = limited(place, stored_mib=1)
    with server, server.client(server.token("ann")) as ann:
        assert ann.put("/api/recipes", content=recipe("job")).is_success
        large = {"env": {"A": "x" * 100_000, "B": "x" * 100_000}}
        answers = [ann.post("/api/jobs/job/start", json=large) for _ in range(6)]
        assert [each.status_code for each in answers] == [200] * 5 + [429]
        assert answers[-1].json()["detail"] == {"limit": "limits.stored_mib"}
        assert ann.put("/api/recipes", content=recipe("large", command="x" * 120_000)).status_code == 429
