"""The log panel in a browser: it follows, pauses, jumps and searches, and new lines do not move the visible ones."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from provisioner.core.protocol.words import Outcome
from tests.api.served import Server
from tests.page import axe
from tests.page.browser import WIDTHS, Theme, Window
from tests.page.conftest import window
from tests.page.planted_logs import PlantedLog, numbered

#: Lines of the longest log: its scrollbar is compressed.
HUGE = 10_000_000


def text_of(number: int) -> str:
    return f"this is line {number}"


class Generated:
    """Answers of the server for a log of any length: the server's own would take minutes to write."""

    def __init__(self, page: Page, total: int, *, over: bool = True) -> None:
        self.total, self.over = total, over
        #: Lines that were sent.
        self.sent = 0
        page.route("**/lines?*", self._lines)

    def _lines(self, route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        count = int(asked["count"][0])
        first = int(asked["first"][0]) if "first" in asked else max(1, self.total - count + 1)
        numbers = range(first, min(self.total, first + count - 1) + 1)
        self.sent += len(numbers)
        rows = "".join(
            f'<li id="output:L{each}"><a href="#output:L{each}">{each}</a><code>{text_of(each)}</code></li>'
            for each in numbers
        )
        route.fulfill(json={"first": first, "total": self.total, "over": self.over, "html": rows})


def line(page: Page, number: int) -> Locator:
    return page.locator(f'[id="output:L{number}"]')


def first_line(page: Page) -> int:
    """Return the number of the first visible line."""
    found = re.match(r"[\d,]+", page.locator(".log-where").inner_text())
    assert found is not None
    return int(found[0].replace(",", ""))


def scroll_to(page: Page, part: float) -> None:
    """Drag the scrollbar to a part of its length."""
    page.evaluate(
        "part => { const box = document.querySelector('.log-scroll');"
        " box.scrollTop = part * (box.scrollHeight - box.clientHeight); }",
        part,
    )


def turn_wheel(page: Page, pixels: int) -> None:
    box = page.locator(".log-scroll").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, pixels)


def top_of(found: Locator) -> float:
    box = found.bounding_box()
    assert box is not None
    return box["y"]


@pytest.fixture
def live(site: Server) -> PlantedLog:
    log = PlantedLog(site, "live")
    log.begin()
    log.write(numbered(1, 300))
    return log


@pytest.fixture(scope="module")
def ended(site: Server) -> PlantedLog:
    log = PlantedLog(site, "ended")
    log.begin()
    log.write(b"pulled\n", "system")
    log.write(numbered(1, 5000))
    log.end()
    return log


@pytest.fixture
def opened(chromium: Browser, site: Server) -> Iterator[Window]:
    with window(chromium, site, "ann") as found:
        yield found


def test_live_log_is_followed_until_the_reader_scrolls_up(opened: Window, live: PlantedLog) -> None:
    opened.open(live.path)
    page = opened.page
    expect(line(page, 300)).to_be_in_viewport()
    live.write(numbered(301, 310))
    expect(line(page, 310)).to_be_in_viewport()
    turn_wheel(page, -600)
    expect(page.locator(".log-state")).to_have_text("Paused")
    live.write(numbered(311, 320))
    button = page.get_by_role("button", name="Jump to live (10 new)")
    expect(button).to_be_visible()
    expect(line(page, 310)).not_to_be_in_viewport()
    button.click()
    expect(line(page, 320)).to_be_in_viewport()
    expect(page.locator(".log-state")).to_have_text("Live")
    turn_wheel(page, -600)
    expect(page.locator(".log-state")).to_have_text("Paused")
    page.keyboard.press("f")
    expect(line(page, 320)).to_be_in_viewport()
    live.end()
    expect(page.locator(".log-state")).to_have_text("Complete")


def test_new_lines_do_not_move_what_is_read(opened: Window, live: PlantedLog) -> None:
    opened.open(live.path)
    page = opened.page
    turn_wheel(page, -1500)
    expect(page.locator(".log-state")).to_have_text("Paused")
    before = top_of(line(page, 220))
    live.write(numbered(301, 20_000))
    expect(page.locator(".log-where")).to_contain_text("of 20,000")
    assert top_of(line(page, 220)) == before


def test_growing_last_line_is_shown(opened: Window, live: PlantedLog) -> None:
    opened.open(live.path)
    live.write(b"epoch 1: 10 %")
    expect(line(opened.page, 301)).to_contain_text("epoch 1: 10 %")
    live.write(b", 20 %")
    expect(line(opened.page, 301)).to_contain_text("epoch 1: 10 %, 20 %")
    live.write(b"\nepoch 2")
    expect(line(opened.page, 302)).to_contain_text("epoch 2")


