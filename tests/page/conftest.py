"""A server with the page, without a cloud and without a daemon, so started runs stay queued; and logged-in visitors."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from provisioner.faces.page.visitor import csrf_of
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from tests.api.conftest import settings
from tests.api.served import Server
from tests.page import browser


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use Chromium, so that `scripts/test` leaves them out without `--browser`."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        folder = tmp_path_factory.mktemp("site")
        with Server(settings(folder), acting=False, bucket=MemoryBucket()) as server:
            yield server


class Visitor:
    """A browser without JavaScript: it keeps cookies, and follows no redirect unless told to."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    @property
    def csrf(self) -> str:
        """The CSRF token of the visitor's session."""
        return csrf_of(self.client.cookies.get("provision_session") or "")

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of this site, with the session's CSRF token."""
        return self.client.post(path, data={"csrf": self.csrf, **fields})

    def log_in(self, token: str, **fields: str) -> httpx.Response:
        return self.client.post("/login", data={"token": token, **fields})


@contextlib.contextmanager
def visitor(server: Server, *owners: str, admin: bool = False) -> Iterator[Visitor]:
    """Yield a visitor who is logged in with a new token for these owners; without owners, one who is not logged in."""
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        found = Visitor(client)
        if owners:
            assert found.log_in(server.token(*owners, admin=admin)).status_code == 303
        yield found


@contextlib.contextmanager
def window(
    chromium: Browser, server: Server, *owners: str, admin: bool = False, **options: Any
) -> Iterator[browser.Window]:
    """Yield a browser's window, logged in as by `visitor`; `options` are those of `tests.page.browser.window`."""
    with visitor(server, *owners, admin=admin) as found:
        cookies = dict(found.client.cookies)
    with browser.window(chromium, server.url, cookies=cookies, **options) as opened:
        yield opened
