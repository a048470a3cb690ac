"""Pull an image from a double of Docker's engine whose answers the test sets."""

import base64
import json
import os
import shutil
import socketserver
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from provisioner.agent.fetch import pull
from provisioner.agent.machine.tools import Tools
from provisioner.agent.outcomes import Cause, Ended, Halt
from provisioner.core.protocol.words import Outcome, Step

DIGEST = "sha256:" + "a" * 64
DONE = ({"status": "Pulling from x"}, {"status": f"Digest: {DIGEST}"}, {"status": "Status: Image is up to date"})


@dataclass
class Engine:
    """A double of Docker's engine. Each request gets the next of `answers`: a status, and the objects of the stream."""

    answers: list[tuple[int, tuple[dict[str, Any], ...]]] = field(default_factory=list)
    #: Method and path of each request; `headers` has the headers of all requests together.
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    #: The engine never ends its streams, so the client must disconnect.
    endless: bool = False
    left: threading.Event = field(default_factory=threading.Event)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client may disconnect early.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    made = Engine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(f"{self.command} {self.path}")
            made.headers.update(self.headers)
            status, events = made.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            for event in events:
                self.wfile.write(json.dumps(event).encode() + b"\r\n")
            if made.endless:
                self.wfile.flush()
                # The client has disconnected.
                assert self.connection.recv(1) == b""
                made.left.set()

        do_POST = do_GET  # noqa: N815 - the name that http.server requires

        def log_message(self, format: str, *args: object) -> None:
            pass

    # A socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="engine."))
    server = _Server(str(folder / "s"), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/s")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
    shutil.rmtree(folder)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tools(said: list[str]) -> Tools:
    return Tools(Step.PULL, Halt(), time.time() + 60, "pull took longer than limits.pull of 1 min", said.append)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses take no time."""
    monkeypatch.setattr(pull, "BUSY_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Tools, "sleep", lambda *_: None)


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("ubuntu", "https://index.docker.io/v1/"),
        ("me/image:1", "https://index.docker.io/v1/"),
        ("docker.io/me/image", "https://index.docker.io/v1/"),
        ("localhost/x", "localhost"),
        ("host:5000/x/y@sha256:0", "host:5000"),
        ("1.dkr.ecr.us-east-1.amazonaws.com/x:1", "1.dkr.ecr.us-east-1.amazonaws.com"),
    ],
)
def test_an_images_registry_is_named_as_docker_does(image: str, registry: str) -> None:
    """The credential is sent for this registry only."""
    assert pull.registry_of(image) == registry


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("ubuntu", ("ubuntu", "latest")),
        ("host:5000/x/y", ("host:5000/x/y", "latest")),
        ("host:5000/x:7", ("host:5000/x", "7")),
        (f"host:5000/x:7@{DIGEST}", ("host:5000/x", DIGEST)),
        (f"x@{DIGEST}", ("x", DIGEST)),
    ],
)
def test_image_reference_is_split_into_name_and_tag_or_digest(image: str, parts: tuple[str, str]) -> None:
    """The digest is used if there is one. A name without a tag must not request every tag."""
    assert pull.split(image) == parts


def test_credential_is_sent_in_the_auth_header_only(engine: Engine, tools: Tools, said: list[str]) -> None:
    """The credential is for the image's own registry; the password may have a colon."""
    engine.answers = [(200, DONE)]
    pull.pull("host:5000/a b;/x", b"me:se:cret", tools, "1.41")
    assert engine.asked == ["POST /v1.41/images/create?fromImage=host%3A5000%2Fa+b%3B%2Fx&tag=latest"]
    header = json.loads(base64.urlsafe_b64decode(engine.headers["X-Registry-Auth"]))
    assert header == {"username": "me", "password": "se:cret", "serveraddress": "host:5000"}
    assert said == [
        "pulling host:5000/a b;/x",
        f"host:5000/a b;/x is {DIGEST}: all layers were on this machine already",
    ]


def test_a_digest_alone_tells_whether_an_image_is_here(engine: Engine, tools: Tools) -> None:
    """A digest names exactly one image, so the image is present if Docker knows the digest."""
    image = f"x@{DIGEST}"
    assert [pull.named_by_digest(name) for name in (image, "x:1", "host:5000/x")] == [True, False, False]
    engine.answers = [(200, ({"Id": "sha256:0"},)), (404, ({"message": "No such image"},))]
    assert [pull.is_here(image, tools, "1.41") for _ in range(2)] == [True, False]
    assert engine.asked == [f"GET /v1.41/images/x%40{DIGEST.replace(':', '%3A')}/json"] * 2


@pytest.mark.usefixtures("hurried")
def test_a_busy_registry_is_waited_out(engine: Engine, tools: Tools, said: list[str]) -> None:
    """Throttling may come before the stream or in it, any number of times; each wait is logged with its cause."""
    engine.answers = [
        (500, ({"message": "toomanyrequests: You have reached your pull rate limit"},)),
        *[(200, ({"errorDetail": {}, "error": "received unexpected HTTP status: 503 Service Unavailable"},))] * 4,
        (200, DONE),
    ]
    pull.pull("x", None, tools, "1.41")
    waits = [line for line in said if "again in" in line]
    assert len(waits) == 5
    assert "toomanyrequests" in waits[0]
    assert "503" in waits[4]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "words", ["429 Too Many Requests: access denied", "denied: toomanyrequests", "rate limit: forbidden"]
)
def test_a_busy_registry_that_speaks_of_denial_is_waited_out(engine: Engine, tools: Tools, words: str) -> None:
    """Registries throttle with messages that look like a denial. A refusal would end a run that a short wait saves."""
    engine.answers = [(500, ({"message": words},)), (200, DONE)]
    pull.pull("x", None, tools, "1.41")
    assert len(engine.asked) == 2


