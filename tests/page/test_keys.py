"""Keys, the theme's button and buttons that copy, in a browser."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.served import Server
from tests.page.browser import WIDTHS, Window
from tests.page.conftest import window
from tests.support import samples


@pytest.fixture(scope="module")
def queued(site: Server) -> Server:
    now = site.service.operator.now()
    names = ("first", "second", "third")
    site.service.installation.store.save(
        [
            samples.run(f"{number:032x}", job_name=name, owner="ann", created_at=now - number)
            for number, name in enumerate(names)
        ]
    )
    return site


@pytest.fixture
def shown(chromium: Browser, queued: Server) -> Iterator[Window]:
    with window(chromium, queued, "ann") as found:
        found.open("/queue")
        yield found


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def test_j_and_k_move_through_a_list_and_enter_opens_an_entry(shown: Window) -> None:
    seen = []
    for key in "jjjjkk":
        shown.page.keyboard.press(key)
        seen.append(focused(shown.page))
    assert seen == [f"ann/{name}" for name in ("first", "second", "third", "third", "second", "first")]
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_url(f"**/run/{0:032x}")


def test_focus_stays_on_an_entry_while_the_list_is_updated(shown: Window) -> None:
    shown.page.keyboard.press("j")
    shown.page.keyboard.press("j")
    shown.page.evaluate("document.querySelector('[data-live] > *').dataset.old = '1'")
    shown.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(shown.page.locator("[data-old]")).to_have_count(0)
    assert focused(shown.page) == "ann/second"
    shown.page.keyboard.press("j")
    assert focused(shown.page) == "ann/third"


def test_slash_goes_to_the_search_and_escape_leaves_it(shown: Window) -> None:
    shown.open("/docs")
    shown.page.keyboard.press("/")
    field = shown.page.get_by_role("searchbox")
    expect(field).to_be_focused()
    shown.page.keyboard.type("jk?gq")
    expect(field).to_have_value("jk?gq")
    expect(shown.page.locator("#keys")).to_be_hidden()
    shown.page.keyboard.press("Escape")
    expect(field).not_to_be_focused()


def test_g_and_a_letter_go_to_a_page(shown: Window) -> None:
    for key, path in (("m", "/machines"), ("d", "/docs"), ("q", "/queue")):
        shown.page.keyboard.press("g")
        shown.page.keyboard.press(key)
        shown.page.wait_for_url(f"**{path}")
    shown.page.keyboard.press("g")
    shown.page.keyboard.press("t")
    assert urlsplit(shown.page.url).path == "/queue", "only admins have the page of tokens"


def test_question_mark_opens_the_list_of_keys(shown: Window) -> None:
    shown.page.keyboard.press("?")
    dialog = shown.page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    shown.page.keyboard.press("g")
    shown.page.keyboard.press("m")
    shown.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    shown.page.get_by_role("button", name="Keys").click()
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    assert urlsplit(shown.page.url).path == "/queue"


def test_keys_can_be_turned_off(shown: Window) -> None:
    shown.page.keyboard.press("?")
    shown.page.get_by_label("Use these keys in this browser").uncheck()
    shown.page.keyboard.press("Escape")
    shown.open("/queue")
    shown.page.keyboard.press("j")
    shown.page.keyboard.press("?")
    expect(shown.page.locator("#keys")).to_be_hidden()
    assert not focused(shown.page).startswith("ann/")
    shown.page.get_by_role("button", name="Keys").click()
    shown.page.get_by_label("Use these keys in this browser").check()
    shown.page.keyboard.press("Escape")
    shown.page.keyboard.press("j")
    assert focused(shown.page) == "ann/first"


def test_combinations_with_control_belong_to_the_browser(shown: Window) -> None:
    shown.page.keyboard.press("Control+j")
    shown.page.keyboard.press("Alt+j")
    assert not focused(shown.page).startswith("ann/")


def test_key_clicks_the_element_that_has_it(shown: Window) -> None:
    shown.page.evaluate(
        """() => {
            const button = document.createElement("button");
            button.dataset.key = "f";
            button.textContent = "0";
            button.addEventListener("click", () => button.textContent = Number(button.textContent) + 1);
            document.querySelector("main").append(button);
        }"""
    )
    shown.page.keyboard.press("f")
    expect(shown.page.locator("[data-key=f]")).to_have_text("1")
    shown.page.evaluate("document.addEventListener('keydown', (event) => event.preventDefault())")
    shown.page.keyboard.press("f")
    expect(shown.page.locator("[data-key=f]")).to_have_text("1")


def test_theme_changes_at_once_and_stays(shown: Window) -> None:
    theme = shown.page.get_by_role("button", name="Theme")
    page = "getComputedStyle(document.body).backgroundColor"
    light = shown.page.evaluate(page)
    theme.click()
    expect(theme).to_have_text("◐ Theme: Light")
    theme.click()
    expect(theme).to_have_text("◐ Theme: Dark")
    dark = shown.page.evaluate(page)
    assert dark != light
    shown.open("/machines")
    assert shown.page.evaluate(page) == dark
    theme.click()
    expect(theme).to_have_text("◐ Theme: Auto")
    shown.open("/machines")
    assert shown.page.evaluate(page) == light


def test_theme_changes_without_javascript(chromium: Browser, queued: Server) -> None:
    with window(chromium, queued, "ann", javascript=False) as found:
        found.open("/queue")
        for name in ("Light", "Dark", "Auto"):
            found.page.get_by_role("button", name="Theme").click()
            expect(found.page.get_by_role("button", name="Theme")).to_have_text(f"◐ Theme: {name}")
            assert urlsplit(found.page.url).path == "/queue"
        expect(found.page.get_by_role("button", name="Keys")).to_be_hidden()


def test_command_is_copied(chromium: Browser, queued: Server) -> None:
    with window(chromium, queued, "carl") as found:
        found.open("/docs?q=no-such-word")
        found.page.get_by_role("button", name="Copy").click()
        expect(found.page.get_by_role("status")).to_have_text("Copied")
        assert found.page.evaluate("navigator.clipboard.readText()") == "provision docs"


def test_block_of_the_documentation_is_copied_without_the_name_of_its_button(chromium: Browser, queued: Server) -> None:
    with window(chromium, queued, "carl", width=WIDTHS["phone"]) as found:
        found.open("/docs/schedules")
        block = found.page.locator(".document pre").first
        text = block.locator("code").text_content() or ""
        block.get_by_role("button", name="Copy").click()
        expect(block.get_by_role("button", name="Copied")).to_be_visible()
        assert found.page.evaluate("navigator.clipboard.readText()") == text.rstrip()


def test_button_in_a_live_part_copies_after_the_part_was_replaced(chromium: Browser, queued: Server) -> None:
    with window(chromium, queued, "carl") as found:
        found.open("/docs")
        found.page.evaluate(
            """() => {
                const part = document.querySelector("main");
                part.innerHTML = '<button type="button" data-copy="fresh" hidden>Copy</button>';
                part.dispatchEvent(new CustomEvent("part", {bubbles: true}));
            }"""
        )
        found.page.get_by_role("button", name="Copy").click()
        expect(found.page.get_by_role("button", name="Copied")).to_be_visible()
        assert found.page.evaluate("navigator.clipboard.readText()") == "fresh"
