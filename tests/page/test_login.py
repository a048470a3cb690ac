"""Log in to the page, and what a session protects."""

import hashlib

import pytest

from provisioner.core.access.callers import Session
from provisioner.service.access.sessions import LIFETIME
from tests.api.served import Server
from tests.page.conftest import visitor


def test_page_without_session_leads_to_login_and_back(site: Server) -> None:
    with visitor(site) as alone:
        sent = alone.get("/?a=1")
        assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=%2F%3Fa%3D1")
        came = alone.log_in(site.token("ann"), next="/?a=1")
        assert (came.status_code, came.headers["location"]) == (303, "/?a=1")
        assert alone.get("/").headers["location"] == "/jobs"


def test_wrong_token_is_explained_and_opens_no_session(site: Server) -> None:
    with visitor(site) as alone:
        answer = alone.log_in("pvt_wrong")
        assert answer.status_code == 401
        assert "the token is unknown" in answer.text
        assert not alone.client.cookies


@pytest.mark.parametrize("path", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_login_leads_only_to_paths_of_this_server(site: Server, path: str) -> None:
    with visitor(site) as alone:
        assert alone.log_in(site.token("ann"), next=path).headers["location"] == "/"


def test_session_cookie_is_hidden_from_scripts_and_other_sites(site: Server) -> None:
    with visitor(site) as alone:
        cookie = alone.log_in(site.token("ann")).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", f"Max-Age={int(LIFETIME)}", "Path=/"} <= set(cookie.split("; "))


def test_store_has_only_the_hash_of_a_session(site: Server) -> None:
    with visitor(site, "ann") as ann:
        secret = ann.client.cookies["provision_session"]
    assert site.service.installation.store.session(secret) is None


def test_login_replaces_the_session_that_the_browser_had(site: Server) -> None:
    """An attacker who planted a session's secret in a browser does not share the login of its user."""
    with visitor(site, "ann") as ann, visitor(site) as planted:
        secret = ann.client.cookies["provision_session"]
        planted.client.cookies.set("provision_session", secret, domain="127.0.0.1")
        planted.log_in(site.token("bob"))
        assert planted.client.cookies["provision_session"] != secret
        assert ann.get("/").headers["location"].startswith("/login")


def test_logout_ends_the_session_on_the_server(site: Server) -> None:
    with visitor(site, "ann") as ann, visitor(site) as copied:
        copied.client.cookies.set("provision_session", ann.client.cookies["provision_session"])
        assert copied.get("/").headers["location"] == "/jobs"
        assert ann.post("/logout").headers["location"] == "/login"
        assert copied.get("/").headers["location"].startswith("/login")


def test_session_ends_when_its_token_is_revoked(site: Server) -> None:
    made = site.service.tokens.create(["ann"], admin=False)
    with visitor(site) as ann:
        ann.log_in(made.token)
        site.service.tokens.revoke(made.id)
        assert ann.get("/").headers["location"].startswith("/login")


def test_session_ends_after_its_lifetime(site: Server) -> None:
    installation = site.service.installation
    made = site.service.tokens.create(["ann"], admin=False)
    with visitor(site) as ann:
        now = installation.clock.now()
        installation.store.save([Session(hashlib.sha256(b"old").hexdigest(), made.id, now - LIFETIME, now - 1)])
        ann.client.cookies.set("provision_session", "old")
        assert ann.get("/").headers["location"].startswith("/login")


def test_form_of_another_site_is_refused(site: Server) -> None:
    with visitor(site, "ann") as ann:
        assert ann.client.post("/logout", data={"csrf": "wrong"}).status_code == 403
        headers = {"Origin": "https://evil.example"}
        assert ann.client.post("/logout", data={"csrf": ann.csrf}, headers=headers).status_code == 403
        headers = {"Sec-Fetch-Site": "cross-site"}
        assert ann.client.post("/logout", data={"csrf": ann.csrf}, headers=headers).status_code == 403
        assert ann.get("/").headers["location"] == "/jobs"


def test_unknown_path_is_a_page_for_a_browser_and_json_for_a_program(site: Server) -> None:
    with visitor(site, "ann") as ann:
        shown = ann.client.get("/nothing", headers={"Accept": "text/html"})
        assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert ann.client.get("/api/nothing", headers={"Accept": "text/html"}).json()["code"] == "no_endpoint"


def test_static_file_has_its_hash_in_its_name_and_is_kept_for_ever(site: Server) -> None:
    with visitor(site) as alone:
        address = alone.get("/login").text.partition('rel="stylesheet" href="')[2].partition('"')[0]
        answer = alone.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert alone.get("/static/base.css").status_code == 404


def test_policy_forbids_everything_inline_and_elsewhere(site: Server) -> None:
    with visitor(site) as alone:
        policy = alone.get("/login").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
