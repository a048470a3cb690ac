"""The login page in a real browser."""

import pytest
from playwright.sync_api import Browser, expect

from tests.api.served import Server
from tests.page import axe
from tests.page.browser import WIDTHS, Theme
from tests.page.conftest import window


@pytest.mark.parametrize("javascript", [True, False])
def test_login_form_opens_a_session(chromium: Browser, site: Server, javascript: bool) -> None:
    with window(chromium, site, javascript=javascript) as found:
        found.open("/")
        expect(found.page).to_have_title("Log in · provision")
        found.log_in(site.token("ann"))
        assert [cookie["name"] for cookie in found.context.cookies()] == ["provision_session"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_login_page_is_accessible(chromium: Browser, site: Server, theme: Theme, width: int) -> None:
    with window(chromium, site, theme=theme, width=width) as found:
        found.open("/login")
        assert axe.violations(found.page) == []