def test_scrollbar_stands_for_ten_million_lines(opened: Window, live: PlantedLog) -> None:
    page = opened.page
    Generated(page, HUGE)
    opened.open(live.path)
    expect(line(page, HUGE)).to_be_in_viewport()
    scroll_to(page, 0.5)
    expect(page.locator(".log-where")).to_have_text(re.compile(r"^(4,99|5,00)"))
    middle = first_line(page) + 10
    expect(line(page, middle)).to_contain_text(text_of(middle))
    # The wheel moves the lines by as many pixels as in a short log.
    before = top_of(line(page, middle))
    turn_wheel(page, 100)
    page.wait_for_function(
        "([id, y]) => Math.abs(document.getElementById(id).getBoundingClientRect().top - y) < 1",
        arg=[f"output:L{middle}", before - 100],
    )
    scroll_to(page, 0)
    expect(line(page, 1)).to_be_in_viewport()
    scroll_to(page, 1)
    expect(line(page, HUGE)).to_be_in_viewport()
    assert page.locator(".log-rows li").count() < 600


def test_burst_shows_its_end_and_reads_little(opened: Window, live: PlantedLog) -> None:
    """A burst of 50,000 lines a second fills the browser neither with lines nor with requests."""
    page = opened.page
    log = Generated(page, 300, over=False)
    opened.open(live.path)
    for step in range(1, 6):
        log.total = 300 + step * 25_000
        expect(line(page, log.total)).to_be_in_viewport()
    assert log.sent < 5 * 1000
    assert page.locator(".log-rows li").count() < 600


def test_permalink_opens_and_marks_its_lines(opened: Window, ended: PlantedLog) -> None:
    page = opened.page
    opened.open(f"{ended.path}#output:L2500-L2502")
    expect(line(page, 2500)).to_be_in_viewport()
    expect(page.locator("li.marked")).to_have_count(3)
    # A click on a number names the line in the address; with Shift, all lines up to it.
    line(page, 2505).get_by_role("link").click()
    expect(page.locator("li.marked")).to_have_count(1)
    line(page, 2509).get_by_role("link").click(modifiers=["Shift"])
    expect(page.locator("li.marked")).to_have_count(5)
    address = page.url
    assert address.endswith("stream=output&attempt=1&rank=0&first=2495#output:L2505-L2509")
    opened.open("/login")
    page.goto(address)
    expect(line(page, 2505)).to_be_in_viewport()
    expect(page.locator("li.marked")).to_have_count(5)


def test_permalink_names_another_stream(opened: Window, ended: PlantedLog) -> None:
    opened.open(f"{ended.path}#system:L1")
    expect(opened.page.locator('[id="system:L1"]')).to_contain_text("pulled")
    expect(opened.page.locator("#log-system")).to_have_attribute("aria-current", "true")


def test_search_visits_the_lines_that_the_server_found(opened: Window, ended: PlantedLog) -> None:
    opened.open(f"{ended.path}?first=1")
    page = opened.page
    page.keyboard.press("/")
    page.keyboard.type("LINE 45")
    page.keyboard.press("Enter")
    # 45, 450 to 459, and 4500 to 4599.
    expect(page.locator(".log-found")).to_have_text("1 of 111")
    expect(line(page, 45)).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator(".log-found")).to_have_text("2 of 111")
    expect(line(page, 450)).to_be_in_viewport()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".log-found")).to_have_text("111 of 111")
    expect(line(page, 4599)).to_be_in_viewport()
    expect(line(page, 4599)).to_have_class("current")
    assert page.evaluate("CSS.highlights.get('log-hit').size") > 0
    page.get_by_text("List", exact=True).click()
    page.locator(".log-hits").get_by_role("link", name="457", exact=True).click()
    expect(line(page, 457)).to_be_in_viewport()
    page.get_by_label("Aa").check()
    expect(page.locator(".log-found")).to_have_text("Not found")
    page.get_by_role("searchbox").fill(":1234")
    page.keyboard.press("Enter")
    expect(line(page, 1234)).to_be_in_viewport()
    assert page.url.endswith("#output:L1234")


def test_newest_attempt_is_followed_unless_another_one_was_chosen(opened: Window, site: Server) -> None:
    log = PlantedLog(site, "resumed")
    log.begin()
    log.write(numbered(1, 50))
    page = opened.page
    opened.open(log.path)
    expect(line(page, 50)).to_be_in_viewport()
    log.end(1, Outcome.INTERRUPTED, last=False)
    log.begin(2)
    log.write(b"again\n", attempt=2)
    expect(line(page, 1)).to_contain_text("again")
    page.get_by_role("link", name="Attempt 1").click()
    expect(line(page, 50)).to_be_in_viewport()
    page.go_back()
    expect(line(page, 1)).to_contain_text("again")


def test_chosen_attempt_stays(opened: Window, site: Server) -> None:
    log = PlantedLog(site, "kept")
    log.begin()
    log.write(numbered(1, 50))
    page = opened.page
    opened.open(log.path)
    page.get_by_role("link", name="output").click()
    log.end(1, Outcome.INTERRUPTED, last=False)
    log.begin(2)
    log.write(b"again\n", attempt=2)
    # The list of attempts was updated, so a switch to the new attempt would have happened.
    expect(page.get_by_role("link", name="Attempt 2")).to_be_visible()
    expect(line(page, 50)).to_be_in_viewport()


