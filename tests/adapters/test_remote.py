"""The remote client against servers that fail, send wrong answers, or are not this project's servers."""

import itertools
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.calls import BRIEFLY, LONG
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.remote.events import Event, events
from provisioner.core import errors
from provisioner.core.errors import Invalid, ProvisionError
from provisioner.core.views import from_records
from provisioner.core.views.api import API, API_HEADER, PACKAGE_HEADER
from provisioner.core.views.codec import Moment, to_json
from provisioner.core.views.job import Job, Jobs, Started
from provisioner.core.views.run import Runs
from provisioner.faces.cli import exits
from provisioner.ports.control.logs import LogGap, LogPiece, LogQuery, view_of
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.fakes.clock import CountingIds, StepClock
from tests.adapters.stranger import Answering, Asked, Said, Stranger
from tests.ports import free_ports
from tests.support import samples

TOKEN = "pvt_0123456789ab_do-not-tell"
JOB = Job("j" * 32, "ann", "train", 1, Moment(1.0), Moment(1.0), None, {}, ())
RUN = from_records.run(samples.run("1f" * 16))
JOBS, FOUND = Jobs((JOB,)), Runs((RUN,), None)
STARTED = Started(**vars(JOB), run=RUN)
EVENTS = "text/event-stream"


class Client:
    """A remote control with its clock and the messages it printed about an unreachable server."""

    def __init__(self, url: str) -> None:
        self.clock = StepClock()
        self.began = self.clock.now()
        self.told: list[str] = []
        self.control = Remote(address(url, TOKEN), self.clock, CountingIds(), self.told.append)

    @property
    def waited(self) -> float:
        return self.clock.now() - self.began


Against = Callable[[Answering], tuple[Client, Stranger]]


@pytest.fixture
def against() -> Iterator[Against]:
    """Return a function that starts a server with these answers and returns it with a client."""
    opened: list[tuple[Client, Stranger]] = []

    def open(answering: Answering) -> tuple[Client, Stranger]:
        server = Stranger(answering)
        server.__enter__()
        opened.append((Client(server.url), server))
        return opened[-1]

    yield open
    for client, server in opened:
        client.control.close()
        server.__exit__(None, None, None)


def in_turn(*answers: Said) -> Answering:
    """Return the answers one after the other, then the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def encoded(view: object) -> bytes:
    return json.dumps(to_json(view)).encode()


def record(view: object) -> Said:
    return Said(encoded(view))


def problem(status: int, code: str, message: str = "in one sentence", **headers: str) -> Said:
    body = json.dumps({"message": message, "code": code, "detail": {}}).encode()
    return Said(body, status, "application/json", tuple(headers.items()))


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


# Followed logs

PIECES: list[LogPiece | LogGap] = [
    LogPiece(1, "output", 0, b"one\n"),
    LogPiece(1, "output", 4, b"\xff\x00\n\n"),
    LogPiece(1, "setup", 0, "zw\u00f6lf\u2028".encode()),
    LogGap(1, "output", 8, None),
    LogGap(2, "output", 8, 7),
]


def told(piece: LogPiece | LogGap, id: int) -> bytes:
    return f"event: log\nid: {id}\ndata: {json.dumps(to_json(view_of(piece)))}\n\n".encode()


def log_server(cut: Callable[[int], int | None]) -> Answering:
    """Serve the log above from Last-Event-ID on; answer number n breaks off after `cut(n)` bytes."""
    answers = iter(range(10**6))

    def answering(asked: Asked) -> Said:
        if EVENTS not in asked.headers["Accept"]:
            return record(FOUND)
        first = int(asked.headers.get("Last-Event-ID", "0"))
        body = b"retry: 1000\n\n" + b":\n\n".join(told(piece, id + 1) for id, piece in enumerate(PIECES) if id >= first)
        return Said(body + b"event: end\nid: 9\ndata: {}\n\n", kind=EVENTS, cut=cut(next(answers)))

    return answering


@pytest.mark.parametrize("size", [0, 1, 12, 13, 60, 100, 101, 180, 250, 1000])
def test_a_followed_log_goes_on_where_it_broke_off(against: Against, size: int) -> None:
    """Each piece arrives once and in order, however long each connection lasts; gaps are reported."""
    client, server = against(log_server(lambda number: size + number))
    assert list(client.control.logs.follow(RUN.id, LogQuery(("setup", "output")))) == PIECES
    assert len(server.asked) < 150


def test_a_log_that_always_breaks_off_ends(against: Against) -> None:
    """If every connection breaks before its first event, following ends with an error."""
    client, server = against(log_server(lambda _: 13))
    with pytest.raises(errors.Transient, match="connections in a row were lost"):
        list(client.control.logs.follow(RUN.id, LogQuery(("output",))))
    assert len(server.asked) < 150


def test_keep_alive_calls_the_follower_without_data(against: Against) -> None:
    """A keep-alive comment of the server calls the follower with no data."""
    client, _ = against(log_server(lambda _: None))
    looks: list[object] = []
    list(client.control.logs.follow(RUN.id, LogQuery(("output",)), looks.append))
    assert looks == [()] * 4


@pytest.mark.parametrize("data", ["{", "[]", "{}", '{"attempt": 1, "stream": "x", "offset": 0, "base64": "?"}', "null"])
def test_invalid_event_ends_the_log_with_one_line(against: Against, data: str) -> None:
    """An invalid event ends the log with one line, not with a traceback."""
    said = Said(f"event: log\nid: 1\ndata: {data}\n\n".encode(), kind=EVENTS)
    client, _ = against(lambda asked: said if EVENTS in asked.headers["Accept"] else record(FOUND))
    with pytest.raises(Invalid, match="check PROVISION_URL"):
        list(client.control.logs.follow(RUN.id, LogQuery(("output",))))


@given(st.lists(st.integers(0, 400), max_size=30))
def test_events_come_in_any_pieces(cuts: list[int]) -> None:
    """The network may cut the bytes of events anywhere."""
    whole = b"".join(told(piece, id) for id, piece in enumerate(PIECES))
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(edges)]
    found = [event for event in events(iter(pieces)) if event]
    assert [(event.name, event.id) for event in found] == [("log", str(id)) for id in range(len(PIECES))]
    assert all(isinstance(event, Event) and event.data.startswith("{") for event in found)


# TLS


def test_untrusted_certificate_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are checked against the system's authorities or SSL_CERT_FILE; nothing is sent to other servers."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Stranger(lambda _: record(JOBS), tls) as server:
        client = Client(server.url)
        with pytest.raises(Invalid, match="SSL_CERT_FILE"):
            client.control.jobs.all()
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = Client(server.url)
        assert trusting.control.jobs.all() == (JOB,)
        client.control.close()
        trusting.control.close()


def test_a_server_without_tls(against: Against) -> None:
    """https to a server that speaks only http is a one-line error."""
    _, server = against(lambda _: record(Jobs(())))
    client = Client(server.url.replace("http", "https"))
    with pytest.raises(errors.Transient, match="TLS handshake"):
        client.control.jobs.all()
    client.control.close()
