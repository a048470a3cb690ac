"""The page of a run: what it shows in each state, its live parts, and its stop button."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from provisioner.core.protocol.messages import Notice, Span, Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Tried, Verdict
from provisioner.core.run.states import State, Waiting
from provisioner.faces.page.run.sections import RANKS_MOST, SECTIONS
from tests.api.served import Server, recipe
from tests.page.conftest import Visitor, visitor
from tests.page.stored import Stored, resumed, running, stored

HOSTILE = "<script>alert(1)</script>\x1b]0;x\x07\u202eevil"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b]0;x\\x07\\x202eevil"


@pytest.fixture(scope="module")
def ann(site: Server) -> Iterator[Visitor]:
    with visitor(site, "ann") as found:
        yield found


def words(html: str) -> str:
    """Return the text of a page, with one space between its parts."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_ended_run_says_its_outcome_first_and_has_no_live_parts(site: Server, ann: Visitor) -> None:
    answer = ann.get(resumed(site).path)
    text = words(answer.text)
    assert answer.status_code == 200
    assert "Succeeded: the command exited 0" in text
    assert "Attempts 2 (1 interrupted)" in text
    assert "data-live" not in answer.text
    assert "/stop" not in answer.text


def test_running_run_says_what_happens_now_and_follows(site: Server, ann: Visitor) -> None:
    run = running(site)
    answer = ann.get(run.path)
    assert re.search(r"The command executes for (9 min 5\d|10 min \d) s", words(answer.text))
    live = set(re.findall(rf'data-live="{run.path}/parts/(\w+)"', answer.text))
    assert live == {section.name for section in SECTIONS if section.every and section.name != "list"}


def test_waiting_run_says_why_what_was_tried_and_when_it_tries_again(site: Server, ann: Visitor) -> None:
    run = stored(site, 600)
    now = run.run.created_at + 600
    tried = tuple(Tried("spot g5.xlarge in a", "InsufficientInstanceCapacity", now - age) for age in (300, 60))
    run.change(waiting=Waiting.CAPACITY, waiting_for="no zone has a machine", tried=tried, next_try_at=now + 90)
    text = words(ann.get(run.path).text)
    assert "Waits for capacity: no zone has a machine" in text
    assert re.search(r"spot g5.xlarge in a: InsufficientInstanceCapacity 2 times, last 1 min \d s ago", text)
    assert re.search(r"Next try: in 1 min \d+ s", text)
    assert "The run has had no machine yet." in text


def test_notice_of_a_spot_machine_is_shown_before_everything_else(site: Server, ann: Visitor) -> None:
    run = running(site)
    [node] = site.service.installation.store.nodes(run.run.id)
    assert node.report
    at = site.service.installation.clock.now() + 90
    run.save(replace(node, report=replace(node.report, notice=Notice(at, at - 120))))
    text = words(ann.get(run.path).text)
    assert text.index("spot interruption notice: EC2 takes the machine back: in 1 min") < text.index("Where the time")


def test_interruption_and_resume_are_rows_of_the_waterfall(site: Server, ann: Visitor) -> None:
    page = ann.get(resumed(site).path).text
    names = re.findall(r'aria-label="(Attempt [^:]*): ([^"]*)"', page)
    assert [name for name, _ in names] == ["Attempt 1", "Attempt 2"]
    assert "command 15 min 0 s" in names[0][1]
    assert "command 40 min 0 s" in names[1][1]
    assert "queued" in names[1][1]
    assert 'class="bars interrupted"' in page
    assert 'class="bars succeeded"' in page


def test_part_is_the_same_as_in_the_page_and_ends_with_the_run(site: Server, ann: Visitor) -> None:
    run = resumed(site)
    page = ann.get(run.path).text
    part = ann.get(f"{run.path}/parts/waterfall")
    assert part.text.strip() in page
    assert part.headers["x-over"] == "1"
    again = ann.client.get(f"{run.path}/parts/waterfall", headers={"If-None-Match": part.headers["etag"]})
    assert again.status_code == 304
    assert "x-over" not in ann.get(f"{running(site).path}/parts/now").headers


