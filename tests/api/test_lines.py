"""Lines of logs and searches over HTTP: the native API, and the client of another computer."""

from collections.abc import Iterator

import httpx
import pytest

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.system import RandomIds, SystemClock
from provisioner.core.errors import Invalid, NotFound
from provisioner.core.views.log import Gap, Line
from provisioner.ports.control.logs import LineQuery, Place, Search
from tests.api.served import Server
from tests.support.logged import LoggedRun


@pytest.fixture
def run(quiet: Server) -> LoggedRun:
    made = LoggedRun(quiet)
    made.write(b"starting\n", "setup")
    made.write(b"".join(b"epoch %d\n" % number for number in range(1, 501)))
    made.write(b"\xff \x1b[31mlast", lost=5)
    return made


@pytest.fixture
def ann(quiet: Server) -> Iterator[httpx.Client]:
    with quiet.client(quiet.token("ann")) as client:
        yield client


def test_lines_are_read_by_number_by_byte_and_from_the_end(ann: httpx.Client, run: LoggedRun) -> None:
    path = f"/api/runs/{run.id[:12]}/lines"
    page = ann.get(path, params={"first": 123, "count": 2}).json()
    assert [line["text"] for line in page["lines"]] == ["epoch 123", "epoch 124"]
    assert (page["first"], page["total"], page["over"], page["open"]) == (123, 501, False, True)
    offset = page["lines"][1]["offset"]
    assert ann.get(path, params={"offset": offset + 3, "count": 1}).json()["first"] == 124
    last = ann.get(path, params={"count": 1}).json()
    assert last["lines"][0]["text"] == "\ufffd \x1b[31mlast"
    assert last["gaps"] == [{"before": 501, "offset": 4892, "missing": 5}]
    assert ann.get(path, params={"stream": "setup"}).json()["total"] == 1


def test_search_returns_lines_and_where_to_continue(ann: httpx.Client, run: LoggedRun) -> None:
    path = f"/api/runs/{run.id}/search"
    found = ann.get(path, params={"text": "EPOCH 50", "ignore_case": True, "limit": 1}).json()
    assert [hit["line"] for hit in found["hits"]] == [50]
    more = ann.get(path, params={"text": "epoch 50", "after": found["next"]}).json()
    assert ([hit["line"] for hit in more["hits"]], more["next"]) == ([500], None)


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("lines?first=0", 400, "query.first"),
        ("lines?count=1001", 400, "query.count"),
        ("lines?attempt=2", 404, "has no attempt 2 with a rank 0"),
        ("lines?rank=1", 404, "has no rank 1: its ranks are 0 to 0"),
        ("search", 400, "query.text"),
        ("search?text=a&after=x", 400, "pass `next` of the previous search"),
        ("search?text=a%0Ab", 400, "it has a line break"),
    ],
)
def test_wrong_request_is_explained(ann: httpx.Client, run: LoggedRun, query: str, status: int, text: str) -> None:
    answer = ann.get(f"/api/runs/{run.id}/{query}")
    assert (answer.status_code, text in answer.json()["message"]) == (status, True), answer.text


def test_client_on_another_computer_reads_the_same_views(quiet: Server, run: LoggedRun) -> None:
    remote = Remote(address(quiet.url, quiet.token("ann")), SystemClock(), RandomIds(), print)
    page = remote.logs.lines(run.id, Place(), LineQuery(offset=0, count=1, following=True))
    assert page.lines == (Line(1, 0, 7, "epoch 1"),)
    last = remote.logs.lines(run.id, Place("output", 1, 0), LineQuery(first=501))
    assert last.gaps == (Gap(501, 4892, 5),)
    hits = remote.logs.search(run.id, Place(), Search("EPOCH 7", limit=2, ignore_case=True))
    assert [hit.line for hit in hits.hits] == [7, 70]
    assert remote.logs.search(run.id, Place(), Search("epoch 7", hits.next or "")).hits[0].line == 71
    assert remote.logs.lines(run.id, Place("setup"), LineQuery()).lines[0].text == "starting"
    with pytest.raises(NotFound):
        remote.logs.lines(run.id, Place(attempt=3), LineQuery())
    with pytest.raises(Invalid):
        remote.logs.search(run.id, Place(), Search("a", after="x"))
    remote.close()
