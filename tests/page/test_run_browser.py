"""The page of a run in a real browser: the waterfall, live parts, stop and lists, with and without JavaScript."""

import pytest
from playwright.sync_api import Browser, Locator, expect

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Verdict
from provisioner.core.run.states import State
from tests.api.served import Server
from tests.page import axe
from tests.page.browser import WIDTHS, Theme
from tests.page.conftest import window
from tests.page.stored import resumed, running, stored


def width_of(bar: Locator) -> float:
    box = bar.bounding_box()
    assert box
    return box["width"]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_shortest_phase_is_at_least_six_pixels_wide(chromium: Browser, site: Server, width: int) -> None:
    run = resumed(site)
    with window(chromium, site, "ann", width=width) as found:
        found.open(run.path)
        bars = found.page.locator(".lane .bar").all()
        assert len(bars) > 15
        assert min(map(width_of, bars)) >= 6


@pytest.mark.parametrize("javascript", [True, False])
def test_row_of_the_waterfall_opens_in_place_with_the_keyboard(
    chromium: Browser, site: Server, javascript: bool
) -> None:
    run = resumed(site)
    with window(chromium, site, "ann", javascript=javascript) as found:
        found.open(run.path)
        row = found.page.locator("#lane-2-0")
        expect(row.get_by_text("the command executes")).to_be_hidden()
        row.locator("summary").press("Enter")
        expect(row.get_by_text("the command executes")).to_be_visible()
        expect(row.get_by_role("row", name="command")).to_contain_text("40 min 0 s")


def test_live_run_grows_ends_and_keeps_the_open_row(chromium: Browser, site: Server) -> None:
    run = running(site)
    with window(chromium, site, "ann") as found:
        found.open(run.path)
        page = found.page
        page.locator("#lane-1-0 summary").click()
        told = page.locator("#lane-1-0 .lane-time").inner_text()
        expect(page.locator("#lane-1-0 .lane-time")).not_to_have_text(told)
        expect(page.locator("#lane-1-0")).to_have_attribute("open", "")
        at = site.service.installation.clock.now()
        run.change(
            state=State.DONE, verdict=Verdict(Outcome.CANCELLED, "stopped", at), ended_at=at, certain_at=at, done_at=at
        )
        expect(page.get_by_text("Cancelled: stopped")).to_be_visible()
        expect(page.locator("#receipt").get_by_text("estimated")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False])
def test_stop_asks_before_it_stops(chromium: Browser, site: Server, javascript: bool) -> None:
    run = running(site)
    with window(chromium, site, "ann", javascript=javascript) as found:
        found.open(run.path)
        button = found.page.get_by_role("button", name="Stop the run")
        expect(button).to_be_hidden()
        found.page.locator("#stop summary").click()
        button.click()
        expect(found.page.locator("p.message")).to_have_text("Stop requested.")
        expect(found.page.locator("#stop")).to_have_count(0)
    assert site.service.runs.get(run.run.id).stop


def test_selected_runs_stay_selected_and_are_counted(chromium: Browser, site: Server) -> None:
    run = running(site, owner="counted")
    running(site, owner="counted")
    with window(chromium, site, "counted") as found:
        found.open("/runs")
        found.page.get_by_label(f"Select run {run.run.id[:12]}").check()
        found.page.locator("#stop summary").click()
        expect(found.page.get_by_text("1 run is selected.")).to_be_visible()
        with found.page.expect_response(lambda answer: "/runs/part" in answer.url):
            pass
        expect(found.page.get_by_label(f"Select run {run.run.id[:12]}")).to_be_checked()
        found.page.get_by_role("button", name="Stop the selected runs").click()
        expect(found.page.locator("p.message")).to_have_text("Stop requested for 1 run.")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_pages_of_runs_are_accessible(chromium: Browser, site: Server, theme: Theme, width: int) -> None:
    gang = stored(site, 700, owner="eve", state=State.PREPARING, attempt=1, scale=12)
    for rank in range(12):
        gang.attempt(1, 2, 400, None, rank=rank)
    paths = [resumed(site, owner="eve").path, running(site, owner="eve").path, gang.path, "/runs"]
    with window(chromium, site, "eve", theme=theme, width=width) as found:
        for path in paths:
            found.open(path)
            found.page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")
            assert axe.violations(found.page) == [], path
            assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
