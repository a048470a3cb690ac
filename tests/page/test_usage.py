"""The page of usage: its numbers, its charts, its CSV, and who sees what."""

import csv
import io
import random

import pytest

from provisioner.core.cloud.caps.budget import day_of
from provisioner.core.usage.amounts import NANO, Amounts, MachineUsage, Part, PriceUsed, Use
from tests.api.served import Server
from tests.page.conftest import visitor

HOUR = 3_600_000


def machine(
    number: int, day: int, owner: str, job: str, use: Use, dollars: float, at: float, **tags: str
) -> MachineUsage:
    """Return the usage of a machine that cost this at a dollar an hour."""
    nano, seconds = round(dollars * NANO), round(dollars * HOUR)
    amounts = Amounts(seconds, seconds, seconds, nano, nano, nano + NANO // 50, nano // 90, nano // 80, nano // 70)
    return MachineUsage(
        id=f"i-{number:017x}",
        run=f"r{number}",
        job_id=f"j{job}",
        job=job,
        owner=owner,
        user="local:ann",
        tags=tuple(tags.items()),
        instance_type=("g5.xlarge", "p5.48xlarge")[number % 5 == 0],
        market=("spot", "on-demand")[number % 3 == 0],
        parts=(Part(day, use, amounts),),
        prices=(PriceUsed(False, 1.0, "EC2's spot price history", at - 3600),),
    )


def fill(server: Server, days: int = 31) -> int:
    """Store usage on each of the last days, and return the present day."""
    now = server.service.operator.now()
    chance, today, made = random.Random(1), day_of(now), list[MachineUsage]()
    for day in range(today - days + 1, today + 1):
        for use in (Use.SUCCEEDED, Use.SUCCEEDED, Use.FAILED, Use.INTERRUPTED, Use.WAITING)[: chance.randint(0, 5)]:
            job, owner = chance.choice([("train", "ann"), ("eval", "ann"), ("infer", "lab/bob")])
            cost = chance.uniform(0.1, 30)
            made.append(machine(len(made), day, owner, job, use, cost, now, team=chance.choice(["vision", "speech"])))
    made.append(machine(len(made), today, "lab/bob", "infer", Use.SUCCEEDED, 12.5, now, team="=cmd|'/c calc'!A1"))
    server.service.installation.store.save(made)
    return today


@pytest.fixture(scope="module")
def filled(site: Server) -> Server:
    fill(site)
    return site


def test_the_page_says_what_is_final_what_is_estimated_and_what_is_not_included(filled: Server) -> None:
    with visitor(filled, "root", admin=True) as admin:
        text = admin.get("/usage?by=job").text
    for words in ("of runs that are done", "of runs that are not done, until now", "Not included: ", "lab/bob/infer"):
        assert words in text
    assert "EC2&#39;s spot price history" in text
    assert 'aria-label="Dollars by day' in text


def test_owners_see_their_own_usage_only(filled: Server) -> None:
    with visitor(filled, "ann") as ann:
        for path in ("/usage?by=job", "/usage?by=job&owner=lab/bob", "/usage.csv?by=job&owner=lab/bob"):
            text = ann.get(path).text
            assert "infer" not in text
        assert "train" in ann.get("/usage?by=job").text
        empty = ann.get("/usage?by=job&owner=lab/bob").text
    assert "No machine was used in this period." in empty


def test_the_csv_has_the_groups_of_the_page_and_no_formulas(filled: Server) -> None:
    with visitor(filled, "root", admin=True) as admin:
        answer = admin.get("/usage.csv?by=tag&tag=team")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="usage-')
    lines = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert lines[0][:2] == ["tag:team", "state"]
    assert {line[0] for line in lines[1:]} == {"vision", "speech", "'=cmd|'/c calc'!A1"}


@pytest.mark.parametrize("query", ["from=x", "to=2026-13-01", "from=2030-02-02&to=2030-02-01", "from=1971-01-01"])
def test_a_wrong_period_is_explained(filled: Server, query: str) -> None:
    with visitor(filled, "ann") as ann:
        answer = ann.get(f"/usage?{query}")
    assert answer.status_code == 400
    assert "Not possible" in answer.text


@pytest.mark.parametrize("by", ["owner", "group", "user", "job", "instance_type", "market", "use", "day", "month", "x"])
def test_usage_is_shown_by_every_dimension(filled: Server, by: str) -> None:
    """The sum is the same for each of them."""
    with visitor(filled, "root", admin=True) as admin:
        plain, other = admin.get("/usage").text, admin.get(f"/usage?by={by}").text
    assert plain.partition('<h2 id="cost">')[2][:12] == other.partition('<h2 id="cost">')[2][:12]


def test_a_long_period_is_drawn_by_month(filled: Server) -> None:
    with visitor(filled, "root", admin=True) as admin:
        assert 'aria-label="Dollars by month' in admin.get("/usage?from=2025-01").text
