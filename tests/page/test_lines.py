"""The page's addresses for lines, searches and the whole log."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.served import Server, recipe
from tests.page.conftest import Visitor, visitor
from tests.support.logged import LoggedRun


@pytest.fixture
def ann(site: Server) -> Iterator[Visitor]:
    with visitor(site, "ann") as found:
        yield found


def _lines(ann: Visitor, run: LoggedRun, query: str = "") -> dict[str, Any]:
    answer = ann.get(f"/run/{run.id}/lines?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _texts(html: str) -> list[str]:
    return [re.sub("<[^>]*>", "", row) for row in re.findall("<li.*?</li>", html, re.DOTALL)]


def test_lines_of_a_live_log_arrive_and_the_last_one_is_open(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(b"one\ntwo\nthr")
    before = _lines(ann, run)
    assert (before["total"], before["open"], before["over"]) == (3, True, False)
    assert _texts(before["html"]) == ["1one", "2two", "3thr"]
    run.write(b"ee\nfour\n")
    run.end()
    after = _lines(ann, run, "first=3")
    assert _texts(after["html"]) == ["3three", "4four"]
    assert (after["first"], after["total"], after["open"], after["over"]) == (3, 4, False, True)


def test_reading_a_live_log_makes_the_machine_ship_it_every_second(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    _lines(ann, run)
    stored = site.service.installation.store.run(run.id)
    assert stored
    assert stored.followed_until > stored.created_at


def test_each_row_has_the_address_of_its_line(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(b"one\ntwo\n", "setup")
    html = _lines(ann, run, "stream=setup&first=2")["html"]
    assert '<li id="setup:L2"><a href="#setup:L2">2</a><code>two</code></li>' in html


def test_hostile_bytes_are_text(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(
        b"<script>alert(1)</script>\n\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07\n\xff\x00\x1b[2J\xe2\x80\xaeab\n"
    )
    run.write(b"\x1b[38;2;1;2m\x1b[999;38;5;999;;;m<b>\n")
    html = _lines(ann, run)["html"]
    assert _texts(html) == [
        "1&lt;script&gt;alert(1)&lt;/script&gt;",
        "2link",
        "3\ufffd\ufffdab",
        "4&lt;b&gt;",
    ]
    assert "javascript" not in html


def test_colours_are_classes_and_a_progress_bar_shows_its_last_state(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(b"\x1b[1;31mred\x1b[0m and \x1b[38;5;46mgreen\x1b[m\n\x1b[33m 10%\r 50%\r100%\r\n")
    html = _lines(ann, run)["html"]
    assert '<span class="t-bold t-f1">red</span> and <span class="t-f10">green</span>' in html
    assert '<span class="t-f3">100%</span>' in html
    assert "50%" not in html
    assert "15 B before this were overwritten" in html


def test_long_line_is_cut_and_a_gap_is_a_row(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(b"x" * 50_000 + b"end\n")
    run.write(b"after\n", lost=7)
    found = _lines(ann, run)
    assert "42 kB are not shown" in found["html"]
    assert "xend</code>" in found["html"]
    assert "At least 7 B are missing here, from byte 50004." in _texts(found["html"])
    assert len(found["html"]) < 12_000


def test_search_marks_the_text(site: Server, ann: Visitor) -> None:
    run = LoggedRun(site)
    run.write(b"".join(b"line %d\n" % number for number in range(1, 101)) + b"\x1b[31man <error>\x1b[0m here\n")
    found = ann.client.get(f"/run/{run.id}/find", params={"q": "<ERROR>", "ignore_case": "1"}).json()
    assert found["hits"] == [
        {
            "line": 101,
            "html": '<span class="t-f1">an </span><mark class="t-f1">&lt;error&gt;</mark> here',
        }
    ]
    assert found["next"] is None
    several = ann.client.get(f"/run/{run.id}/find", params={"q": "line 1", "limit": 3}).json()
    assert [hit["line"] for hit in several["hits"]] == [1, 10, 11]
    more = ann.client.get(f"/run/{run.id}/find", params={"q": "line 1", "limit": 3, "after": several["next"]}).json()
    assert [hit["line"] for hit in more["hits"]] == [12, 13, 14]


def test_whole_log_is_a_file_with_its_bytes(site: Server, ann: Visitor) -> None:
    run, data = LoggedRun(site), bytes(range(256)) * 1000
    run.write(data)
    run.write(data)
    run.end()
    answer = ann.get(f"/run/{run.id[:12]}/log/raw?stream=output")
    assert answer.content == data + data
    assert answer.headers["content-disposition"] == f'attachment; filename="{run.id[:12]}-1-0-output.log"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["lines", "find?q=a", "log/raw"])
def test_another_owners_log_does_not_exist(site: Server, path: str) -> None:
    run = LoggedRun(site)
    run.write(b"secret\n")
    with visitor(site, "bob") as bob, visitor(site) as nobody:
        answer = bob.get(f"/run/{run.id}/{path}")
        assert answer.status_code == 404
        assert "secret" not in answer.text
        assert nobody.client.get(f"/run/{run.id}/{path}", headers={"x-script": "1"}).status_code == 401


@pytest.mark.parametrize(
    "path", ["lines?count=0", "lines?first=0", "lines?stream=x", "find?q=", "find?q=a%0Ab", "find?q=a&after=x"]
)
def test_wrong_request_is_refused(site: Server, ann: Visitor, path: str) -> None:
    assert ann.get(f"/run/{LoggedRun(site).id}/{path}").status_code == 400


def test_log_of_a_run_without_a_machine_is_empty(site: Server, ann: Visitor) -> None:
    site.service.jobs.apply(recipe("queued", "ann"), "the test's recipe")
    run = site.service.runs.start("ann/queued", {})
    found = ann.get(f"/run/{run.id}/lines").json()
    assert (found["attempt"], found["total"], found["over"], found["html"].strip()) == (0, 0, False, "")
    assert ann.get(f"/run/{run.id}/lines?attempt=2").status_code == 404
