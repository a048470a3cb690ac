"""Hostile texts in every field: no page executes them, and none becomes markup.

The world has them in the names of jobs and owners, in tags, notes, git URLs, commands, reasons and events, in what EC2
and machines said, and in logs.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from tests.api.served import Server
from tests.page.conftest import visitor, window
from tests.page.every_page import READS, addresses, faults_of, is_page, parts_of
from tests.page.world import MARK, World, populate

#: Markup and attributes that no template has, and addresses that a click would execute.
SCAN = f"""() => [...document.querySelectorAll("*")].flatMap((each) => [
    ...(each.matches("{MARK}, iframe, object, embed, base, style, script:not([src])") ? [each.localName] : []),
    ...[...each.attributes].filter((one) => /^on|^style$|^srcdoc$/.test(one.name)).map((one) => one.name),
    ...["href", "src", "action", "formAction"].map((name) => each[name]?.baseVal === undefined
        ? each[name] : new URL(each[name].baseVal, location).href)
        .filter((address) => typeof address === "string" && address && !/^https?:/.test(address)),
])"""


@pytest.fixture(scope="module")
def world(site: Server) -> World:
    return populate(site)


def markup(answer: httpx.Response) -> Iterator[str]:
    """Yield the HTML in an answer: the answer itself, or the texts in its JSON."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/html":
        yield answer.text
    elif kind == "application/json":
        yield from _texts(json.loads(answer.text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


@pytest.mark.parametrize("route", READS)
@pytest.mark.parametrize("admin", [True, False])
def test_no_text_becomes_markup(site: Server, world: World, route: str, admin: bool) -> None:
    found = {}
    with visitor(site) as reader:
        reader.log_in(site.token("root", admin=True) if admin else world.token(site))
        for address in addresses(world, route, "GET"):
            answer = reader.get(address.path)
            parts = parts_of(answer.text) if "html" in answer.headers.get("content-type", "") else []
            for path, each in [(address.path, answer), *((part, reader.get(part)) for part in parts)]:
                assert each.status_code < 500, path
                found[path] = [fault for html in markup(each) for fault in faults_of(html)]
    assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize("route", READS)
def test_nothing_executes_in_a_browser(chromium: Browser, site: Server, world: World, route: str) -> None:
    with window(chromium, site, "root", admin=True) as found:
        for address in addresses(world, route, "GET"):
            answer = found.page.request.get(site.url + address.path, max_redirects=0)
            if not is_page(answer.text()):
                continue
            found.open(address.path)
            # Live parts are requested again when the page is shown.
            found.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            found.page.wait_for_load_state("networkidle")
            assert found.page.evaluate(SCAN) == [], address
            assert found.faults() == [], address
