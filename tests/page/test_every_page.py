"""Every page in Chromium: accessible in both themes and on a phone, and without jumps."""

import pytest
from playwright.sync_api import Browser

from tests.api.served import Server
from tests.page import axe
from tests.page.browser import WIDTHS, Window
from tests.page.conftest import visitor, window
from tests.page.every_page import READS, Address, addresses, is_page
from tests.page.world import World, populate

#: How much the content may move by itself while a page loads and updates ("Cumulative Layout Shift"; web.dev counts 0.1
#: as good).
MOST_SHIFT = 0.1
SHIFT = """() => new Promise((told) => new PerformanceObserver((list) =>
    told(list.getEntries().filter((each) => !each.hadRecentInput).reduce((sum, each) => sum + each.value, 0))
).observe({type: "layout-shift", buffered: true}) || setTimeout(() => told(0), 100))"""
WIDER = "Math.max(0, document.documentElement.scrollWidth - innerWidth)"


@pytest.fixture(scope="module")
def world(site: Server) -> World:
    return populate(site)


def pages(site: Server, world: World, route: str) -> list[Address]:
    """Return those addresses of the route that are whole pages."""
    found = addresses(world, route, "GET")
    with visitor(site, "root", admin=True) as admin:
        return [each for each in found if is_page(admin.get(each.path).text)]


def settle(found: Window) -> None:
    """Let the page request its live parts once more, as it does when it is shown."""
    found.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    found.page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("route", READS)
def test_page_is_accessible_and_does_not_jump(chromium: Browser, site: Server, world: World, route: str) -> None:
    faults = {}
    several = pages(site, world, route)
    with window(chromium, site, "root", admin=True) as found:
        for address in several:
            found.page.set_viewport_size({"width": WIDTHS["desk"], "height": 900})
            found.page.emulate_media(color_scheme="light")
            found.open(address.path)
            settle(found)
            shift = found.page.evaluate(SHIFT)
            faults[address.path, "light"] = axe.violations(found.page)
            if shift > MOST_SHIFT:
                faults[address.path, "light"].append(f"the content moves by {shift:.2f}")
            found.page.set_viewport_size({"width": WIDTHS["phone"], "height": 844})
            found.page.emulate_media(color_scheme="dark")
            faults[address.path, "dark, phone"] = axe.violations(found.page)
            if wider := found.page.evaluate(WIDER):
                faults[address.path, "dark, phone"].append(f"the page is {wider} px wider than the screen")
    assert {where: told for where, told in faults.items() if told} == {}