@pytest.mark.usefixtures("hurried")
def test_a_busy_registry_is_waited_for_no_longer_than_the_limit(engine: Engine, said: list[str]) -> None:
    """After the limit the run is lost; the reason has the limit and the registry's message."""
    tools = Tools(Step.PULL, Halt(), time.time() + 0.5, "pull took longer than limits.pull of 1 s", said.append)
    engine.answers = [(500, ({"message": "error parsing HTTP 429 response body: x"},))] * 100000
    with pytest.raises(Ended) as caught:
        pull.pull("x", None, tools, "1.41")
    assert caught.value.outcome is Outcome.LOST
    assert caught.value.reason == (
        "pull took longer than limits.pull of 1 s; the last error was: error parsing HTTP 429 response body: x"
    )


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("words", "outcome", "times"),
    [
        ("manifest for host/x:503 not found: manifest unknown", Outcome.REFUSED, 1),
        ("pull access denied for host/x", Outcome.REFUSED, 1),
        ("unauthorized: authentication required", Outcome.REFUSED, 1),
        ("dial tcp 127.0.0.1:1: connect: connection refused", Outcome.LOST, 3),
        ("write /var/lib/docker/tmp/x: no space left on device", Outcome.LOST, 1),
    ],
)
def test_pull_error_is_refused_or_lost(engine: Engine, tools: Tools, words: str, outcome: Outcome, times: int) -> None:
    """Permanent errors are refused at once, network errors are retried a few times, and a full disk is not retried."""
    engine.answers = [(404, ({"message": words},))] * 9
    with pytest.raises(Ended) as caught:
        pull.pull("host/x:503", None, tools, "1.41")
    assert (caught.value.outcome, len(engine.asked)) == (outcome, times)
    assert words in caught.value.reason


@pytest.mark.usefixtures("hurried")
def test_an_answer_that_breaks_off_is_tried_again(engine: Engine, tools: Tools, said: list[str]) -> None:
    """If the stream ends before it shows the digest, it is unknown whether the image is complete."""
    engine.answers = [(200, DONE[:1]), (200, DONE)]
    pull.pull("x", None, tools, "1.41")
    assert "ended early" in said[1]


@pytest.mark.parametrize("halted", [True, False])
def test_stop_or_limit_ends_a_pull_at_once(engine: Engine, said: list[str], halted: bool) -> None:
    """A stop or a limit ends the pull at once, and the agent disconnects from the engine."""
    halt, limit = Halt(), time.time() + (60 if halted else 0.3)
    engine.answers, engine.endless = [(200, DONE[:1])], True
    if halted:
        halt.ask(Cause(Outcome.CANCELLED, "the user asked", 0.0))
        halt, asked = Halt(), halt.cause
        assert asked
        threading.Timer(0.2, halt.ask, [asked]).start()
    with pytest.raises(Ended) as caught:
        pull.pull("x", None, Tools(Step.PULL, halt, limit, "the limit", said.append), "1.41")
    assert caught.value.outcome is (Outcome.CANCELLED if halted else Outcome.LOST)
    assert engine.left.wait(10)


