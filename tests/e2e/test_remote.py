"""Commands as clients of a server, in separate processes, while the server is restarted and killed."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provisioner.core.run.states import State
from tests.e2e.commands import Command, settings_file
from tests.e2e.rig import Rig, rig
from tests.ports import free_ports


class Served:
    """An installation whose server is stopped and restarted at the same port."""

    def __init__(self, whole: Rig, folder: Path, stack: ExitStack) -> None:
        self.whole = whole
        self.folder = folder
        self.stack = stack
        self.port = free_ports(1)[0]
        made = whole.service.tokens.create(["tester"], admin=False)
        self.environment = {"PROVISION_URL": f"http://127.0.0.1:{self.port}", "PROVISION_TOKEN": made.token}
        self.server = self.serve()

    def serve(self) -> Command:
        settings = {"PROVISION_SETTINGS": str(settings_file(self.whole))}
        words = ("serve", "--port", str(self.port))
        self.server = self.stack.enter_context(Command(self.folder / "server", *words, environment=settings))
        self.server.until(lambda: "listening at" in self.server.err and self.whole.service.operator.served())
        return self.server

    def client(self, *words: str) -> Command:
        return self.stack.enter_context(Command(self.folder / "client", *words, environment=self.environment))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with rig(tmp_path / "rig", monkeypatch) as whole, ExitStack() as stack:
        yield Served(whole, tmp_path, stack)


def until(file: Path) -> str:
    """Return a job's command that waits for a file."""
    return f"until [ -e {file} ]; do sleep 0.1; done"


def until_told(client: Command, text: str, times: int = 1) -> None:
    client.until(lambda: client.err.count(text) >= times)


def test_a_client_outlives_its_server(served: Served, tmp_path: Path) -> None:
    """`start --wait` and `logs -f` continue after the server was killed and after it was stopped, and miss no byte."""
    command = f"for i in 1 2 3; do echo $i; {until(tmp_path / '$i')}; done; exit 4"
    run = served.whole.start(command, name="outlived")
    wait, logs = served.client("start", "outlived", "--wait"), served.client("logs", run.id, "-f")
    plain = served.client("wait", run.id)
    logs.until(lambda: logs.out == b"1\n")
    wait.until(lambda: "running" in wait.err)
    started = wait.out.decode().strip()
    clients = (wait, logs, plain)
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        served.server.signal(end)
        served.server.ended()
        for client in clients:
            until_told(client, "retrying for", number)
        # Both runs continue while there is no server.
        (tmp_path / str(number)).touch()
        served.serve()
        for client in clients:
            until_told(client, "available again", number)
    (tmp_path / "3").touch()
    for client in clients:
        assert client.ended() == (0 if client is logs else 4), client.err
        # Each line is printed once per outage, without a traceback.
        assert client.err.count("retrying for") == 2, client.err
        assert client.err.count("available again") == 2
        assert "Traceback" not in client.err
    assert logs.out == b"1\n2\n3\n"
    assert plain.last_line.endswith("failed: the command exited with 4 (exit code 4)")
    assert [each.idempotency_key for each in served.whole.service.runs.records()].count("") == 1
    assert len(served.whole.service.runs.records()) == 2
    assert served.whole.log(served.whole.service.runs.record(started)) == b"1\n2\n3\n"


def test_ctrl_c_ends_at_once(served: Served, tmp_path: Path) -> None:
    """With the server and during its outage, Ctrl-C exits with 130 and a hint."""
    run = served.whole.start(until(tmp_path / "go"), name="detached")
    clients = [served.client("wait", run.id), served.client("logs", run.id, "-f"), served.client("wait", run.id)]
    for client in clients:
        until_told(client, "running")
    clients[0].signal(signal.SIGINT)
    assert clients[0].ended() == 130
    served.server.signal(signal.SIGKILL)
    served.server.ended()
    # The first command retries for ten seconds, the others for minutes.
    for client in (served.client("runs"), *clients[1:]):
        until_told(client, "retrying for")
        client.signal(signal.SIGINT)
        assert client.ended() == 130
        assert "Traceback" not in client.err
    assert all(f"provision wait {run.id[:12]}" in client.last_line for client in clients[:3])
    served.serve()
    assert served.whole.service.runs.record(run.id).state is State.RUNNING
    (tmp_path / "go").touch()
    assert served.client("wait", run.id).ended() == 0
