"""The pages of jobs in a browser: what their scripts add, and that they work without scripts."""

import re

from playwright.sync_api import Browser, expect

from provisioner.core.recipe.jobs import Job, revision_of
from provisioner.core.recipe.recipe import parse_recipe
from provisioner.core.run.records import Record
from tests.api.served import Server, recipe
from tests.page.conftest import window


def stored(site: Server, name: str) -> str:
    """Store a job of Ann without asking the cloud, which does not answer here, and return its id."""
    installation, dump = site.service.installation, parse_recipe(recipe(name, "ann"), "f").dump()
    now = installation.clock.now()
    job = Job(installation.ids.new(), "ann", name, dump, 1, now, now)
    records: list[Record] = [job, revision_of(job, "local:test")]
    installation.store.save(records)
    return job.id


def test_double_click_on_start_starts_one_run(chromium: Browser, site: Server) -> None:
    job = stored(site, "clicked-twice")
    with window(chromium, site, "ann") as found:
        found.open("/jobs?q=clicked-twice")
        found.page.get_by_role("button", name="Start clicked-twice").dblclick()
        found.page.wait_for_url("**/run/*")
    assert len(site.service.history.runs(job).runs) == 1


def test_run_is_started_with_more_variables_than_the_form_has_rows(chromium: Browser, site: Server) -> None:
    job = stored(site, "many-variables")
    with window(chromium, site, "ann") as found:
        found.open(f"/job/{job}")
        for number in range(1, 5):
            if number > 2:
                found.page.get_by_role("button", name="Another variable").click()
            found.page.get_by_label(f"Name of variable {number}", exact=True).fill(f"V{number}")
            found.page.get_by_label(f"Value of variable {number}", exact=True).fill(str(number))
        found.page.locator("#start").get_by_role("button", name="Start", exact=True).click()
        found.page.wait_for_url("**/run/*")
    (run,) = site.service.history.runs(job).runs
    variables = parse_recipe(site.service.runs.record(run.id).recipe, "f").spec.environment_variables
    assert variables == {f"V{number}": str(number) for number in range(1, 5)}


def test_problem_leads_to_its_line(chromium: Browser, site: Server) -> None:
    with window(chromium, site, "ann") as found:
        found.open("/apply")
        text = (
            "type: job\nspec:\n  name: x\n  image: busybox\n  instance_type: g5.xlarge\n  command: 'true'\n  retry: 1\n"
        )
        found.page.get_by_label("Recipe, in YAML or JSON").fill(text)
        found.page.get_by_role("button", name="Apply").click()
        found.page.get_by_role("link", name="Line 7").click()
        selected = found.page.evaluate("""() => {
            const area = document.getElementById("recipe");
            return area.value.slice(area.selectionStart, area.selectionEnd);
        }""")
    assert selected == "  retry: 1"


def test_list_shows_a_new_run_without_being_loaded_again(chromium: Browser, site: Server) -> None:
    job = stored(site, "watched")
    with window(chromium, site, "ann") as found:
        found.open("/jobs?q=watched")
        row = found.page.get_by_role("row", name=re.compile("watched"))
        expect(row).to_contain_text("never run")
        site.service.runs.start(job, {})
        found.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(row).to_contain_text("queued")


def test_click_on_a_bar_opens_its_run(chromium: Browser, site: Server) -> None:
    job = stored(site, "with-bars")
    older, newer = (site.service.runs.start(job, {}).id for _ in range(2))
    with window(chromium, site, "ann") as found:
        for place, run in ((1, newer), (2, older)):
            found.open("/jobs?q=with-bars")
            strip = found.page.locator("svg.strip")
            box = strip.bounding_box()
            assert box
            strip.click(position={"x": box["width"] - 7 * place + 4, "y": 20})
            found.page.wait_for_url(f"**/run/{run}")


def test_job_is_started_paused_and_deleted_without_scripts(chromium: Browser, site: Server) -> None:
    job = stored(site, "without-scripts")
    with window(chromium, site, "ann", javascript=False) as found:
        found.open(f"/job/{job}")
        found.page.get_by_role("textbox", name="Schedule").fill("@daily")
        found.page.get_by_role("button", name="Set the schedule").click()
        expect(found.page.get_by_role("status")).to_have_text("The schedule is set.")
        found.page.get_by_role("button", name="Pause").click()
        expect(found.page.get_by_role("status")).to_have_text("The schedule is off.")
        found.page.get_by_text("Delete this job…").click()
        found.page.get_by_role("button", name="Delete without-scripts").click()
        expect(found.page.get_by_role("status")).to_contain_text("without-scripts is deleted")
    assert site.service.installation.store.job_by_id(job) is None
