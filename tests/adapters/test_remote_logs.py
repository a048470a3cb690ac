"""The remote client follows logs from servers that break off, and checks certificates."""

import itertools
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.adapters.remote.events import Event, events
from provisioner.core import errors
from provisioner.core.errors import Invalid
from provisioner.core.views.codec import to_json
from provisioner.core.views.job import Jobs
from provisioner.ports.control.logs import LogGap, LogPiece, LogQuery, view_of
from tests.adapters.answering import (
    EVENTS,
    FOUND,
    JOB,
    JOBS,
    RUN,
    Against,
    Client,
    record,
)
from tests.adapters.stranger import Answering, Asked, Said, Stranger

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
    """When the server sends a keep-alive comment, the follower is called without data."""
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