@pytest.mark.usefixtures("hurried")
def test_without_an_engine_the_run_is_lost(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket has no listener, or DOCKER_HOST is not a Unix socket."""
    for host, words in (("unix:///nowhere", "does not answer"), ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1")):
        monkeypatch.setenv("DOCKER_HOST", host)
        with pytest.raises(Ended, match=words) as caught:
            pull.pull("x", None, tools, "1.41")
        assert caught.value.outcome is Outcome.LOST


def event(status: str, layer: str = "", here: int = 0, whole: int = 0) -> dict[str, Any]:
    return {"status": status, "id": layer, "progressDetail": {"current": here, "total": whole} if whole else {}}


def test_progress_is_summed_over_layers_and_bounded() -> None:
    """A line every few seconds shows bytes, speed and layers, as far as they are known."""
    progress = pull.Progress(100.0)
    for told in (
        event("Already exists", "a"),
        event("Pulling fs layer", "b"),
        event("Pulling fs layer", "c"),
        event("Downloading", "b", 500_000_000, 2_000_000_000),
    ):
        progress.hear(told)
        assert progress.line(104.9) == ""
    assert progress.line(105.0) == "pulled 500.0 MB of at least 2.0 GB, 100.0 MB/s, 1 of 3 layers"
    assert progress.line(105.1) == ""
    progress.hear(event("Downloading", "c", 1_000_000, 2_000_000))
    progress.hear(event("Download complete", "b"))
    assert progress.line(115.0) == "pulled 2.0 GB of 2.0 GB, 150.1 MB/s, 1 of 3 layers"
    progress.hear(event("Verifying Checksum", "c"))
    assert progress.line(120.0) == "pulled 2.0 GB of 2.0 GB, 200 kB/s, 1 of 3 layers"
    progress.hear(event("Extracting", "b", 1, 2_000_000_000))
    progress.hear(event("Pull complete", "b"))
    assert progress.line(125.0) == "pulled 2.0 GB of 2.0 GB, unpacking, 2 of 3 layers"
    assert progress.end(130.0) == "pulled 2.0 GB in 30.0 s"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for doubles of docker, systemctl and journalctl; time passes only in pauses, a second in each."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    moment = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(Tools, "sleep", lambda *_: moment.__setitem__(0, moment[0] + 1.0))
    return tmp_path


def double(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho $* >>{folder}/{name}.calls\n{script}\n")
    (folder / name).chmod(0o755)


#: A daemon that runs once systemd was asked to start it.
STARTED = "[ -e $0.up ] && echo '1.47 27.3' && exit; echo 'Cannot connect to the Docker daemon'; exit 1"


def test_docker_that_does_not_run_is_started(commands: Path, tools: Tools, said: list[str]) -> None:
    """Some AMIs have the service disabled. The call must not wait: the unit has no time limit of its own."""
    double(commands, "docker", STARTED)
    double(commands, "systemctl", f"touch {commands}/docker.up")
    assert pull.engine_version(tools) == "1.47"
    assert (commands / "systemctl.calls").read_text() == "start --no-block docker.service\n"
    assert said[-1] == "docker 27.3"


def test_dead_docker_is_given_up_after_two_minutes(commands: Path, tools: Tools, said: list[str]) -> None:
    """The reason has the unit's state, the log the end of its journal. Other machines of the template are suspect."""
    double(commands, "docker", STARTED)
    double(commands, "journalctl", "echo 'failed to start daemon'")
    double(commands, "systemctl", "case $1 in show) echo ActiveState=failed; echo Result=exit-code ;; esac")
    with pytest.raises(Ended) as caught:
        pull.engine_version(tools)
    ended = caught.value
    assert (ended.outcome, ended.step, ended.unfit) == (Outcome.LOST, Step.BOOT, True)
    assert ended.reason == (
        "Docker did not answer within 120 s: Cannot connect to the Docker daemon (ActiveState=failed, Result=exit-code)"
    )
    assert "docker's journal: failed to start daemon" in said
    assert (commands / "docker.calls").read_text().count("version") == 121
    assert (commands / "systemctl.calls").read_text().count("start") == 4


def test_machine_without_docker_is_given_up_at_once(commands: Path, tools: Tools) -> None:
    double(commands, "docker", "echo 'not found' >&2; exit 127")
    with pytest.raises(Ended) as caught:
        pull.engine_version(tools)
    assert (caught.value.step, caught.value.unfit) == (Step.BOOT, True)
    assert caught.value.reason == "this machine has no container engine: not found"
