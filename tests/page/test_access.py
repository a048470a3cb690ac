"""What the page answers to requests that it must refuse: a table over all routes."""

import json

import httpx
import pytest

from tests.api.served import Server
from tests.page.conftest import Visitor, visitor
from tests.page.every_page import CHANGES, READS, addresses
from tests.page.world import World, populate

#: Requests that a page of another site can make a browser send with the session's cookie, if the browser is old; and
#: requests of this site without the session's token.
FORGED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "no token": ({}, {}),
    "wrong token": ({}, {"csrf": "0" * 64}),
    "empty token": ({}, {"csrf": ""}),
    "other origin": ({"Origin": "https://evil.example"}, {"csrf": "right"}),
    "no origin": ({"Origin": "null"}, {"csrf": "right"}),
    "other port": ({"Origin": "http://127.0.0.1:1"}, {"csrf": "right"}),
    "other site": ({"Sec-Fetch-Site": "cross-site"}, {"csrf": "right"}),
    "sibling": ({"Sec-Fetch-Site": "same-site"}, {"csrf": "right"}),
}


@pytest.fixture(scope="module")
def world(site: Server) -> World:
    return populate(site)


def state(site: Server, world: World) -> object:
    """Return what a change would change: the audit records, the jobs and the runs."""
    store = site.service.installation.store
    # The tests themselves make tokens, as a user of the control host.
    audits = [each for each in store.audit(1000) if not each.who.startswith("local:")]
    return audits, store.jobs(), [store.run(id) for id in world.runs.values()]


@pytest.mark.parametrize("route", READS)
def test_reading_needs_a_session(site: Server, world: World, route: str) -> None:
    with visitor(site) as nobody:
        for address in addresses(world, route, "GET"):
            page = nobody.get(address.path)
            assert (page.status_code, page.headers["location"].partition("?")[0]) == (303, "/login"), address
            part = nobody.client.get(address.path, headers={"X-Script": "1"})
            assert part.status_code == 401, address
            assert "x-hostile" not in page.text + part.text


@pytest.mark.parametrize("route", CHANGES)
def test_changing_needs_a_session(site: Server, world: World, route: str) -> None:
    before = state(site, world)
    with visitor(site) as nobody:
        for address in addresses(world, route, "POST"):
            assert nobody.post(address.path).status_code == 401, address
    assert state(site, world) == before


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("route", CHANGES)
def test_changing_needs_a_page_of_this_session(site: Server, world: World, route: str, forged: str) -> None:
    headers, fields = FORGED[forged]
    before = state(site, world)
    with visitor(site, "root", admin=True) as admin:
        token = {"csrf": admin.csrf} if fields.get("csrf") == "right" else fields
        for address in addresses(world, route, "POST"):
            assert admin.client.post(address.path, data=token, headers=headers).status_code == 403, address
    assert state(site, world) == before


@pytest.mark.parametrize("route", CHANGES)
def test_the_token_of_another_session_is_refused(site: Server, world: World, route: str) -> None:
    with visitor(site, "root", admin=True) as admin, visitor(site, "root", admin=True) as another:
        for address in addresses(world, route, "POST"):
            assert admin.client.post(address.path, data={"csrf": another.csrf}).status_code == 403, address


@pytest.mark.parametrize("route", CHANGES)
def test_no_address_changes_something_when_it_is_only_opened(site: Server, world: World, route: str) -> None:
    before = state(site, world)
    with visitor(site, "root", admin=True) as admin:
        for address in addresses(world, route, "POST"):
            admin.get(address.path)
    assert state(site, world) == before


@pytest.mark.parametrize("route", [route for route in (*READS, *CHANGES) if "{" in route])
def test_things_of_another_owner_are_not_found(site: Server, world: World, route: str) -> None:
    before = state(site, world)
    with visitor(site, "bob") as bob:
        for address in addresses(world, route, "GET", "POST"):
            if "{run}" in route or "{job}" in route:
                answer = bob.get(address.path) if address.method == "GET" else bob.post(address.path)
                if answer.status_code == 303 and route.startswith("/dash/"):
                    answer = bob.get(answer.headers["location"])
                assert answer.status_code == 404, address
                assert "x-hostile" not in answer.text, address
    assert state(site, world) == before


@pytest.mark.parametrize("route", [route for route in READS if "{" not in route])
def test_lists_show_nothing_of_another_owner(site: Server, world: World, route: str) -> None:
    """The pages of admins are refused or empty."""
    with visitor(site, "bob") as bob:
        for address in addresses(world, route, "GET"):
            answer = bob.get(address.path)
            assert answer.status_code in (200, 303, 304, 403, 404), address
            assert "x-hostile" not in answer.text, address
            assert not [id for id in (*world.runs.values(), *world.jobs.values()) if id in answer.text], address


@pytest.mark.parametrize("route", [route for route in READS if "{" not in route])
def test_a_revoked_token_opens_no_page(site: Server, world: World, route: str) -> None:
    made = site.service.tokens.create(["root"], admin=True)
    with visitor(site) as admin:
        admin.log_in(made.token)
        site.service.tokens.revoke(made.id)
        for address in addresses(world, route, "GET"):
            assert admin.get(address.path).headers["location"].startswith("/login"), address


def test_every_answer_forbids_frames_scripts_and_guesses(site: Server, world: World) -> None:
    """No page can be framed (clickjacking), and no text of a user is executed as a file of another type."""
    with visitor(site, "root", admin=True) as admin:
        for address in [address for route in READS for address in addresses(world, route, "GET")]:
            check(admin, admin.get(address.path), address)
        for method in ("POST", "PUT", "DELETE"):
            check(admin, admin.client.request(method, "/jobs"), f"{method} /jobs")
        check(admin, admin.get("/no-such-page"), "unknown")
    with visitor(site) as nobody:
        check(nobody, nobody.get("/login"), "login")
        check(nobody, nobody.log_in("wrong"), "wrong token")


def check(_: Visitor, answer: httpx.Response, what: object) -> None:
    headers = answer.headers
    policy = dict(
        part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";") if part.strip()
    )
    assert policy["default-src"] == "'none'", what
    assert policy["frame-ancestors"] == "'none'", what
    assert "unsafe" not in json.dumps(policy), what
    assert headers["x-content-type-options"] == "nosniff", what
    kind = headers.get("content-type", "text/html").partition(";")[0]
    if kind == "text/html":
        assert headers.get("x-frame-options", "DENY") == "DENY", what
        assert policy.get("form-action", "'self'") == "'self'", what
        assert policy.get("script-src", "'self'") == "'self'", what
    # Other texts of users are downloaded, or cannot be executed. Pictures are those of the documentation.
    others = ("application/json", "text/csv", "text/plain", "image/svg+xml", "image/png")
    assert kind in ("text/html", *others), what
    # No cache keeps what a session has seen.
    if answer.status_code == 200:
        assert {"no-store", "private"} & set(headers.get("cache-control", "").split(", ")), what


def test_session_is_new_after_a_login(site: Server) -> None:
    """A secret that an attacker put into the browser before is not the session's."""
    with visitor(site) as victim:
        victim.client.cookies.set("provision_session", "planted", domain="127.0.0.1")
        victim.log_in(site.token("ann"))
        secrets = {cookie.value for cookie in victim.client.cookies.jar if cookie.name == "provision_session"}
        assert "planted" not in secrets
    with visitor(site) as attacker:
        attacker.client.cookies.set("provision_session", "planted")
        assert attacker.get("/").headers["location"].startswith("/login")
