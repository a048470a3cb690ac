"""The pages of queue, machines, tokens, audit and documentation, and the theme."""

import re
from dataclasses import replace
from html import unescape

import pytest

from provisioner.core.access.callers import Audit
from provisioner.core.cloud.machines import MachineState
from provisioner.core.cloud.offers import Price
from provisioner.core.protocol.messages import Notice
from provisioner.core.protocol.words import Step
from provisioner.core.run.machines.silence import SILENT
from provisioner.core.run.records import Record, Tried
from provisioner.core.run.states import Waiting
from provisioner.faces.page.routes.access.audit import PAGE
from tests.api.served import Server
from tests.page.conftest import visitor
from tests.support import samples

#: Seconds that a page shows as `5 h` and some minutes, however slow the test is.
AWHILE = 5.5 * 3600


def text_of(html: str) -> str:
    """Return what a page says in its <main>, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.partition("<main")[2])).split())


def put(site: Server, *records: Record) -> None:
    site.service.installation.store.save(records)


@pytest.fixture(scope="module")
def busy(site: Server) -> Server:
    """Return a server with two waiting runs of Ann's and one of Bob's, and a machine of each kind of Ann's."""
    now = site.service.operator.now()
    tried = (Tried("spot g5.xlarge us-east-1a", "InsufficientInstanceCapacity", now - AWHILE),)
    dry = samples.run("d" * 32, job_name="dry", owner="ann", created_at=now - AWHILE, waiting=Waiting.CAPACITY)
    dry = replace(dry, waiting_for="no capacity in any zone", next_try_at=now + AWHILE, tried=tried)
    asked = samples.run("e" * 32, job_name="asked", owner="ann", created_at=now - 60, waiting=Waiting.OPERATOR)
    asked = replace(asked, waiting_for="AWS has not verified the account", next_try_at=now + 60)
    records: list[Record] = [dry, asked, samples.run("f" * 32, job_name="secret", owner="bob", created_at=now)]
    for number, name in enumerate(("fine", "silent", "noticed", "kept")):
        id, begun = f"{number:032x}", now - AWHILE - number
        heard = now - 2 * SILENT if name == "silent" else now - 1
        notice = Notice(now + 119, now - 5) if name == "noticed" else None
        report = samples.report(Step.COMMAND, began=begun, at=heard, notice=notice)
        node = samples.node(
            id=f"{id}.1.0", run=id, instance_id=f"i-{name}", report=report, reported_at=heard, bound_at=begun
        )
        price = None if name == "noticed" else Price(3.6, "test", now)
        machine = samples.machine(id=f"i-{name}", launch_time=begun, state=MachineState.RUNNING, price=price)
        records += [
            samples.at_work(id=id, job_name=name, owner="ann", created_at=begun),
            node,
            replace(machine, lifetime=100_000.0, running_at=begun),
        ]
    put(site, *records, samples.machine(id="i-builder", launch_time=now - 300))
    return site


def test_queue_says_why_a_run_waits_what_was_tried_and_when_it_is_tried_next(busy: Server) -> None:
    with visitor(busy, "ann") as ann:
        text = text_of(ann.get("/queue").text)
    assert "1 run capacity next try in" in text
    assert "ann/dry dddddddddddd queued triggered 5 h" in text
    assert "capacity : no capacity in any zone Next try in 5 h" in text
    assert "1 refused offer What was tried" in text
    assert "When spot g5.xlarge us-east-1a InsufficientInstanceCapacity 5 h" in text
    assert text.index("AWS has not verified the account") < text.index("ann/dry"), "first, what the operator must do"
    assert "secret" not in text, "it is another owner's"


