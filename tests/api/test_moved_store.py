"""The store's file is moved away while a server runs, and put back."""

import contextlib
from pathlib import Path

import pytest

from tests.api.conftest import settings
from tests.api.served import Server, recipe


def test_server_whose_store_was_moved_away_answers_503_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server confirms no start that would be lost, and creates no new store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    place = settings(tmp_path)
    away = place.store_path.with_name("away.db")
    with Server(place, acting=False) as server, contextlib.ExitStack() as stack:
        ann = stack.enter_context(server.client(server.token("ann")))
        assert ann.put("/api/recipes", content=recipe("job")).is_success
        kept = [ann.post("/api/jobs/job/start", json={}).json()["run"]["id"]]
        place.store_path.rename(away)
        asked = [
            ann.post("/api/jobs/job/start", json={}),
            ann.get("/api/runs"),
            ann.get("/readyz"),
        ]
        assert [(each.status_code, each.json()["code"]) for each in asked] == [(503, "try_again")] * 3
        assert ann.get("/healthz").is_success
        assert not place.store_path.exists()
        away.rename(place.store_path)
        kept.append(ann.post("/api/jobs/job/start", json={}).json()["run"]["id"])
        assert {run["id"] for run in ann.get("/api/runs").json()["runs"]} == set(kept)
