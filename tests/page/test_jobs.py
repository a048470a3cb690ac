"""The pages of jobs: their list, the page of one job, its forms and its revisions."""

import html
import json
import re
from collections.abc import Iterator

import pytest

from provisioner.core.recipe.jobs import Job, revision_of
from provisioner.core.recipe.jobs import applied as applied_to
from provisioner.core.recipe.recipe import Recipe, parse_recipe
from provisioner.core.run.records import Record
from tests.api.served import Server, recipe
from tests.page.conftest import Visitor, visitor


@pytest.fixture
def ann(site: Server) -> Iterator[Visitor]:
    with visitor(site, "ann") as found:
        yield found


def applied(site: Server, name: str, owner: str = "ann", **spec: object) -> Job:
    """Store the recipe as `apply` does, but without asking the cloud, which does not answer here."""
    installation, dump = site.service.installation, parse_recipe(recipe(name, owner, **spec), "f").dump()
    store, now = installation.store, installation.clock.now()
    known = store.job(owner, name)
    if known and known.recipe == dump:
        return known
    job = applied_to(known, dump, None, now) if known else Job(installation.ids.new(), owner, name, dump, 1, now, now)
    records: list[Record] = [job, revision_of(job, "local:test")]
    (saved, _) = store.save(records)
    assert isinstance(saved, Job)
    return saved


def runs_of(site: Server, job: Job) -> list[str]:
    return [run.id for run in site.service.history.runs(job.id).runs]


def field(page: str, name: str) -> str:
    """Return the value of a field of a form."""
    found = re.search(rf'name="{name}"[^>]*? value="([^"]*)"', page)
    assert found, name
    return html.unescape(found[1])


def area(page: str) -> str:
    """Return the recipe in the form."""
    found = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_list_shows_the_visitors_jobs_and_only_these(site: Server, ann: Visitor) -> None:
    applied(site, "shown", description="trains <b>")
    applied(site, "of-another", "bob")
    page = ann.get("/jobs").text
    assert ">shown</a>" in page
    assert "trains &lt;b&gt;" in page
    assert "of-another" not in page


def test_list_is_searched(site: Server, ann: Visitor) -> None:
    applied(site, "needle-in-hay")
    applied(site, "straw")
    page = ann.get("/jobs?q=NEEDLE").text
    assert "needle-in-hay" in page
    assert "straw" not in page
    assert "No job has nothing&lt; in" in ann.get("/jobs?q=nothing%3C").text


def test_visitor_without_jobs_gets_the_command_for_a_first_one(site: Server) -> None:
    with visitor(site, "nobody-yet") as new:
        page = new.get("/jobs").text
    assert "provision init recipe" in page


def test_start_button_of_the_list_starts_one_run_however_often_it_is_pressed(site: Server, ann: Visitor) -> None:
    """The list is loaded again before its button starts another run."""
    job = applied(site, "pressed")
    key = re.search(rf'/job/{job.id}/start.*?name="key" value="([^"]*)"', ann.get("/jobs?q=pressed").text)
    assert key
    for _ in range(2):
        sent = ann.post(f"/job/{job.id}/start", key=key[1])
        assert sent.headers["location"] == f"/run/{runs_of(site, job)[0]}"
    assert len(runs_of(site, job)) == 1
    key = re.search(rf'/job/{job.id}/start.*?name="key" value="([^"]*)"', ann.get("/jobs?q=pressed").text)
    assert key
    ann.post(f"/job/{job.id}/start", key=key[1])
    assert len(runs_of(site, job)) == 2