def test_queue_has_pages(busy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.faces.page.routes.queue.PAGE", 1)
    with visitor(busy, "ann") as ann:
        first = ann.get("/queue").text
        link = re.search(r'<a rel="next" href="([^"]*)"', first)
        assert link
        second = ann.get(unescape(link[1])).text
    assert ("ann/asked" in first, "ann/dry" in first) == (True, False)
    assert ("ann/asked" in second, "ann/dry" in second) == (False, True)


def test_empty_queue_shows_the_command_to_type(busy: Server) -> None:
    with visitor(busy, "carl") as carl:
        page = carl.get("/queue").text
    assert "No run waits." in page
    assert 'data-copy="provision start JOB"' in page


def test_machines_show_state_lifetime_and_cost_so_far(busy: Server) -> None:
    with visitor(busy, "ann") as ann:
        text = text_of(ann.get("/machines").text)
    assert [text.index(f"ann/{name}") for name in ("silent", "noticed", "kept", "fine")] == sorted(
        text.index(f"ann/{name}") for name in ("silent", "noticed", "kept", "fine")
    )
    assert "4 machines billed, $10.80 an hour, and 1 of unknown price" in text
    assert "silent last report" in text
    assert "interruption notice ends in" in text
    assert re.search(r"running command 5 h \d+ min of at most 1 d 3 h", text)
    assert "price unknown" in text
    assert "i-builder" not in text, "only an admin sees machines without a run"


def test_admin_sees_machines_without_a_run(busy: Server) -> None:
    with visitor(busy, "root", admin=True) as admin:
        text = text_of(admin.get("/machines").text)
    assert "i-builder" in text
    assert "no run: an AMI is made from it, or it will be ended" in text


@pytest.mark.parametrize("path", ["/queue", "/machines"])
def test_live_part_is_sent_again_only_if_it_changed(site: Server, path: str) -> None:
    with visitor(site, "carl") as carl:
        first = carl.get(f"{path}/parts/now")
        assert first.status_code == 200
        assert text_of(f"<main{first.text}") in text_of(carl.get(path).text)
        again = carl.client.get(f"{path}/parts/now", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.text) == (304, "")


def _created(page: str) -> str:
    found = re.search(r"pvt_[0-9a-f]{12}_[\w-]{43}", page)
    return found[0] if found else ""


def test_new_token_is_shown_once_and_logs_in(site: Server) -> None:
    with visitor(site, "root", admin=True) as admin, visitor(site) as other:
        made = admin.post("/tokens", owners="dora, lab/dora", role="user", expires="30d", note=" Dora's <laptop> ")
        token = _created(made.text)
        assert made.status_code == 200
        assert "no-store" in made.headers["cache-control"]
        shown = admin.get("/tokens").text
        assert token not in shown
        assert "dora, lab/dora" in shown
        assert "Dora&#39;s &lt;laptop&gt;" in shown
        assert other.log_in(token).status_code == 303


def test_page_of_tokens_has_the_newest_and_counts_the_others(site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioner.faces.page.routes.access.tokens.MOST", 1)
    old, new = (site.service.tokens.create([name], admin=False).id for name in ("older", "newer"))
    with visitor(site, "root", admin=True) as admin:
        newest = site.service.tokens.all()[0].id
        page = admin.get("/tokens").text
    assert newest in page
    assert {old, new}.isdisjoint(re.findall(r"<code>([0-9a-f]{12})</code>", page))
    assert f"{len(site.service.tokens.all()) - 1} older ones" in page


def test_wrong_field_of_a_token_is_explained_and_keeps_what_was_written(site: Server) -> None:
    with visitor(site, "root", admin=True) as admin:
        before = len(site.service.tokens.all())
        for fields, told in (
            ({"owners": " "}, "the owners are missing"),
            ({"owners": "Ann Smith"}, "invalid owner &#39;Ann&#39;"),
            ({"owners": "ann", "role": "king"}, "&#39;king&#39; is not a role"),
            ({"owners": "ann", "expires": "1000000d"}, "&#39;1000000d&#39; is not a lifetime"),
        ):
            answer = admin.post("/tokens", **{"role": "user", "expires": "1d", "note": "mine", **fields})
            assert (answer.status_code, told in answer.text) == (400, True), fields
            assert 'value="mine"' in answer.text
        assert len(site.service.tokens.all()) == before


def test_revoked_token_ends_its_session(site: Server) -> None:
    made = site.service.tokens.create(["dora"], admin=False)
    with visitor(site, "root", admin=True) as admin, visitor(site) as dora:
        dora.log_in(made.token)
        assert admin.post(f"/tokens/{made.id}/revoke").headers["location"] == "/tokens"
        assert f"Token {made.id} is revoked." in admin.get("/tokens").text
        assert dora.get("/queue").status_code == 303


@pytest.mark.parametrize("path", ["/tokens", "/audit"])
def test_pages_of_admins_are_forbidden_to_others(site: Server, path: str) -> None:
    with visitor(site, "ann") as ann:
        answer = ann.get(path)
        assert (answer.status_code, "only an admin may do this" in answer.text) == (403, True)
        assert f'href="{path}"' not in ann.get("/queue").text
        assert ann.post("/tokens", owners="ann", role="admin", expires="").status_code == 403


@pytest.fixture(scope="module")
def audited(site: Server) -> Server:
    """Return a server with three changes by one token."""
    now = site.service.operator.now()
    kinds = (("stop", "zoe", "1" * 32), ("apply", "zoe", "vision"), ("start", "abe", "2" * 32))
    for number, (what, owner, target) in enumerate(kinds):
        put(site, Audit(f"{number:032x}", now - number, "0123456789ab", "192.0.2.7", what, owner, target))
    return site


@pytest.mark.parametrize(
    ("query", "count"),
    [("who=0123456789ab", 3), ("what=apply", 1), ("owner=zoe", 2), ("owner=zoe&what=stop", 1), ("target=vis", 1)],
)
def test_audit_is_filtered(audited: Server, query: str, count: int) -> None:
    with visitor(audited, "root", admin=True) as admin:
        rows = re.findall(r"<tr>.*?</tr>", admin.get(f"/audit?{query}").text, re.DOTALL)[1:]
    assert len(rows) == count
    assert all("0123456789ab" in row for row in rows)


def test_audit_leads_to_the_run(audited: Server) -> None:
    with visitor(audited, "root", admin=True) as admin:
        page = admin.get("/audit?who=0123456789ab").text
    assert f'href="/run/{"1" * 32}"' in page
    assert 'href="/run/vision"' not in page


def test_audit_with_a_filter_has_pages(site: Server) -> None:
    """A page of a filter that matches few changes continues where the server stopped to look."""
    now = site.service.operator.now()
    for number in range(PAGE + 5):
        put(site, Audit(f"b{number:031x}", now - 1000 - number, "many", "local", "upload", "max", "x"))
    with visitor(site, "root", admin=True) as admin:
        first = admin.get("/audit?who=many").text
        link = re.search(r'<a rel="next" href="([^"]*)"', first)
        assert link
        assert "who=many" in link[1]
        second = admin.get(unescape(link[1])).text
    assert (first.count("local</td>"), second.count("local</td>")) == (PAGE, 5)
    assert 'rel="next"' not in second


def test_audit_that_finds_nothing_in_the_newest_changes_leads_to_older_ones(
    site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.service.access.tokens.LOOKED", 1)
    with visitor(site, "root", admin=True) as admin:
        page = admin.get("/audit?who=nobody").text
    assert "None of the newest changes matches: older ones may." in unescape(page)
    assert 'rel="next"' in page


def test_documentation_is_searched_and_linked(site: Server) -> None:
    with visitor(site, "ann") as ann:
        assert 'href="/docs/access"' in ann.get("/docs").text
        found = ann.get("/docs?q=throttling")
        assert re.search(r'href="/docs/access[#"]', found.text)
        assert "<mark>Throttling</mark>" in found.text
        assert "<h1 id=" in ann.get("/docs/access").text
        picture = ann.get("/docs/pictures/map.svg")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")
        assert ann.get("/docs/nothing").status_code == 404
        assert ann.get("/docs/pictures/..%2faccess.md").status_code == 404


def test_theme_is_chosen_without_javascript(site: Server) -> None:
    with visitor(site, "ann") as ann:
        assert "data-theme" not in ann.get("/queue").text
        page = {"Referer": f"{site.url}/queue?cursor="}
        sent = ann.client.post("/theme", data={"csrf": ann.csrf, "theme": "dark"}, headers=page)
        assert (sent.status_code, sent.headers["location"]) == (303, "/queue?cursor=")
        assert 'data-theme="dark"' in ann.get("/queue").text
        assert ann.post("/theme", theme="auto").headers["location"] == "/"
        assert "data-theme" not in ann.get("/queue").text
        assert "script" not in ann.post("/theme", theme='"><script>').headers["set-cookie"]
