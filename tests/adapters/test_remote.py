"""The remote client against servers that fail, send wrong answers, or are not this project's servers."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.calls import BRIEFLY, LONG
from provisioner.core import errors
from provisioner.core.errors import Invalid, ProvisionError
from provisioner.core.views.api import API, API_HEADER, PACKAGE_HEADER
from provisioner.core.views.codec import to_json
from provisioner.core.views.job import Jobs
from provisioner.faces.cli import exits
from provisioner.ports.control.logs import LogGap, LogPiece, view_of
from provisioner.ports.store import RunFilter
from tests.adapters.answering import (
    FOUND,
    JOB,
    JOBS,
    RUN,
    STARTED,
    TOKEN,
    Against,
    Client,
    encoded,
    in_turn,
    problem,
    record,
)
from tests.adapters.stranger import Said
from tests.ports import free_ports


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("provision.example.com", "https://HOST"),
        ("ftp://provision.example.com", "https://HOST"),
        ("https://", "https://HOST"),
        ("https://a b", "https://HOST"),
        ("https://host:port", "Port"),
        ("https://host\n", "https://HOST"),
        ("https://me:secret@provision.example.com", "PROVISION_TOKEN"),
        ("http://::1:8080", "brackets"),
        ("https://2001:db8::1", "brackets"),
        ("http://[::1]x", "PORT"),
        ("https://provision.example.com/?token=x", "PROVISION_TOKEN"),
        ("http://provision.example.com", "in clear text"),
        ("http://10.0.0.1:8080", "in clear text"),
        ("http://localhost.example.com", "in clear text"),
    ],
)
def test_urls_that_are_refused(url: str, told: str) -> None:
    """The error is one line with the expected form. The token is never sent over a network in clear text."""
    with pytest.raises(Invalid) as caught:
        address(url, TOKEN)
    assert told in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_https_urls_and_local_http_urls_are_accepted() -> None:
    """https is accepted for any host, and http for this computer or with `insecure`. The URL may have a path."""
    assert address("https://provision.example.com/gpu/", TOKEN).url == "https://provision.example.com/gpu"
    assert [address(f"http://{host}:8080", TOKEN).port for host in ("127.0.0.1", "[::1]", "localhost")] == [8080] * 3
    assert address("http://provision.example.com", TOKEN, insecure=True).port == 80
    assert TOKEN not in repr(address("https://provision.example.com", TOKEN))


@pytest.mark.parametrize("token", ["", "two words", "new\nline", "é", "x" * 2000])
def test_token_that_breaks_a_header_is_refused(token: str) -> None:
    """A token that would break the header is refused."""
    with pytest.raises(Invalid, match="PROVISION_TOKEN"):
        address("https://provision.example.com", token)


def test_start_beyond_a_limit_is_told_at_once(against: Against) -> None:
    """An immediate retry would meet the same limit; the exit code says that a later one may succeed."""
    client, server = against(in_turn(problem(429, "limit_reached")))
    with pytest.raises(errors.LimitReached) as refused:
        client.control.runs.start("ann/train", {})
    assert (len(server.asked), exits.of_error(refused.value)) == (1, exits.RETRY)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid", Invalid),
        (413, "too_large", Invalid),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (502, "cloud", errors.CloudError),
        (502, "failed", errors.Failed),
        (503, "wrong_store", errors.WrongStore),
        (500, "fault", ProvisionError),
    ],
)
def test_server_errors_keep_class_and_message(
    against: Against, status: int, code: str, kind: type[ProvisionError]
) -> None:
    """Each error arrives with the server's class and message, without a retry."""
    client, server = against(lambda _: problem(status, code))
    with pytest.raises(ProvisionError) as caught:
        client.control.jobs.all()
    assert type(caught.value) is kind
    assert str(caught.value) == "in one sentence"
    assert (len(server.asked), client.told) == (1, [])


def test_rejected_token_names_server_variable_and_reason(against: Against) -> None:
    """The error names the server, the variable, and the server's reason for rejecting the token; never the token."""
    client, server = against(lambda _: problem(401, "denied", "the token has expired"))
    with pytest.raises(errors.Denied, match=r"PROVISION_TOKEN: the token has expired") as caught:
        client.control.jobs.all()
    assert TOKEN not in str(caught.value)
    assert server.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in server.asked[0].path


def test_no_redirect_is_followed(against: Against) -> None:
    """The token goes only to the server that the user names."""
    _, other = against(lambda _: record(Jobs(())))
    client, _ = against(lambda _: Said(status=307, headers=(("Location", f"{other.url}/api/jobs"),)))
    with pytest.raises(Invalid, match=f"redirects to {other.url}"):
        client.control.jobs.all()
    assert other.asked == []