def test_run_is_started_with_inputs(site: Server, ann: Visitor) -> None:
    job = applied(site, "with-inputs", environment_variables={"A": "recipe", "B": "recipe"})
    page = ann.get(f"/job/{job.id}").text
    fields = {"csrf": ann.csrf, "key": field(page, "key"), "name": ["A", "", "C"], "value": ["1", "", "x y"]}
    fields |= {"command": "one\r\ntwo", "scale": "2"}
    sent = ann.client.post(f"/job/{job.id}/start", data=fields)
    (run,) = runs_of(site, job)
    assert sent.headers["location"] == f"/run/{run}"
    spec = json.loads(site.service.runs.record(run).recipe)["spec"]
    assert spec["environment_variables"] == {"A": "1", "B": "recipe", "C": "x y"}
    assert (spec["command"], spec["scale"]) == ("one\ntwo", 2)
    # The browser's Back leads to the same form: other inputs are another run.
    ann.client.post(f"/job/{job.id}/start", data={**fields, "scale": "1"})
    assert len(runs_of(site, job)) == 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": ["", "B"], "value": ["lost", "1"]}, "no variable"),
        ({"name": ["A", "A"], "value": ["1", "2"]}, "A is there twice"),
        ({"name": ["1A"], "value": ["1"]}, "environment_variables"),
        ({"scale": "many"}, "write a whole number"),
        ({"scale": "0"}, "spec.scale"),
    ],
)
def test_refused_inputs_stay_in_the_form_with_the_reason(
    site: Server, ann: Visitor, fields: dict[str, object], told: str
) -> None:
    job = applied(site, "refused-inputs")
    answer = ann.client.post(f"/job/{job.id}/start", data={"csrf": ann.csrf, "command": "kept words", **fields})
    assert answer.status_code == 400
    assert told in html.unescape(answer.text)
    assert "kept words</textarea>" in answer.text
    if "name" in fields:
        assert 'name="value" value="1"' in answer.text
    assert runs_of(site, job) == []


def test_schedule_is_set_changed_and_paused(site: Server, ann: Visitor) -> None:
    job = applied(site, "by-the-clock")
    assert "starts only when someone starts it" in ann.get(f"/job/{job.id}").text
    ann.post(f"/job/{job.id}/schedule", schedule="0 2 * * *", timezone="Europe/Berlin", concurrency_policy="Forbid")
    plan = site.service.schedules.get(job.id, 1)
    assert (plan.schedule, plan.timezone, plan.concurrency_policy) == ("0 2 * * *", "Europe/Berlin", "Forbid")
    assert field(ann.get(f"/job/{job.id}").text, "schedule") == "0 2 * * *"
    wrong = ann.post(f"/job/{job.id}/schedule", schedule="0 25 * * *")
    assert wrong.status_code == 400
    assert field(wrong.text, "schedule") == "0 25 * * *"
    ann.post(f"/job/{job.id}/schedule", off="1")
    assert site.service.jobs.record(job.id).schedule is None


def test_copy_has_another_name_and_no_running_schedule(site: Server, ann: Visitor) -> None:
    job = applied(site, "original", schedule="@daily", retries=3)
    sent = ann.post(f"/job/{job.id}/clone", **{"as": "the-copy", "owner": "ann"})
    made = site.service.jobs.record("ann/the-copy")
    assert sent.headers["location"] == f"/job/{made.id}"
    assert (json.loads(made.recipe)["spec"]["retries"], made.schedule) == (3, None)
    again = ann.post(f"/job/{job.id}/clone", **{"as": "the-copy", "owner": "ann"})
    assert (again.status_code, "already exists" in again.text) == (409, True)
    foreign = ann.post(f"/job/{job.id}/clone", **{"as": "stolen", "owner": "bob"})
    assert foreign.status_code == 403


def test_deleted_job_is_not_found_and_one_with_runs_is_kept(site: Server, ann: Visitor) -> None:
    job, busy = applied(site, "to-delete"), applied(site, "busy")
    assert ann.post(f"/job/{job.id}/delete").headers["location"] == "/jobs"
    assert ann.get(f"/job/{job.id}").status_code == 404
    site.service.runs.start(busy.id, {})
    answer = ann.post(f"/job/{busy.id}/delete")
    assert (answer.status_code, "cannot delete" in answer.text) == (409, True)


