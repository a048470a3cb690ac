"""Uploads of lists of commands over HTTP."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from provisioner.adapters.remote.address import address
from provisioner.adapters.remote.control import Remote
from provisioner.adapters.system import RandomIds, SystemClock
from provisioner.core.commands.uploads import MOST_BYTES, PARTS
from provisioner.core.errors import Invalid, LimitReached
from provisioner.core.run.lists import uploading
from provisioner.faces.api.http import connections
from provisioner.faces.api.http.caller import UPLOADS
from provisioner.faces.api.http.guard import LARGEST
from provisioner.faces.api.http.reading import READERS
from provisioner.ports.control.lists import every
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.settings import Limits
from tests.api.conftest import settings
from tests.api.served import Server, recipe
from tests.polling import until

LINES = [f"python infer.py {number}" for number in range(25_000)]
TEXT = "\n".join(LINES).encode()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part have 1,000 commands at most."""
    monkeypatch.setattr(uploading, "PART_COMMANDS", 1000)


@pytest.fixture(scope="module")
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture(scope="module")
def server(bucket: MemoryBucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    told = settings(tmp_path_factory.mktemp("uploads")).model_copy(update={"limits": Limits(stored_mib=2)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with Server(told, acting=False, bucket=bucket) as made:
            made.service.jobs.apply(recipe("train", "ann", command="run {}"), "the test's recipe")
            yield made


@pytest.fixture
def ann(server: Server, bucket: MemoryBucket) -> Iterator[httpx.Client]:
    with server.client(server.token("ann")) as client:
        yield client
    # The limit of an owner's bytes is for each test.
    store = server.service.installation.store
    store.save([replace(run, done_at=1.0) for run in store.live().runs])
    for upload in store.unused_uploads(9e15, 99):
        store.drop_upload(upload.id)
    bucket.objects.clear()


def pieces(text: bytes, size: int = 100_000) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def stored(server: Server, bucket: MemoryBucket) -> int:
    """Return the number of stored parts and uploads."""
    return len([*bucket.list(PARTS)]) + len(server.service.installation.store.unused_uploads(9e15, 99))


def test_a_list_larger_than_other_bodies_is_uploaded_and_started(ann: httpx.Client) -> None:
    text = TEXT + b"\n" + b"true\n" * ((LARGEST - len(TEXT)) // 5)
    answer = ann.post("/api/uploads", content=pieces(text))
    assert answer.status_code == 200, answer.text
    upload = answer.json()
    assert upload == {"id": upload["id"], "commands": text.count(b"\n"), "bytes": len(text)}
    run = ann.post("/api/jobs/train/start", json={"upload": upload["id"]}).json()["run"]
    assert run["commands"]["total"] == text.count(b"\n")
    page = ann.get(f"/api/runs/{run['id']}/commands", params={"cursor": "12344", "limit": 2}).json()
    assert [each["text"] for each in page["commands"]] == LINES[12345:12347]


def test_commands_of_several_lines_end_with_a_nul_byte(ann: httpx.Client) -> None:
    upload = ann.post("/api/uploads", params={"null": "true"}, content=b"a\nb\0c\0").json()
    run = ann.post("/api/jobs/train/start", json={"upload": upload["id"]}).json()["run"]
    page = ann.get(f"/api/runs/{run['id']}/commands").json()
    assert [each["text"] for each in page["commands"]] == ["a\nb", "c"]


def test_wrong_lines_are_named_and_nothing_is_stored(ann: httpx.Client, server: Server, bucket: MemoryBucket) -> None:
    """The connection is kept, although not the whole body was read."""
    for _ in range(2):
        answer = ann.post("/api/uploads", content=pieces(TEXT + b"\n\n-x\n" + TEXT))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
        first, second = answer.json()["message"].splitlines()
        assert first == "line 25001: it is blank; write a command, or leave it out"
        assert second.startswith("line 25002: the shell would read a command that begins with - as an option")
    assert stored(server, bucket) == 0
    assert server.connections == 1


def test_the_rights_and_limits_are_those_of_the_owner(ann: httpx.Client, server: Server, bucket: MemoryBucket) -> None:
    answer = ann.post("/api/uploads", params={"owner": "bob"}, content=TEXT)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    answer = ann.post("/api/uploads", content=pieces(TEXT * 4))
    assert (answer.status_code, answer.json()["detail"]) == (429, {"limit": "limits.stored_mib"})
    assert stored(server, bucket) == 0
    with server.client() as nobody:
        assert nobody.post("/api/uploads", content=TEXT).status_code == 401
    missing = ann.post("/api/jobs/train/start", json={"upload": "0" * 32})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    both = ann.post("/api/jobs/train/start", json={"upload": "0" * 32, "command": "echo"})
    assert "found a command and an upload" in both.json()["message"]


def test_a_body_that_is_said_to_be_too_large_is_refused(ann: httpx.Client, server: Server) -> None:
    """Only uploads may be larger than other bodies, and only if they are posted."""
    head = f"POST /api/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        client.sendall(head.encode())
        found = b""
        while not found.endswith(b"}"):
            found += client.recv(10_000)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert f"the body has more than {MOST_BYTES} bytes".encode() in found
    for method, path in (("PUT", "/api/uploads"), ("POST", "/api/uploads/x"), ("POST", "/api/jobs/train/start")):
        answer = ann.request(method, path, content=b" " * (LARGEST + 1))
        assert (answer.status_code, answer.json()["message"]) == (413, f"the body has more than {LARGEST} bytes")


@contextlib.contextmanager
def begun(server: Server, token: str, text: bytes) -> Iterator[socket.socket]:
    """Yield a connection on which an upload has begun with this text."""
    with socket.socket() as made:
        # Only a bound for broken tests; no test measures this time.
        made.settimeout(20)
        made.connect(("127.0.0.1", server.port))
        head = f"POST /api/uploads HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        made.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(text))
        yield made


def chunk(text: bytes) -> bytes:
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


def opened(server: Server) -> list[connections.Connection]:
    return [each for each in server.front.server_state.connections if isinstance(each, connections.Connection)]


def uploading_at(server: Server, count: int) -> list[connections.Connection]:
    """Return the connections with uploads, as soon as they are so many."""

    def found() -> list[connections.Connection]:
        return [each for each in opened(server) if each.scope and each.scope["state"]]

    until(lambda: len(found()) == count, f"{count} uploads")
    return found()


@pytest.mark.usefixtures("ann")
def test_nothing_is_stored_of_an_upload_whose_client_is_gone(server: Server, bucket: MemoryBucket) -> None:
    """The end of the connection is not the end of the list."""
    with begun(server, server.token("ann"), TEXT):
        until(lambda: stored(server, bucket) > 0, "parts in the bucket")
    until(lambda: stored(server, bucket) == 0 and not opened(server), "the end of the upload")
    assert not [line for line in server.journal.lines if "error" in line]


@pytest.mark.usefixtures("ann")
def test_an_upload_has_the_time_of_a_request_for_each_piece(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a long list may take longer; a client that sends nothing is disconnected."""
    monkeypatch.setattr(connections, "PATIENCE", 3600.0)
    with begun(server, server.token("ann"), b"one\n") as client:
        [connection] = uploading_at(server, 1)
        before = connection.waits_until()
        client.sendall(chunk(b"two\n"))
        until(lambda: connection.waits_until() > before, "a later end of the request")
        monkeypatch.setattr(connections, "PATIENCE", 0.1)
        client.sendall(chunk(b"three\n"))
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1000) == b""


@pytest.mark.usefixtures("ann")
def test_an_upload_that_waits_for_others_is_not_disconnected(server: Server) -> None:
    """The server reads it when another one has ended. Other requests do not wait for uploads."""
    with contextlib.ExitStack() as stack:
        tokens = [server.token(f"owner{number}") for number in range(UPLOADS + READERS)]
        clients = [stack.enter_context(begun(server, token, b"echo 1\n")) for token in tokens[1:]]
        uploading_at(server, len(clients))
        clients.append(stack.enter_context(begun(server, tokens[0], b"echo 2\n" * 100_000)))
        late = uploading_at(server, len(clients))
        until(lambda: any(each.flow.read_paused for each in late), "an upload that is not read")
        [waiting] = [each for each in late if each.flow.read_paused]
        before = waiting.waits_until()
        waiting.loop.call_soon_threadsafe(waiting.late)
        until(lambda: waiting.waits_until() > before, "more patience")
        with server.client(server.token("ann")) as other:
            assert other.get("/api/runs/f00/commands").status_code == 404
        for client in clients:
            client.sendall(b"0\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_server_ends_although_an_upload_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are deleted."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = MemoryBucket()
    with contextlib.ExitStack() as clients:
        with Server(settings(tmp_path), acting=False, bucket=bucket) as server:
            clients.enter_context(begun(server, server.token("ann"), TEXT))
            until(lambda: len([*bucket.list(PARTS)]) > 0, "parts in the bucket")
        until(lambda: [*bucket.list(PARTS)] == [], "the end of the upload")


def remote(server: Server, token: str) -> Remote:
    return Remote(address(server.url, token), SystemClock(), RandomIds(), lambda _: None)


@pytest.mark.usefixtures("ann")
def test_a_remote_client_uploads_a_list(server: Server) -> None:
    """In larger pieces than those that it gets; errors are those of the server."""
    with contextlib.closing(remote(server, server.token("ann"))) as control:
        made = control.uploads.add((f"{line}\n".encode() for line in LINES), "ann")
        assert made.commands == 25_000
        run = control.runs.start("ann/train", {}, upload=made.id)
        assert [each.text for each in every(control.commands, run.id)] == LINES
        with pytest.raises(Invalid, match="line 2: it is blank"):
            control.uploads.add([b"a\n\n" + TEXT])
        with pytest.raises(LimitReached):
            control.uploads.add(pieces(TEXT * 5))
        with pytest.raises(ZeroDivisionError):
            control.uploads.add(b"%d\n" % (1 // number) for number in (1, 0))
        assert control.runs.get(run.id).id == run.id
