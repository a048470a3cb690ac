"""Usage over HTTP, and in the shapes of Saturn's API."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from provisioner.core.usage.amounts import NANO, Amounts, MachineUsage, Part, Use
from tests.api.served import Server

#: 1 January 2026, as a number of days since 1970.
DAY = 20454
PERIOD = {"start": "2026-01-01T00:00:00", "end": "2026-02-01T00:00:00"}


def used(id: str, owner: str, day: int, dollars: int, kind: str = "g5.xlarge") -> MachineUsage:
    """Return the usage of a machine whose disk costs a tenth of it."""
    money = dollars * NANO
    amounts = Amounts(
        seconds=dollars * 3_600_000,
        dollars=money,
        dollars_at_most=money,
        disk_dollars=money // 10,
        disk_dollars_at_most=money,
    )
    part = Part(DAY + day, Use.SUCCEEDED, amounts)
    return MachineUsage(id, "r1", "j1", "train", owner, "t1", (("team", "x"),), kind, "spot", (part,))


@pytest.fixture(scope="module")
def filled(quiet: Server) -> Server:
    quiet.service.installation.store.save(
        [
            used("i-1", "lab/ann", 0, 10),
            used("i-2", "lab/ann", 0, 20),
            used("i-3", "lab/ann", 1, 40, "p5.48xlarge"),
            used("i-4", "lab/bob", 1, 100),
            used("i-5", "solo", 2, 1000),
            used("i-6", "", 2, 5),
            used("i-7", "lab/ann", 31, 7),
        ]
    )
    return quiet


@pytest.fixture
def ann(filled: Server) -> Iterator[httpx.Client]:
    with filled.client(filled.token("lab/ann")) as client:
        yield client


@pytest.fixture
def admin(filled: Server) -> Iterator[httpx.Client]:
    with filled.client(filled.token("root", admin=True)) as client:
        yield client


def get(client: httpx.Client, path: str, **query: Any) -> Any:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_usage_is_grouped_and_labelled(ann: httpx.Client, admin: httpx.Client) -> None:
    found = get(ann, "/api/usage", by="owner,day", **{"from": "2026-01", "to": "2026-01"})
    assert (found["first"], found["last"], found["by"]) == ("2026-01-01", "2026-01-31", ["owner", "day"])
    assert [row["group"] for row in found["rows"]] == [["lab/ann", "2026-01-01"], ["lab/ann", "2026-01-02"]]
    assert found["rows"][0]["final"]["dollars"] == 30.0
    assert found["rows"][0]["estimated"]["dollars"] == 0.0
    assert found["final"]["disk_dollars"] == 7.0
    assert any("S3" in text for text in found["not_included"])
    every = get(admin, "/api/usage", **{"from": "2026-01-01", "to": "2026-01-31"})
    assert [row["group"] for row in every["rows"]] == [["solo"], ["lab/bob"], ["lab/ann"], [""]]


def test_daily_usage_has_saturns_fields(ann: httpx.Client, admin: httpx.Client) -> None:
    """A time at midnight ends the day before: Saturn's client sends times."""
    expected = [
        {"date": "2026-01-01", "hours": 30.0, "dollars": 33.0, "instance_type": "g5.xlarge", "resource_type": "job"},
        {"date": "2026-01-02", "hours": 40.0, "dollars": 44.0, "instance_type": "p5.48xlarge", "resource_type": "job"},
    ]
    for path in (
        "/api/orgs/lab/usage/daily",
        "/api/orgs/lab/members/ann/usage/daily",
        "/api/groups/ann/usage/daily",
        "/api/user/usage/daily",
    ):
        assert get(ann, path, **PERIOD) == {"usage": expected}
    assert len(get(admin, "/api/orgs/lab/usage/daily", **PERIOD)["usage"]) == 3
    later = get(ann, "/api/user/usage/daily", start="2026-02-01", end="2026-02-01")["usage"]
    assert [each["date"] for each in later] == ["2026-02-01"]


def test_aggregated_usage_and_owners_have_saturns_fields(ann: httpx.Client, admin: httpx.Client) -> None:
    for path in (
        "/api/orgs/lab/usage/aggregated",
        "/api/orgs/lab/members/ann/usage/aggregated",
        "/api/groups/ann/usage/aggregated",
        "/api/user/usage/aggregated",
    ):
        assert get(ann, path, **PERIOD) == {"hours": 70.0, "dollars": 77.0}
    bob = {"name": "lab/bob", "identity_type": "user", "user_id": "lab/bob"}
    found = get(admin, "/api/orgs/lab/usage/owners", **PERIOD)["usage"]
    assert found[0] == {"hours": 100.0, "dollars": 110.0, "owner": bob}
    assert [each["owner"]["name"] for each in found] == ["lab/bob", "lab/ann"]
    assert get(admin, "/api/orgs/solo/members/solo/usage/aggregated", **PERIOD)["hours"] == 1000.0


@pytest.mark.parametrize("path", ["orgs/solo", "orgs/lab/members/bob", "groups/bob", "orgs/none"])
def test_the_usage_of_others_is_not_found(ann: httpx.Client, path: str) -> None:
    assert ann.get(f"/api/{path}/usage/aggregated").status_code == 404


def test_a_wrong_date_is_refused(ann: httpx.Client) -> None:
    answer = ann.get("/api/orgs/lab/usage/daily", params={"start": "yesterday"})
    assert answer.status_code == 400
    assert "write ISO 8601" in answer.json()["message"]