def test_recipe_is_edited_without_its_defaults(site: Server, ann: Visitor) -> None:
    job = applied(site, "edited", retries=2)
    text = area(ann.get(f"/job/{job.id}/edit").text)
    assert "retries: 2" in text
    assert "scale" not in text
    fields = {"job": job.id, "revision": "1", "recipe": text.replace("retries: 2", "retries: 5").replace("\n", "\r\n")}
    sent = ann.post("/apply", **fields)
    assert sent.headers["location"] == f"/job/{job.id}"
    changed = site.service.jobs.record(job.id)
    assert (changed.revision, Recipe.load(changed.recipe).spec.retries) == (2, 5)
    assert "revision 2 is applied" in ann.get(f"/job/{job.id}").text


def test_wrong_recipe_is_explained_by_line_and_stays_in_the_form(site: Server, ann: Visitor) -> None:
    text = "type: job\nspec:\n  name: wrong\n  image: busybox\n  instance_type: g5.xlarge\n  comand: 'true'\n"
    answer = ann.post("/apply", recipe=text.replace("\n", "\r\n"))
    assert answer.status_code == 400
    assert '<a href="#L6" data-line="6">Line 6</a>' in answer.text
    assert "did you mean command?" in answer.text
    assert '<span id="L6" class="wrong">' in answer.text
    assert area(answer.text) == text
    assert "wrong" not in [job.name for job in site.service.jobs.all()]


def test_form_that_is_older_than_the_job_does_not_replace_it_unseen(site: Server, ann: Visitor) -> None:
    job = applied(site, "raced")
    text = area(ann.get(f"/job/{job.id}/edit").text)
    applied(site, "raced", retries=7)
    answer = ann.post("/apply", job=job.id, revision="1", recipe=text)
    assert answer.status_code == 409
    assert "it has revision 2 now" in answer.text
    assert Recipe.load(site.service.jobs.record(job.id).recipe).spec.retries == 7
    ann.post("/apply", job=job.id, revision=field(answer.text, "revision"), recipe=text)
    assert site.service.jobs.record(job.id).revision == 3


def test_new_job_begins_with_the_starter(site: Server, ann: Visitor) -> None:
    text = area(ann.get("/apply").text)
    assert "name: hello-gpu" in text
    assert ann.post("/apply", recipe=text).status_code == 303
    assert site.service.jobs.record("ann/hello-gpu").revision == 1


def test_revisions_are_listed_and_compared(site: Server, ann: Visitor) -> None:
    job = applied(site, "revised", command="echo <old>")
    applied(site, "revised", command="echo <new>", retries=1)
    page = ann.get(f"/job/{job.id}").text
    assert "<code>command</code> <code>retries</code>" in page
    shown = ann.get(f"/job/{job.id}/revisions/2").text
    assert re.search(r'<tr class="removed">.*?echo &lt;old&gt;', shown, re.DOTALL)
    assert re.search(r'<tr class="added">.*?echo &lt;new&gt;', shown, re.DOTALL)
    assert "echo <old>" in area(ann.get(f"/job/{job.id}/edit?revision=1").text)
    assert ann.get(f"/job/{job.id}/revisions/9").status_code == 404


def test_job_is_found_by_its_name(site: Server, ann: Visitor) -> None:
    job = applied(site, "by-name")
    assert ann.get("/job/by-name").headers["location"] == f"/job/{job.id}"
    assert ann.get("/job/by-name?owner_name=ann").headers["location"] == f"/job/{job.id}"


def test_live_part_is_sent_again_only_if_it_changed(site: Server) -> None:
    applied(site, "quiet-part", owner="quiet-owner")
    with visitor(site, "quiet-owner") as quiet:
        first = quiet.get("/jobs/parts/list?q=&cursor=")
        again = quiet.client.get("/jobs/parts/list?q=&cursor=", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304