def test_unknown_part_is_not_found(site: Server, ann: Visitor) -> None:
    run = running(site)
    assert ann.get(f"{run.path}/parts/nothing").status_code == 404
    # The run has no list.
    assert ann.get(f"{run.path}/parts/list").status_code == 404


def test_beginning_of_an_id_leads_to_the_run(site: Server, ann: Visitor) -> None:
    run = stored(site)
    made = site.service.runs.record(run.run.id)
    assert ann.get(f"/run/{made.id[:31]}").status_code in (303, 400)
    assert ann.get(f"/run/{made.id.upper()}").headers["location"] == run.path


@pytest.mark.parametrize("rest", ["", "/parts/now", "/recipe", "/commands", "/commands/0", "/commands.csv"])
def test_run_of_another_owner_is_not_found(site: Server, rest: str) -> None:
    run = running(site)
    with visitor(site, "bob") as bob:
        assert bob.get(f"{run.path}{rest}").status_code == 404
        assert bob.post(f"{run.path}/stop").status_code == 404
        assert bob.post(f"{run.path}/rerun").status_code == 404
    assert site.service.runs.get(run.run.id).stop is None


def test_stop_is_asked_for_once_and_its_author_is_in_the_story(site: Server) -> None:
    run = running(site)
    made = site.service.tokens.create(["ann"], admin=False)
    with visitor(site) as ann:
        ann.log_in(made.token)
        _stop(run, ann)
    event = site.service.runs.status(run.run.id).events[-1]
    assert (event.text, event.who) == ("stop requested", made.id)


def _stop(run: Stored, ann: Visitor) -> None:
    assert f'action="{run.path}/stop"' in ann.get(run.path).text
    answer = ann.post(f"{run.path}/stop")
    assert (answer.status_code, answer.headers["location"]) == (303, run.path)
    page = words(ann.get(run.path).text)
    assert "Stop requested" in page
    assert "The order is not sent to the machine yet." in page
    assert re.search("stop requested by [0-9a-f]{12}", page)
    assert f'action="{run.path}/stop"' not in ann.get(run.path).text


def test_stop_needs_the_token_of_the_session(site: Server, ann: Visitor) -> None:
    run = running(site)
    assert ann.client.post(f"{run.path}/stop", data={}).status_code == 403
    assert site.service.runs.get(run.run.id).stop is None


def test_stop_of_an_ended_run_says_so(site: Server, ann: Visitor) -> None:
    run = resumed(site)
    ann.post(f"{run.path}/stop")
    assert "The run has ended already." in words(ann.get(run.path).text)


def test_stopping_run_says_when_its_machine_is_ended(site: Server, ann: Visitor) -> None:
    run = running(site)
    run.change(stop=Stop(Outcome.CANCELLED, "stop requested", run.run.created_at + 700))
    [node] = site.service.installation.store.nodes(run.run.id)
    run.save(replace(node, stop_put_at=run.run.created_at + 701))
    text = words(ann.get(run.path).text)
    assert "If the machine does not answer, it is terminated at" in text


def test_texts_of_users_and_machines_are_only_text(site: Server, ann: Visitor) -> None:
    run = stored(
        site,
        recipe={"command": HOSTILE.replace("\x1b", "").replace("\x07", ""), "environment_variables": {"A": "<b>"}},
        job_name=HOSTILE,
        idempotency_key=HOSTILE,
    )
    end = run.run.created_at + 5
    run.change(state=State.DONE, verdict=Verdict(Outcome.REFUSED, HOSTILE, end), ended_at=end, done_at=end)
    run.tell({0: f"queued: {HOSTILE}", 1: HOSTILE})
    page = ann.get(run.path).text
    assert page.count(SHOWN) >= 5
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "<b>" not in page


def test_receipt_is_estimated_until_the_run_is_done(site: Server, ann: Visitor) -> None:
    for run, label in ((running(site), "estimated"), (resumed(site), "final")):
        text = words(ann.get(f"{run.path}/parts/receipt").text)
        assert label in text
        assert "$0.90 an hour EC2 DescribeSpotPriceHistory," in text
        assert "Not included: traffic" in text


