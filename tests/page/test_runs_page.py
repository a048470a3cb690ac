"""The list of runs: its filters, its pages, and the stop of several runs."""

import re
from collections.abc import Iterator

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State
from provisioner.faces.page.routes.runs import PAGE
from tests.api.served import Server
from tests.page.conftest import Visitor, visitor
from tests.page.stored import Stored, resumed, running, stored


@pytest.fixture(scope="module")
def runs(site: Server) -> dict[str, Stored]:
    ended = resumed(site, owner="lab", job_name="nightly")
    failed = stored(site, 5000, owner="lab", job_name="nightly", job_id="a" * 32, attempt=1)
    at = failed.run.created_at + 60
    failed.change(state=State.DONE, verdict=Verdict(Outcome.FAILED, "exit 1", at, 1), ended_at=at, done_at=at)
    return {"ended": ended, "failed": failed, "live": running(site, owner="lab"), "other": running(site, owner="bob")}


@pytest.fixture
def lab(site: Server) -> Iterator[Visitor]:
    with visitor(site, "lab") as found:
        yield found


def listed(html: str) -> list[str]:
    return re.findall(r'href="/run/([0-9a-f]+)"', html)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["live", "failed", "ended"]),
        ("?show=unfinished", ["live"]),
        ("?show=running", ["live"]),
        ("?show=failed", ["failed"]),
        ("?show=succeeded", ["ended"]),
        ("?show=queued", []),
        ("?show=nonsense", ["live", "failed", "ended"]),
        ("?job=" + "a" * 32, ["failed"]),
        ("?owner=lab", ["live", "failed", "ended"]),
        ("?owner=bob", []),
    ],
)
def test_filters_limit_the_list(lab: Visitor, runs: dict[str, Stored], query: str, names: list[str]) -> None:
    answer = lab.get(f"/runs{query}")
    assert answer.status_code == 200
    assert listed(answer.text) == [runs[name].run.id for name in names]
    assert listed(lab.get(f"/runs/part{query}").text) == listed(answer.text)


@pytest.mark.usefixtures("runs")
def test_unknown_job_is_explained_in_the_page(lab: Visitor) -> None:
    answer = lab.get("/runs?job=nothing")
    assert answer.status_code == 200
    assert "no job" in answer.text
    assert 'value="nothing"' in answer.text


def test_only_runs_that_can_be_stopped_have_a_box(lab: Visitor, runs: dict[str, Stored]) -> None:
    page = lab.get("/runs").text
    assert re.findall(r'name="run" value="([0-9a-f]+)"', page) == [runs["live"].run.id]


def test_selected_runs_are_stopped_and_those_of_others_are_not(site: Server, runs: dict[str, Stored]) -> None:
    first, second, other = running(site, owner="busy"), running(site, owner="busy"), runs["other"]
    with visitor(site, "busy") as busy:
        fields = {"csrf": busy.csrf, "show": "running", "run": [each.run.id for each in (first, other, second)]}
        answer = busy.client.post("/runs/stop", data=fields)
        shown = busy.get("/runs?show=running").text
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?show=running")
    asked = [site.service.runs.get(each.run.id).stop is not None for each in (first, second, other)]
    assert asked == [True, True, False]
    assert "Stop requested for 2 runs. no run" in shown


def test_stop_of_nothing_says_so(lab: Visitor) -> None:
    assert lab.post("/runs/stop").status_code == 303
    assert "No run was selected." in lab.get("/runs").text


def test_pages_follow_each_other_with_the_same_filter(site: Server) -> None:
    made = [stored(site, 1000 - number, owner="many") for number in range(PAGE + 7)]
    with visitor(site, "many") as many:
        first = many.get("/runs?show=queued").text
        address = re.search(r'<a rel="next" href="([^"]+)"', first)
        assert address
        second = many.get(address[1].replace("&amp;", "&")).text
    assert "show=queued" in address[1]
    assert listed(first) + listed(second) == [each.run.id for each in reversed(made)]
    assert 'rel="next"' not in second
    # Only the first page changes by itself.
    assert "data-live" in first
    assert "data-live" not in second