@pytest.mark.parametrize(
    "said",
    [
        Said(b"<html>nginx</html>", 404, "text/html"),
        Said(b"<html>log in</html>", 200, "text/html"),
        Said(b"[]", 200, "application/json"),
        Said(b"{}"),
        Said(b"null"),
        Said(b"["),
        Said(b"[" * 100_000),
        Said(b"\xff"),
        Said(b'[{"id": 1}]'),
        Said(b'{"message": 1, "code": 2}', 400, "application/json"),
        Said(b"{", 500, "application/json"),
        Said(b"", 204),
        Said(b"", 418, ""),
    ],
)
def test_unreadable_answer_asks_whether_the_url_is_right(against: Against, said: Said) -> None:
    """Any unreadable answer is one line that asks whether the URL is right; the request is not retried."""
    client, server = against(lambda _: said)
    with pytest.raises(Invalid, match="check PROVISION_URL") as caught:
        client.control.jobs.all()
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


PASSING = [
    problem(503, "try_again"),
    problem(429, "too_many"),
    Said(b"<html>bad gateway</html>", 502, "text/html"),
    Said(b"", 503, ""),
    Said(b"<html>slow</html>", 504, "text/html"),
    Said(encoded(JOBS), cut=0),
    Said(encoded(JOBS), cut=20),
]


@pytest.mark.parametrize("said", PASSING)
def test_transient_failure_is_retried_until_it_works(against: Against, said: Said) -> None:
    """The request is retried until it works. Two lines are printed: server unavailable, and server available again."""
    client, server = against(in_turn(said, said, record(JOBS)))
    assert client.control.jobs.all() == (JOB,)
    assert len(server.asked) == 3
    assert len(client.told) == 2
    assert client.told[0].endswith("; retrying for 10 s")
    assert client.told[1] == f"{server.url} is available again"


@pytest.mark.parametrize("said", PASSING)
def test_lasting_failure_ends_after_bounded_retries(against: Against, said: Said) -> None:
    """The retries end after a bounded time with one line."""
    client, server = against(lambda _: said)
    with pytest.raises((errors.Retryable, errors.TooMany)):
        client.control.jobs.all()
    assert 2 < len(server.asked) < 30
    assert client.waited <= BRIEFLY
    assert len(client.told) == 1