def test_inputs_have_command_variables_and_the_whole_recipe(site: Server, ann: Visitor) -> None:
    run = stored(site, recipe={"command": "python train.py\n--epochs 3", "environment_variables": {"SEED": "7"}})
    page = ann.get(run.path).text
    assert "python train.py\n--epochs 3" in page
    assert "SEED 7" in words(page)
    whole = ann.get(f"{run.path}/recipe")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert "SEED: '7'" in whole.text


def test_inputs_of_the_start_are_marked(site: Server, ann: Visitor) -> None:
    site.service.jobs.apply(recipe("marked", "ann", environment_variables={"A": "1", "B": "2"}), "the test's recipe")
    run = site.service.runs.start("ann/marked", {"B": "3", "C": "4"}, "python train.py")
    text = words(ann.get(f"/run/{run.id}").text)
    changed = "command , environment_variables.B , environment_variables.C"
    assert f"Changed at the start: {changed}" in text
    assert "A 1 B 3 changed at the start C 4 changed at the start" in text
    assert f'href="/job/{run.job_id}/revisions/1"' in ann.get(f"/run/{run.id}").text
    site.service.runs.stop(run.id)


def test_run_of_a_deleted_job_has_no_link_to_its_revision(site: Server, ann: Visitor) -> None:
    page = ann.get(resumed(site).path).text
    assert "revision 1" in words(page)
    assert "/revisions/1" not in page


def test_long_recipe_is_cut_in_the_page(site: Server, ann: Visitor) -> None:
    run = stored(site, recipe={"start_script": "echo line\n" * 10_000})
    page = ann.get(run.path).text
    assert len(page) < 40_000
    assert "The recipe is longer." in page
    assert ann.get(f"{run.path}/recipe").text.count("echo line") == 10_000


def test_ranks_of_a_large_gang_have_pages(site: Server, ann: Visitor) -> None:
    run = stored(site, 700, state=State.PREPARING, attempt=1, scale=120)
    for rank in range(120):
        run.attempt(1, 2, 400, None, rank=rank)
    page = ann.get(run.path).text
    assert len(page) < 100_000
    assert page.count('<tr id="attempt-') == RANKS_MOST
    assert f"?ranks={RANKS_MOST}#machines" in page
    last = ann.get(f"{run.path}?ranks={2 * RANKS_MOST}").text
    assert last.count('<tr id="attempt-') == 20
    assert '<tr id="attempt-1-119">' in last
    # An update keeps the page.
    assert f"{run.path}/parts/machines?ranks={2 * RANKS_MOST}" in last


def test_page_of_a_run_with_many_attempts_is_small(site: Server, ann: Visitor) -> None:
    run = stored(site, 90_000, state=State.RUNNING, attempt=20)
    for number in range(1, 21):
        run.attempt(number, number * 4000, 3000, Outcome.INTERRUPTED, "AWS takes the spot machine back", 143)
    run.tell({float(number): "no machine (capacity: none)" for number in range(2000)})
    assert len(ann.get(run.path).content) < 100_000


@pytest.mark.parametrize("at", [-9e15, -62135596801.0, 253402300800.0, 9e15])
def test_page_is_shown_with_absurd_times_in_the_store(site: Server, ann: Visitor, at: float) -> None:
    """A machine's clock may be wrong, and an earlier version has stored its times."""
    run = running(site)
    [node] = site.service.installation.store.nodes(run.run.id)
    assert node.report
    spans = {name: Span(at, at + 1) for name in node.report.spans}
    run.save(replace(node, report=replace(node.report, at=at, spans=spans), bound_at=at))
    run.change(created_at=at, next_try_at=at)
    run.tell({0: "queued: triggered"})
    for path in (run.path, *(f"{run.path}/parts/{section.name}" for section in SECTIONS if section.name != "list")):
        assert ann.get(path).status_code == 200, path
    assert ann.get("/runs").status_code == 200
