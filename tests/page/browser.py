"""Chromium in tests: a window that records what its page requests, executes and complains about."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

CHROMIUM = "/usr/bin/chromium"
#: No other host has an address. Without the other switches, Chromium asks its vendor for updates when it starts.
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
)
#: Seconds until a wait in a browser fails: other tests may keep both cores busy.
PATIENCE = 60.0
WIDTHS = {"phone": 390, "tablet": 820, "desk": 1400}
Theme = Literal["light", "dark"]

#: What a hostile text calls if it executes.
ALARM = "executed"
#: Reports of violations are read in the page too, because Chromium sends them late or not at all when a page closes.
WATCH = """
addEventListener("securitypolicyviolation", (event) => console.error(
    `CSP: ${event.effectiveDirective} blocked ${event.blockedURI} ${event.sample}`));
"""


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Yield a Chromium without a window, whose home is the folder.

    Leave it before other code of this thread uses asyncio: meanwhile, Playwright's own event loop counts as running.
    """
    expect.set_options(timeout=PATIENCE * 1000)
    environment: dict[str, Any] = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES, env=environment)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """One page in a browser of its own: its cookies are in no other window."""

    url: str
    context: BrowserContext
    page: Page
    #: The address of every request, in their order.
    requests: list[str] = field(default_factory=list)
    #: Errors of the console and of scripts, refused requests, dialogs, and reports of the Content-Security-Policy.
    complaints: list[str] = field(default_factory=list)
    #: What hostile texts called, with the text's own name for itself.
    executed: list[str] = field(default_factory=list)

    def open(self, path: str) -> Response:
        """Open the path of the server, and return the answer after its redirects."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer

    def log_in(self, token: str) -> None:
        """Log in with the form, as a user does."""
        self.open("/login")
        self.page.get_by_label("token").fill(token)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(lambda url: urlsplit(url).path != "/login")

    @property
    def foreign(self) -> list[str]:
        """Requests to another server; `data:` and `blob:` addresses stay within the browser."""
        return [url for url in self.requests if not url.startswith((f"{self.url}/", "data:", "blob:", "about:"))]

    def faults(self) -> list[str]:
        """Return what no page may do."""
        return [
            *(f"requested {url}" for url in self.foreign),
            *(f"executed {name}" for name in self.executed),
            *self.complaints,
        ]

    def watch(self) -> None:
        self.context.expose_binding(ALARM, lambda _, name="": self.executed.append(str(name)))
        self.context.add_init_script(WATCH)
        self.context.on("request", self._requested)
        self.context.on("response", self._answered)
        self.context.on("console", self._printed)
        self.context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        self.context.on("dialog", self._asked)

    def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).path == "/csp-report":
            self.complaints.append(f"CSP report: {request.post_data}")

    def _answered(self, response: Response) -> None:
        # The tests open pages that are refused on purpose. What a page itself loads must be there.
        if response.status >= 400 and not response.request.is_navigation_request():
            self.complaints.append(f"{response.status} for {response.request.method} {response.url}")

    def _printed(self, message: ConsoleMessage) -> None:
        # Chromium prints a line for each answer of 400 and above; `_answered` judges them.
        if message.type in ("error", "assert") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"console: {message.text}")


@contextlib.contextmanager
def window(
    browser: Browser,
    url: str,
    *,
    cookies: dict[str, str] | None = None,
    width: int = WIDTHS["desk"],
    theme: Theme = "light",
    javascript: bool = True,
) -> Iterator[Window]:
    """Yield a window on the server at the address. Afterwards, fail if its page did what no page may do."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        java_script_enabled=javascript,
        is_mobile=width < 500,
        has_touch=width < 500,
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
        locale="en-GB",
        timezone_id="Asia/Kathmandu",
    )
    try:
        context.set_default_timeout(PATIENCE * 1000)
        context.add_cookies([{"name": name, "value": value, "url": url} for name, value in (cookies or {}).items()])
        found = Window(url, context, context.new_page())
        found.watch()
        yield found
        found.page.close()
    finally:
        context.close()
    if faults := found.faults():
        pytest.fail("\n".join(faults))