def test_unreachable_server_is_retried_for_seconds_or_minutes() -> None:
    """The client retries for some seconds, or for minutes while it waits for a run."""
    client = Client(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(errors.Transient, match="cannot be reached: Connection refused"):
        client.control.jobs.all()
    assert client.waited <= BRIEFLY
    told: list[str] = []
    with pytest.raises(errors.Transient):
        client.control.operator.drive(lambda: bool(client.control.jobs.all()), told.extend)
    assert LONG / 2 < client.waited <= LONG + BRIEFLY
    # The line is printed once: the server was never back in between.
    assert (len(client.told), told) == (1, [])


def test_retry_after_is_heeded(against: Against) -> None:
    """The client never retries earlier than Retry-After, and gives up if that is later than its own limit."""
    client, _ = against(in_turn(problem(429, "too_many", **{"Retry-After": "7"}), record(JOBS)))
    assert client.control.jobs.all() == (JOB,)
    assert client.waited >= 7
    client, server = against(lambda _: problem(429, "too_many", **{"Retry-After": "60"}))
    with pytest.raises(errors.TooMany, match="in one sentence"):
        client.control.jobs.all()
    assert (len(server.asked), client.waited) == (1, 0)


@pytest.mark.parametrize("lost", PASSING[2:])
def test_start_with_lost_answer_is_resent_with_the_same_key(against: Against, lost: Said) -> None:
    """A start with a lost answer is sent again with the same key. The client makes a key if the caller gives none."""
    client, server = against(in_turn(lost, lost, record(STARTED)))
    assert client.control.runs.start("ann/train", {"A": "b"}) == RUN
    bodies = [json.loads(asked.body) for asked in server.asked]
    assert bodies == [{"env": {"A": "b"}, "command": None, "idempotency_key": bodies[0]["idempotency_key"]}] * 3
    assert len(bodies[0]["idempotency_key"]) == 32
    assert {asked.path for asked in server.asked} == {"/api/jobs/train/start?owner_name=ann"}
    client.control.runs.start("train", {}, idempotency_key="mine")
    assert json.loads(server.asked[-1].body)["idempotency_key"] == "mine"


@pytest.mark.parametrize("lost", PASSING[2:])
def test_a_delete_is_sent_once(against: Against, lost: Said) -> None:
    """A repeated delete would answer that there is no such job, so a lost answer is reported as NoAnswer."""
    client, server = against(lambda _: lost)
    with pytest.raises(errors.NoAnswer, match="may have executed the request"):
        client.control.jobs.delete("train")
    assert [asked.method for asked in server.asked] == ["DELETE"]


def test_a_refused_delete_is_sent_again(against: Against) -> None:
    """The server rejected the request before acting, so sending it again is safe."""
    client, _ = against(in_turn(PASSING[0], PASSING[1], record(JOB)))
    assert client.control.jobs.delete("train") == JOB


def test_an_answer_may_break_off_anywhere(against: Against) -> None:
    """After an answer that was cut off, the next call works."""
    whole = encoded(JOBS)
    cuts = range(0, len(whole), 7)
    client, _ = against(in_turn(*(said for at in cuts for said in (Said(whole, cut=at), record(JOBS)))))
    assert [client.control.jobs.all() for _ in cuts] == [(JOB,)] * len(cuts)


@pytest.mark.parametrize("name", ["", ".", "..", "a/../b", "%2e%2e", "x?y", "../../x", "é", "x" * 100, "-\n"])
def test_impossible_name_is_not_found_and_not_sent(against: Against, name: str) -> None:
    """An impossible name is NotFound with the usual message, and is not sent."""
    client, server = against(lambda _: record(RUN))
    control = client.control
    jobs: list[Callable[[str], Any]] = [control.jobs.get, control.jobs.delete, lambda job: control.runs.start(job, {})]
    runs: list[Callable[[str], Any]] = [control.runs.get, control.runs.status, control.runs.stop, control.runs.receipt]
    for call in [*jobs, *runs]:
        with pytest.raises(errors.NotFound, match=r"^no (job|run) "):
            call(name)
    assert server.asked == []


def test_waiting_sends_one_request_a_second_for_all_runs(against: Against) -> None:
    """Any number of runs takes one request a second with their ids, at most 100 ids in each request."""
    client, server = against(lambda _: record(FOUND))
    laps = iter(range(5))
    began = client.clock.now()
    client.control.operator.drive(
        lambda: bool(client.control.runs.find(made_filter(["a" * 32, "b" * 32]))) and next(laps) == 4
    )
    assert len(server.asked) == 5
    assert client.clock.now() - began == 4.0
    assert server.asked[0].path == f"/api/runs?limit=2&id={'a' * 32}&id={'b' * 32}"
    client.control.runs.find(made_filter([f"{number:032x}" for number in range(250)]))
    assert len(server.asked) == 8


def test_connection_is_kept_between_calls(against: Against) -> None:
    """The client keeps its connection for the next call."""
    client, server = against(in_turn(record(JOBS), record(JOBS), problem(404, "not_found"), record(JOBS)))
    for _ in range(2):
        client.control.jobs.all()
    with pytest.raises(errors.NotFound):
        client.control.jobs.get("train")
    assert server.connections == 1


def made_filter(ids: list[str]) -> RunFilter:
    return RunFilter(ids=tuple(ids), limit=len(ids))


def test_a_server_of_another_api_version_names_the_package_to_install(against: Against) -> None:
    """The error is one line, raised before the body of the answer is read."""
    headers = ((API_HEADER, str(API + 1)), (PACKAGE_HEADER, "9.9"))
    client, server = against(lambda _: Said(b"{}", headers=headers))
    with pytest.raises(Invalid, match=r"another API version .* has version 9\.9: pip install provision-gpu==9\.9"):
        client.control.jobs.all()
    assert len(server.asked) == 1


def test_server_that_does_not_know_a_field_is_named_as_older(against: Against) -> None:
    """This client sends no field that the server of its own version does not know."""
    refused = problem(400, "invalid", "body.scale: unknown field", **{PACKAGE_HEADER: "0.0.9"})
    client, _ = against(lambda _: refused)
    with pytest.raises(Invalid, match=r"does not support 'scale': the server has the older version 0\.0\.9"):
        client.control.runs.start("ann/train", {}, scale=2)


# Followed logs


def told(piece: LogPiece | LogGap, id: int) -> bytes:
    return f"event: log\nid: {id}\ndata: {json.dumps(to_json(view_of(piece)))}\n\n".encode()


# TLS
