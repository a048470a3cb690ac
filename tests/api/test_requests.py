"""Requests and their answers: every error has one form, and no header repeats a client's text."""

import socket
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from provisioner.core.errors import TooMany
from provisioner.faces.api.http import answers
from provisioner.faces.api.http.guard import LARGEST
from tests.api.served import Server, recipe


@pytest.fixture(scope="module")
def user(quiet: Server) -> Iterator[httpx.Client]:
    quiet.service.jobs.apply(recipe("job", "ann"), "the test's recipe")
    with quiet.client(quiet.token("ann", "lab/ann")) as client:
        yield client


def told(answer: httpx.Response, status: int) -> str:
    """Assert that the answer is an error in the common form; return its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert sorted(body) == ["code", "detail", "message"]
    assert body["message"]
    return str(body["message"])


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "says"),
    [
        ("GET", "/api/runs?limit=0", {}, 400, "query.limit: found '0'; write 1 or more"),
        ("GET", "/api/runs?limit=1001", {}, 400, "write 1000 or less"),
        ("GET", "/api/runs?state=asleep", {}, 400, "write 'queued', 'launching'"),
        ("GET", "/api/runs?cursor=%00", {}, 400, "cursor"),
        ("GET", "/api/runs/none", {}, 404, "no run 'none'"),
        ("GET", "/api/jobs/none", {}, 404, "no job 'none'"),
        ("GET", "/api/jobs/a%2Fb", {}, 404, "/api/openapi.json"),
        ("GET", "/api/jobs/..%2f..%2fetc%2fpasswd", {}, 404, "/api/openapi.json"),
        ("GET", "/api/jobs/%00", {}, 404, "no job"),
        ("GET", "/api/jobs/a%0d%0aSet-Cookie:%20b", {}, 404, "no job"),
        ("GET", "/api/runs/%ff%fe", {}, 404, "no run"),
        ("PATCH", "/api/runs", {}, 405, "PATCH is not allowed at this path"),
        ("GET", "/nothing", {}, 404, "unknown path"),
        ("POST", "/api/jobs/job/start", {"json": []}, 400, "body: found a list; write a mapping"),
        ("POST", "/api/jobs/job/start", {"json": {"nonsense": 1}}, 400, "body.nonsense: unknown field"),
        ("POST", "/api/jobs/job/start", {"json": {"env": {"A": 1}}}, 400, "body.env.A"),
        ("POST", "/api/jobs/job/start", {"json": {"env": {"A": "\0"}}}, 400, "environment_variables"),
        ("POST", "/api/jobs/job/start", {"content": b"{}"}, 400, "Content-Type: application/json"),
        ("POST", "/api/jobs/job/start", {"json": {"env": {"A": "b"}, "command": ""}}, 400, "command"),
        ("PUT", "/api/jobs/job/schedule", {"json": {"schedule": "* * *"}}, 400, "schedule"),
        ("GET", "/api/runs/none/logs?cursor=nonsense", {}, 404, "no run"),
        ("GET", "/api/runs/none/logs?offset=1", {}, 400, "offset requires `attempt`"),
    ],
)
def test_wrong_request_gets_status_and_message(
    user: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, says: str
) -> None:
    """Each error has a status for programs and a sentence for people."""
    assert says in told(user.request(method, path, **more), status)


def test_a_body_is_bounded(quiet: Server, user: httpx.Client) -> None:
    """With a Content-Length or in chunks, a body beyond the limit is not kept."""
    before = len(quiet.journal.lines)
    told(user.post("/api/jobs/job/start", content=b" " * (LARGEST + 1)), 413)

    def chunks() -> Iterator[bytes]:
        for _ in range(LARGEST // 1024 + 1):
            yield b" " * 1024

    headers = {"Content-Type": "application/json"}
    told(user.post("/api/jobs/job/start", content=chunks(), headers=headers), 413)
    deep = b"[" * 100_000
    told(user.post("/api/jobs/job/start", content=deep, headers=headers), 400)
    assert quiet.journal.lines[before:] == []


def test_every_answer_keeps_browsers_away(user: httpx.Client) -> None:
    """Every answer, errors included, has headers that keep a browser from rendering or running it."""
    for path in ("/api/jobs", "/nope", "/api/runs?limit=0", "/healthz"):
        headers = user.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
        assert headers["content-type"] == "application/json"


def test_token_and_bearer_headers_are_accepted(quiet: Server, user: httpx.Client) -> None:
    """`token` (Saturn) and `Bearer` (RFC 6750) are accepted; other schemes and tokens in the URL are not."""
    token = user.headers["Authorization"].partition(" ")[2]
    with quiet.client() as bare:
        for form in ("token", "Token", "bearer", "Bearer"):
            assert bare.get("/api/jobs", headers={"Authorization": f"{form} {token}"}).status_code == 200
        for wrong in (token, f"Basic {token}", f"Bearer {token}x", "Bearer"):
            refused = bare.get("/api/jobs", headers={"Authorization": wrong})
            told(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        assert "`Authorization: Bearer <token>`" in bare.get("/api/jobs").json()["message"]
        told(bare.get(f"/api/jobs?token={token}&access_token={token}"), 401)


def test_internal_error_shows_only_an_id(quiet: Server, user: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to an internal error has only an id, by which the journal's line is found."""

    def broken(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(type(quiet.service), "on_behalf", broken)
    message = told(user.get("/api/jobs"), 500)
    assert "secret" not in message
    id = message.rpartition(" ")[2]
    found = [line for line in quiet.journal.lines if id in line]
    assert len(found) == 1
    assert "the secret of the house" in found[0]
    assert "Traceback" in found[0]


def test_no_token_is_in_the_journal(quiet: Server, user: httpx.Client) -> None:
    """The server logs no token."""
    token = user.headers["Authorization"].partition(" ")[2]
    user.get("/api/jobs")
    user.get("/nope", headers={"X-Token": token})
    assert not [line for line in quiet.journal.lines if token[-20:] in line]


def test_a_start_has_its_run_and_its_key(user: httpx.Client) -> None:
    """The answer has the job and the run. The same key gives the same run; with other inputs it is a conflict."""
    first = user.post("/api/jobs/job/start", json={"env": {"A": "1"}, "idempotency_key": "k"}).json()
    again = user.post("/api/jobs/job/start", json={"env": {"A": "1"}}, headers={"Idempotency-Key": "k"}).json()
    assert (first["name"], first["run"]["state"]) == ("job", "queued")
    assert again["run"]["id"] == first["run"]["id"]
    told(user.post("/api/jobs/job/start", json={"env": {"A": "2"}, "idempotency_key": "k"}), 409)


def test_pages_of_runs_follow_one_another(user: httpx.Client) -> None:
    """Each run appears once, the newest first, until `next_key` is null."""
    for _ in range(5):
        user.post("/api/jobs/job/start")
    found, cursor = [], ""
    for _ in range(100):
        page = user.get("/api/runs", params={"limit": 2, "cursor": cursor}).json()
        found += page["runs"]
        if page["next_key"] is None:
            break
        cursor = page["next_key"]
    ids = [run["id"] for run in found]
    assert len(set(ids)) == len(ids) >= 5
    assert [run["created_at"] for run in found] == sorted((run["created_at"] for run in found), reverse=True)


def test_a_job_is_its_id_or_its_name_and_owner(quiet: Server, user: httpx.Client) -> None:
    """Without an owner name, the token's first owner is used."""
    other = quiet.service.jobs.apply(recipe("other", "lab/ann"), "the test's recipe")
    mine = user.get("/api/jobs/job").json()
    assert mine["owner"] == "ann"
    assert user.get(f"/api/jobs/{mine['id']}").json() == mine
    told(user.get("/api/jobs/other"), 404)
    assert user.get("/api/jobs/other", params={"owner_name": "lab/ann"}).json()["id"] == other.id


def test_every_answer_has_the_versions_of_api_and_package(user: httpx.Client) -> None:
    """Errors have the headers too."""
    for path in ("/api/jobs", "/api/jobs/none", "/nowhere", "/healthz"):
        answer = user.get(path)
        assert (answer.headers["Provision-API"], answer.headers["Provision-Version"]) == ("1", version("provision-gpu"))


def test_a_client_from_before_versions_is_told_which_one_to_install(user: httpx.Client) -> None:
    """A client of a release before API versions shows the server's message in one line."""
    answer = user.get("/api/jobs", headers={"Accept": "application/vnd.provision+json"})
    told(answer, 406)
    message = answer.json()["message"]
    assert message.endswith(f"pip install provision-gpu=={version('provision-gpu')}")
    assert "\n" not in message


def test_malformed_http_closes_only_its_own_connection(quiet: Server) -> None:
    """Other clients are not affected."""
    with socket.create_connection(("127.0.0.1", quiet.port)) as sent:
        sent.sendall(b"GET /api/jobs\0 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sent.recv(1000).startswith(b"HTTP/1.1 400")
    with quiet.client() as client:
        assert client.get("/healthz").status_code == 200


def test_readyz_is_503_without_a_daemon(quiet: Server) -> None:
    """/readyz answers 503, but the process is alive."""
    with quiet.client() as client:
        answer = client.get("/readyz")
        told(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200


def test_unknown_methods_share_one_metric_label(quiet: Server) -> None:
    """Each metric stays in memory, and a request may have any method name."""
    with quiet.client(quiet.token("root", admin=True)) as admin:
        for number in range(3):
            assert admin.request(f"NONSENSE{number}", "/healthz").status_code == 405
        found = admin.get("/metrics").text
    assert 'provision_http_requests_total{method="other",route="/healthz",status="405"} 3.0' in found
    assert "NONSENSE" not in found


def test_a_throttled_client_is_told_when_to_try_again() -> None:
    """Without Retry-After clients retry at once. It is in whole seconds, at least 1 (RFC 9110, 10.2.3)."""
    for wait, told in [(7.4, "7"), (0.01, "1")]:
        response = answers.refusal(TooMany("too often", wait))
        assert response is not None
        assert (response.status_code, response.headers["retry-after"]) == (429, told)


@pytest.mark.parametrize(
    ("forwarded", "source"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("192.0.2.1:1, 203.0.113.9:4711", "203.0.113.9"),
        ("192.0.2.1,", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_last_hop_without_its_port_is_the_source(quiet: Server, forwarded: str, source: str) -> None:
    """The source is an address without a port; a caller's own X-Forwarded-For is ignored."""
    with quiet.client(quiet.token("root", admin=True)) as admin:
        sent = admin.post(
            "/api/tokens",
            json={"owners": ["ann"]},
            headers=[("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-For", forwarded)],
        )
        assert sent.status_code < 300, sent.text
        latest = admin.get("/api/audit?limit=1").json()["entries"][0]
    assert latest["source"] == source
