"""Followed logs over a real server, from real agents."""

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.faces.api.http import connections
from tests.api.events import Event, events, text
from tests.api.served import Server
from tests.e2e.rig import Rig, rig
from tests.polling import until

STEPS = 4
#: A command that prints a line, and the next one when a file exists.
TALKATIVE = f"""
for step in $(seq {STEPS}); do
    echo "line $step"
    while [ ! -e "$GO/$step" ]; do sleep 0.05; done
done
"""
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("stream")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch) as whole:
        yield whole


@pytest.fixture
def server(whole: Rig) -> Iterator[Server]:
    with Server(whole.settings) as server:
        yield server


@pytest.fixture
def talking(whole: Rig, tmp_path: Path) -> Iterator[str]:
    """Yield a run that continues when the test creates files."""
    yield whole.start(TALKATIVE, env={"GO": str(tmp_path)}).id
    go(tmp_path, STEPS)


def go(folder: Path, steps: int) -> None:
    for step in range(1, steps + 1):
        (folder / str(step)).touch()


def test_follower_gets_each_byte_once_and_an_end_event(server: Server, talking: str, tmp_path: Path) -> None:
    """Events arrive while the log is written. The id of an event is the log position after it."""
    with (
        server.client(server.token("tester")) as client,
        client.stream("GET", f"/api/runs/{talking}/logs", headers=EVENTS) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: list[Event] = []
        for event in events(answer.iter_lines()):
            found.append(event)
            go(tmp_path, len(found))
    assert text(found) == "".join(f"line {step}\n" for step in range(1, STEPS + 1))
    assert [event.name for event in found].count("end") == 1
    assert found[-1].data["outcome"] == "succeeded"
    assert len({event.id for event in found[:-1]}) == len(found) - 1


def test_a_follower_goes_on_to_the_byte_after_the_server_came_again(whole: Rig, talking: str, tmp_path: Path) -> None:
    """The position is in the event's id, not in the server, so another process can continue."""
    with Server(whole.settings) as first:
        token = first.token("tester")
        with first.client(token) as client, client.stream("GET", f"/api/runs/{talking}/logs", headers=EVENTS) as answer:
            before = list(itertools.islice(events(answer.iter_lines()), 1))
    go(tmp_path, STEPS)
    with Server(whole.settings) as second, second.client(token) as client:
        headers = {**EVENTS, "Last-Event-ID": before[-1].id}
        with client.stream("GET", f"/api/runs/{talking}/logs", headers=headers) as answer:
            after = list(events(answer.iter_lines()))
    assert text([*before, *after]) == "".join(f"line {step}\n" for step in range(1, STEPS + 1))
    assert after[-1].name == "end"


def test_a_follower_hears_the_end_of_the_answer_when_the_server_ends(whole: Rig, talking: str) -> None:
    """The answer ends without an `end` event, so the client reconnects and continues."""
    with (
        Server(whole.settings) as server,
        server.client(server.token("tester")) as client,
        client.stream("GET", f"/api/runs/{talking}/logs", headers=EVENTS) as answer,
    ):
        found = events(answer.iter_lines())
        assert next(found).name == "log"
        server.stop()
        assert [event.name for event in found if event.name != "log"] == []


def test_a_client_that_vanishes_is_noticed(server: Server, talking: str) -> None:
    """The server notices at once and drops the follower."""
    with server.client(server.token("tester")) as client:
        with client.stream("GET", f"/api/runs/{talking}/logs", headers=EVENTS) as answer:
            # Keep a reference: a collected generator would close the connection.
            found = events(answer.iter_lines())
            next(found)
            assert server.hub.followers == 1
        until(lambda: server.hub.followers == 0, "a hub without followers")


def test_client_that_reads_nothing_is_disconnected(whole: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is longer than the kernel's buffers. Follower and connection are both removed."""
    monkeypatch.setattr(connections, "PATIENCE", 1)
    (run,) = whole.done(whole.start("seq 1000000000 | head -c 30000000"))
    with Server(whole.settings, acting=False) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.connect(("127.0.0.1", server.port))
        head = f"GET /api/runs/{run.id}/logs HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
        client.sendall(f"{head}Authorization: Bearer {server.token('tester')}\r\n\r\n".encode())
        assert client.recv(1)
        assert (server.hub.followers, server.connections) == (1, 1)
        until(lambda: (server.hub.followers, server.connections) == (0, 0), "a server without clients")


def test_pages_give_the_same_bytes(server: Server, talking: str, tmp_path: Path) -> None:
    """Each page continues after the previous one, and the last has `next` null."""
    go(tmp_path, STEPS)
    with server.client(server.token("tester")) as client:
        until(lambda: client.get(f"/api/runs/{talking}").json()["run"]["done_at"], "a run that is done")
        pieces, cursor = [], ""
        for _ in range(100):
            page = client.get(f"/api/runs/{talking}/logs", params={"cursor": cursor, "stream": "output"}).json()
            pieces += page["pieces"]
            if page["next"] is None:
                break
            cursor = page["next"]
        whole = "".join(f"line {step}\n" for step in range(1, STEPS + 1))
        assert "".join(piece["text"] for piece in pieces) == whole
        asked: dict[str, str | int] = {"stream": "output", "attempt": 1, "offset": 5}
        page = client.get(f"/api/runs/{talking}/logs", params=asked).json()
        assert "".join(piece["text"] for piece in page["pieces"]) == whole[5:]
        page = client.get(f"/api/runs/{talking}/logs", params={"stream": "output", "tail": 1}).json()
        assert "".join(piece["text"] for piece in page["pieces"]) == f"line {STEPS}\n"
