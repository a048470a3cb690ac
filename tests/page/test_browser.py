"""The browser of the tests notices what no page may do. Otherwise the other tests here would prove nothing."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser

from tests.page.browser import Window, window

STRICT = "default-src 'none'; script-src 'self'; report-uri /csp-report"
#: Of a page: its body, its Content-Security-Policy, the faults that are noticed, and what a test does on it.
PAGES: dict[str, tuple[str, str, list[str], Callable[[Window], object]]] = {
    "harmless": ("<p>text</p>", STRICT, [], lambda found: found.page.inner_text("p")),
    "executes": ("<img src=/absent.png onerror=executed('img')>", "", ["404 for", "executed img"], str),
    "is-stopped-by-its-policy": (
        "<script>executed('s')</script>",
        STRICT,
        ["CSP report", "console: CSP", "console"],
        str,
    ),
    "follows-a-script-link": (
        "<a href=\"javascript:executed('link')\">go</a>",
        "",
        ["executed link"],
        lambda found: found.page.click("a"),
    ),
    "requests-another-host": ("<img src=http://other.test/a.png>", "", ["requested http://other.test/a.png"], str),
    "asks": ("<script>alert('really?')</script>", "", ["dialog: really?"], str),
    "fails": ("<script>null.length</script>", "", ["uncaught"], str),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, policy, *_ = PAGES.get(self.path[1:], ("", ""))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(f"<!doctype html>{body}".encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_may_not_do_is_noticed(chromium: Browser, server: str, name: str) -> None:
    *_, faults, deed = PAGES[name]
    with window(chromium, server) as found:
        found.open(f"/{name}")
        deed(found)
        found.page.wait_for_load_state("networkidle")
        noticed = found.faults()
        for fault in faults:
            assert [each for each in noticed if each.startswith(fault)], (fault, noticed)
        assert bool(noticed) == bool(faults), noticed
        for noted in (found.requests, found.executed, found.complaints):
            noted.clear()


def test_a_window_ends_its_test_if_its_page_did_what_no_page_may_do(chromium: Browser, server: str) -> None:
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(window(chromium, server))
        found.open("/executes")
        found.page.wait_for_load_state("networkidle")
        opened = stack.pop_all()
    with pytest.raises(pytest.fail.Exception, match="executed img"):
        opened.close()


def test_without_javascript_a_window_executes_none(chromium: Browser, server: str) -> None:
    with window(chromium, server, javascript=False) as found:
        found.open("/asks")