def test_rank_is_chosen(opened: Window, site: Server) -> None:
    log = PlantedLog(site, "ranks", scale=2)
    log.begin()
    for rank in range(2):
        log.write(b"I am rank %d\n" % rank, rank=rank)
    opened.open(log.path)
    expect(line(opened.page, 1)).to_contain_text("I am rank 0")
    opened.page.get_by_label("Rank").select_option("1")
    expect(line(opened.page, 1)).to_contain_text("I am rank 1")


def test_wrapped_lines_stay_in_view_and_the_choice_is_kept(opened: Window, site: Server) -> None:
    log = PlantedLog(site, "wide")
    log.begin()
    log.write(b"".join(b"%d %s\n" % (number, b"word " * (number % 300)) for number in range(1, 3001)))
    log.end()
    page = opened.page
    opened.open(f"{log.path}#output:L1500")
    expect(line(page, 1500)).to_be_in_viewport()
    page.get_by_role("button", name="Wrap").click()
    expect(line(page, 1500)).to_be_in_viewport()
    turn_wheel(page, 3000)
    scroll_to(page, 1)
    expect(line(page, 3000)).to_be_in_viewport()
    page.reload()
    expect(page.locator(".log-scroll")).to_have_class("log-scroll wrap")
    expect(line(page, 1500)).to_be_in_viewport()


def test_resized_window_goes_on_following(opened: Window, live: PlantedLog) -> None:
    page = opened.page
    opened.open(live.path)
    expect(line(page, 300)).to_be_in_viewport()
    for height in (500, 1400, 700):
        page.set_viewport_size({"width": 1200, "height": height})
        expect(line(page, 300)).to_be_in_viewport()
    live.write(numbered(301, 310))
    expect(line(page, 310)).to_be_in_viewport()
    expect(page.locator(".log-state")).to_have_text("Live")


def test_page_of_a_run_has_its_log(opened: Window, live: PlantedLog) -> None:
    opened.open(f"/run/{live.id}")
    page = opened.page
    page.locator(".log").scroll_into_view_if_needed()
    expect(line(page, 300)).to_be_in_viewport()
    live.write(b"more\n")
    expect(line(page, 301)).to_be_in_viewport()
    live.write(b"installing\n", "setup")
    page.get_by_role("link", name="setup").click()
    expect(page.locator('[id="setup:L1"]')).to_contain_text("installing")
    assert page.url.endswith(f"/run/{live.id}?stream=setup&attempt=1&rank=0")


def test_gap_is_shown_where_bytes_are_missing(opened: Window, live: PlantedLog) -> None:
    live.lose(1000)
    live.write(b"after the gap\n")
    opened.open(live.path)
    expect(line(opened.page, 301)).to_have_text("301At least 1.0 kB are missing here, from byte 4992.after the gap")


def test_log_of_200_megabytes_is_shown_searched_and_linked(opened: Window, site: Server) -> None:
    log, lines = PlantedLog(site, "large"), 2_800_000
    log.begin()
    log.write(
        b"".join(
            b"%07d: loss 0.%06d, 18342 tokens/s, memory 71.2 GiB, gradient norm 1.25\n" % (each, each % 997)
            for each in range(lines)
        )
    )
    log.write(b"the end\n")
    log.end()
    page = opened.page
    opened.open(log.path)
    expect(line(page, lines + 1)).to_contain_text("the end")
    page.keyboard.press("/")
    page.keyboard.type("1999999: loss")
    page.keyboard.press("Enter")
    expect(page.locator(".log-found")).to_have_text("1 of 1")
    expect(line(page, 2_000_000)).to_be_in_viewport()
    page.goto(f"{site.url}{log.path}#output:L1000000")
    expect(line(page, 1_000_000)).to_be_in_viewport()
    expect(line(page, 1_000_000)).to_contain_text("0999999: loss")


def test_lost_connection_is_shown_and_the_log_goes_on_afterwards(opened: Window, live: PlantedLog) -> None:
    page = opened.page
    opened.open(live.path)
    page.route("**/lines?*", lambda route: route.abort())
    expect(page.locator(".log-message")).to_contain_text("cannot be reached")
    page.unroute("**/lines?*")
    live.write(b"back\n")
    expect(line(page, 301)).to_contain_text("back")
    expect(page.locator(".log-message")).to_have_text("")
    opened.complaints.clear()


def test_end_of_the_log_is_visible_without_scripts(chromium: Browser, site: Server, ended: PlantedLog) -> None:
    with window(chromium, site, "ann", javascript=False) as found:
        found.open(ended.path)
        expect(line(found.page, 5000)).to_be_in_viewport()
        found.page.get_by_role("link", name="First lines").click()
        expect(line(found.page, 1)).to_be_in_viewport()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_log_page_is_accessible(chromium: Browser, site: Server, ended: PlantedLog, theme: Theme, width: int) -> None:
    with window(chromium, site, "ann", theme=theme, width=width) as found:
        found.open(f"{ended.path}?q=line+4990")
        expect(found.page.locator(".log-found")).to_have_text("1 of 1")
        assert axe.violations(found.page) == []
