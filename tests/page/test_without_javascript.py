"""Browse without JavaScript: everything works except that pages do not update themselves."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.api.served import Server
from tests.page.browser import Window
from tests.page.conftest import window
from tests.page.world import World, populate

RECIPE = """type: job
spec:
  name: greet
  image: any
  instance_type: g5.xlarge
  command: echo hello
"""


@pytest.fixture(scope="module")
def world(site: Server) -> World:
    return populate(site)


@pytest.fixture
def found(chromium: Browser, site: Server) -> Iterator[Window]:
    with window(chromium, site, javascript=False) as opened:
        yield opened


def test_a_run_is_started_watched_and_stopped_by_links_and_forms(found: Window, site: Server) -> None:
    page = found.page
    found.log_in(site.token("ann"))
    page.get_by_role("link", name="New job").first.click()
    page.get_by_label("Recipe").fill(RECIPE)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("greet")
    page.get_by_label("Name of variable 1").fill("WHO")
    page.get_by_label("Value of variable 1").fill("you")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#now")).to_contain_text("queued")
    expect(page.locator("#inputs")).to_contain_text("WHO")
    page.get_by_text("Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    expect(page.locator(".message")).to_contain_text("Stop requested")
    page.get_by_role("link", name="Runs").first.click()
    expect(page.get_by_role("link", name="greet").first).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in · provision")


@pytest.mark.usefixtures("world")
def test_every_link_of_the_bar_opens_a_page(chromium: Browser, site: Server) -> None:
    with window(chromium, site, "root", admin=True, javascript=False) as found:
        found.open("/jobs")
        names = found.page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
        assert {"Jobs", "Runs", "Queue", "Machines", "Usage", "Docs"} <= set(names)
        for name in names:
            found.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
            expect(found.page.get_by_role("main").get_by_role("heading", level=1)).to_be_visible()
            assert found.page.locator(".trouble").count() == 0, name
