"""Jobs in real containers, on a light machine with this computer's dockerd and a registry."""

import base64
import contextlib
import dataclasses
import http.client
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from provisioner.core.protocol import codec, keys
from provisioner.core.protocol.messages import (
    ConfigFile,
    Orders,
    Packages,
    Repository,
    Result,
    Secret,
    Stop,
)
from provisioner.core.protocol.words import Attachment, Outcome, SignalCause, Step
from tests.agent.conftest import Site
from tests.agent.job.conftest import harboured, order
from tests.engine import DockerEngine, engine, shell_tree
from tests.polling import until

pytestmark = pytest.mark.docker


def test_a_job_runs_in_its_image_as_its_user(harbour: Site, tmp_path: Path) -> None:
    """Start script and command share one container and own the working directory."""
    upstream = tmp_path / "upstream"
    identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for args in (["init", "--quiet"], [*identity, "commit", "--quiet", "--allow-empty", "--message=x"]):
        upstream.mkdir(exist_ok=True)
        subprocess.run(["git", *args], cwd=upstream, check=True)
    repository = Repository(f"file://{upstream}", "/home/jovyan/workspace")
    command = 'cat /tmp/made made; id -u; id -g; stat -c %u:%g .; echo "$SECRET"; echo problem >&2; exit 3'
    machine = harbour.run(
        order(
            harbour,
            f"{harbour.registry}/job:1",
            command,
            start_script="echo one >/tmp/made; echo two >made; pwd",
            environment={"SECRET": 'it\'s "x"\n$HOME'},
            repositories=(repository,),
        )
    )
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 3), result.reason
    assert harbour.log(machine, "setup") == b"/home/jovyan/workspace\n"
    assert harbour.log(machine) == b'one\ntwo\n1234\n2345\n1234:2345\nit\'s "x"\n$HOME\nproblem\n'


def test_command_with_an_interpreter_line_runs_under_it_in_its_image(harbour: Site) -> None:
    """The interpreter gets the arguments of the interpreter line and the path of the command's file."""
    command = '#!/bin/busybox awk -f\nBEGIN { print ENVIRON["A"]; exit 7 }\n'
    machine = harbour.run(order(harbour, f"{harbour.registry}/job:1", command, environment={"A": "hello"}))
    assert harbour.result(machine).exit_code == 7
    assert harbour.log(machine) == b"hello\n"


def test_a_stopped_container_may_save_its_work(harbour: Site) -> None:
    """The job in the container gets SIGTERM, and its exit code is reported."""
    command = "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", command))
    harbour.wait_output(machine, b"up")
    harbour.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.CANCELLED, 5), result.reason
    assert harbour.log(machine).endswith(b"saved\n")


SAVE = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"
DONE = "trap ': >\"$PROVISION_DONE_FILE\"; echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"


@pytest.mark.parametrize("image", ["job", "root"])
@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        (SAVE, Outcome.INTERRUPTED),
        (f"exec sh -c {shlex.quote(SAVE)}", Outcome.INTERRUPTED),
        (DONE, Outcome.SUCCEEDED),
    ],
    ids=["plain", "exec", "done"],
)
def test_a_container_that_a_notice_ends_is_interrupted_unless_it_is_done(
    harbour: Site, image: str, command: str, outcome: Outcome
) -> None:
    """The exit code is 0 either way. Only the done file, which the image's user can create, means success."""
    whole = order(harbour, f"{harbour.registry}/{image}:1", command, lifetime=7800.0)
    machine = harbour.start(whole, age=7200)
    harbour.wait_output(machine, b"up")
    harbour.metadata.announce(machine, float(int(time.time()) + 40))
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.signal_cause) == (outcome, SignalCause.NOTICE), result.reason
    assert result.exit_code == 0
    assert harbour.log(machine).endswith(b"saved\n")


def test_a_container_that_reads_the_notice_itself_is_interrupted(harbour: Site) -> None:
    """The command is the container's first process, and ends before the agent reads the notice."""
    command = "echo up; until [ -e on ]; do sleep 0.1; done"
    whole = order(harbour, f"{harbour.registry}/root:1", f"exec sh -c {shlex.quote(command)}", lifetime=7800.0)
    machine = harbour.start(whole, age=7200)
    harbour.wait_output(machine, b"up")
    harbour.metadata.announce(machine, float(int(time.time()) + 120))
    folder = harbour.folder / "machines" / machine / "var/lib/provision/files/home/jovyan/workspace"
    (folder / "on").touch()
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code, result.signal_cause) == (Outcome.INTERRUPTED, 0, SignalCause.NOTICE)


def test_container_of_an_agent_without_root_gets_sigterm_and_grace(
    harbour: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent without root sees no process of the container.

    All processes get SIGTERM, and a process that outlives the shell may save its work.
    """
    # With this user id, the machine boots in its own user namespace, as it does for a user without root.
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    saving = "trap 'sleep 1; echo saved >saved; exit 5' TERM; echo up >up; while :; do sleep 0.1; done"
    command = f'sh -c "{saving}" & until [ -e up ]; do sleep 0.1; done; echo up; wait'
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", command))
    harbour.wait_output(machine, b"up")
    harbour.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))
    saved = harbour.folder / "machines" / machine / "var/lib/provision/files/home/jovyan/workspace/saved"
    until(saved.exists, "what the job saved", lambda: harbour.host.console(machine))
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.CANCELLED, 143), result.reason
    assert b"SIGKILL" not in harbour.log(machine, "system")


def test_container_is_removed_with_its_machine(harbour: Site, made: DockerEngine) -> None:
    """After the machine's power is cut, none of its containers is left on this computer."""
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", "echo up; sleep 1000"))
    harbour.wait_output(machine, b"up")
    harbour.host.end(machine)
    assert made.docker("ps", "--all", "--quiet") == ""


def test_a_container_outlives_its_agent(harbour: Site, made: DockerEngine) -> None:
    """After kill -9 of the agent, its successor waits for the same container; log and exit code are complete."""
    count = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 7"
    machine = harbour.start(order(harbour, f"{harbour.registry}/job:1", count))
    harbour.wait_output(machine, b"\n")
    containers = made.docker("ps", "--quiet")
    harbour.kill_agent(machine)
    assert made.docker("ps", "--quiet") == containers
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 7), result.reason
    assert harbour.whole_log(machine) == b"".join(b"%d\n" % number for number in range(1, 401))


def test_a_container_is_stopped_by_the_next_agent(harbour: Site) -> None:
    """The successor sends SIGTERM, and reports the last output and the exit code."""
    command = "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", command))
    harbour.wait_output(machine, b"up")
    harbour.kill_agent(machine)
    harbour.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.CANCELLED, 5), result.reason
    assert harbour.whole_log(machine).endswith(b"saved\n")


@pytest.mark.parametrize(
    ("words", "outcome", "code", "reason"),
    [
        (["kill"], Outcome.FAILED, 137, "the end of its log may be missing"),
        (["rm", "--force"], Outcome.LOST, None, "the agent died at command, and no process of the command is left"),
    ],
)
def test_container_that_ended_without_an_agent_has_a_reason(
    harbour: Site, made: DockerEngine, words: list[str], outcome: Outcome, code: int | None, reason: str
) -> None:
    """The result has the container's exit code, or none if the container was removed."""
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", "echo up; sleep 1000"))
    harbour.wait_output(machine, b"up")
    os.kill(harbour.agent(machine), signal.SIGSTOP)
    made.docker(*words, made.docker("ps", "--quiet"))
    os.kill(harbour.agent(machine), signal.SIGKILL)
    harbour.wait_off(machine)
    result = harbour.result(machine)
    assert (result.outcome, result.exit_code) == (outcome, code)
    assert reason in result.reason
    assert harbour.whole_log(machine) == b"up\n"


def test_gpus_are_asked_for_when_the_type_has_some(harbour: Site, made: DockerEngine) -> None:
    """The container gets all of the machine's GPUs."""
    machine = harbour.start(order(harbour, f"{harbour.registry}/root:1", "echo up; sleep 1000", gpus=4))
    harbour.wait_output(machine, b"up")
    [container] = made.docker("ps", "--quiet").split()
    assert '"Count":-1' in made.docker("inspect", "--format={{json .HostConfig.DeviceRequests}}", container)
    harbour.host.end(machine)


def test_files_secrets_and_packages_in_an_image(harbour: Site) -> None:
    """The image has only busybox as shell. Files belong to its user. Without root or sudo, apt fails with a reason."""
    made = order(
        harbour,
        f"{harbour.registry}/job:1",
        'cat .config/x key; stat -c "%a %u" .config/x key; df /dev/shm | tail -n 1',
        secrets=(Secret(harbour.parameter("key", "a value"), Attachment.FILE, "workspace/key"),),
        config_files=(ConfigFile("workspace/.config/x", "it's x;", "0640"),),
        shm_size=64 << 20,
    )
    machine = harbour.run(made)
    words = harbour.log(machine).decode().split("\n")
    assert words[0].startswith("it's x;***640 1234"), (words, harbour.result(machine).reason)
    assert words[1] == "600 1234"
    assert words[2].split()[1] == "65536"
    result = harbour.result(harbour.run(dataclasses.replace(made, packages=Packages(("x",)))))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.SETUP, 1), result.reason
    assert "package step (apt)" in result.reason


@pytest.mark.parametrize(
    ("image", "outcome"),
    [("{}/job:2", Outcome.REFUSED), ("{}/other:1", Outcome.REFUSED), ("127.0.0.1:1/x:1", Outcome.LOST)],
)
def test_missing_image_is_refused_and_silent_registry_loses_the_run(
    harbour: Site, image: str, outcome: Outcome
) -> None:
    """The run is refused if the registry has no such image, and lost if no registry answers."""
    machine = harbour.run(order(harbour, image.format(harbour.registry), "echo never"))
    result = harbour.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (outcome, Step.PULL, None), result.reason
    assert harbour.get(keys.started_key(harbour.box(machine))) is None


def test_waiting_machine_executes_the_next_attempt_in_a_new_container(harbour: Site, made: DockerEngine) -> None:
    """The first container and its files are gone before the machine offers itself."""
    command = "ls -A . /tmp; touch left /tmp/left; id -u; test $PROVISION_ATTEMPT = 2"
    # With one rank: not every computer lets a container have the limits of a run with several.
    first = order(harbour, f"{harbour.registry}/job:1", command, waiting_limit=60.0)
    machine = harbour.start(first)
    box = harbour.box(machine)
    until(lambda: any(report.waits for report in harbour.reports(machine)), "the machine's offer")
    assert made.docker("ps", "--all", "--quiet") == ""
    harbour.put(keys.work_key(box, 2), codec.encode(dataclasses.replace(first, attempt=2)))
    harbour.wait_off(machine)
    result = codec.decode(Result, harbour.get(keys.result_key(box, 2)) or b"")
    assert (result.outcome, result.exit_code) == (Outcome.SUCCEEDED, 0), result.reason
    output = b"".join(harbour.get(key) or b"" for key in harbour.keys(keys.log_prefix(box, "output", 2)))
    assert output == harbour.log(machine), "both attempts saw the same files"
    assert b"1234" in output
    assert b"left" not in output


def test_image_present_by_digest_is_not_pulled(harbour: Site, made: DockerEngine) -> None:
    """An image given by digest that the machine has needs no pull step, registry or credential."""
    image = f"{harbour.registry}/root:1"
    made.docker("pull", image)
    digest = made.docker("image", "inspect", "--format", "{{index .RepoDigests 0}}", image)
    machine = harbour.run(order(harbour, digest, "echo here", registry_credential="ssm:/nowhere"))
    result = harbour.result(machine)
    assert (result.outcome, Step.PULL in result.spans) == (Outcome.SUCCEEDED, False), result.reason
    assert f"preloaded: {digest} is on this machine already" in harbour.log(machine, "system").decode()


def test_an_image_that_does_not_fit_loses_the_run(tmp_path: Path, aws_url: str) -> None:
    """The reason says that the disk was full and what to do; a smaller image fits."""
    tree = shell_tree(tmp_path / "tree")
    with (
        engine(disk=160 << 20) as small,
        pytest.MonkeyPatch.context() as patch,
        harboured(tmp_path, aws_url, small) as site,
    ):
        patch.setenv("DOCKER_HOST", small.host)
        first = small.publish("first", tree)
        (tree / "large").write_bytes(os.urandom(100 << 20))
        image = small.publish("second", tree)
        (tree / "large").unlink()
        result = site.result(site.run(order(site, image, "echo never")))
        assert (result.outcome, result.step, result.exit_code) == (Outcome.LOST, Step.PULL, None), result.reason
        assert "no space left on device" in result.reason
        assert "was full" in result.reason
        assert site.result(site.run(order(site, first, "echo fits"))).outcome is Outcome.SUCCEEDED


class _Front(BaseHTTPRequestHandler):
    """A proxy for the registry `upstream`. The first requests for manifests get the statuses of `trouble`."""

    upstream = ""
    trouble: ClassVar[list[int]] = []
    #: The `user:password` that every request must have; empty requires none.
    login = b""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        if base64.b64decode(given) != self.login:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="front"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "/manifests/" in self.path and self.trouble:
            self.send_response(self.trouble.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        host, _, port = self.upstream.partition(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port))) as connection:
            connection.request(self.command, self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
            answer = connection.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def front(site: Site, **fields: object) -> Iterator[str]:
    """Run a `_Front` with these fields; yield the name of an image behind it."""
    handler = type("Handler", (_Front,), {"upstream": site.registry, **fields})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}/root:1"
        finally:
            server.shutdown()


@pytest.mark.parametrize(("value", "outcome"), [("me:se:cret", Outcome.SUCCEEDED), ("me:wrong", Outcome.REFUSED)])
def test_a_private_registry_is_opened_by_its_credential(harbour: Site, value: str, outcome: Outcome) -> None:
    """The engine sends the credential to the registry. A wrong credential is refused and is never logged."""
    with front(harbour, login=b"me:se:cret") as image:
        name = harbour.parameter("registry", value)
        machine = harbour.run(order(harbour, image, "echo fine", registry_credential=name))
    result = harbour.result(machine)
    assert (result.outcome, result.step) == (outcome, Step.PULL if outcome is Outcome.REFUSED else Step.COMMAND)
    assert base64.b64encode(value.encode()) not in harbour.everything_said(machine)


@pytest.mark.parametrize(
    ("trouble", "limit", "outcome", "words"),
    [
        ([429, 503], 60.0, Outcome.SUCCEEDED, "again in"),
        ([429] * 1000, 4.0, Outcome.LOST, "limits.pull of 4 s; the last error was"),
        ([401] * 1000, 60.0, Outcome.REFUSED, "unauthorized"),
    ],
)
def test_registry_errors_are_retried_within_the_pull_limit(
    harbour: Site, trouble: list[int], limit: float, outcome: Outcome, words: str
) -> None:
    """429 and 5xx are retried within limits.pull; 401 is refused at once."""
    with front(harbour, trouble=trouble) as image:
        machine = harbour.run(order(harbour, image, "echo fine", pull_limit=limit))
    result = harbour.result(machine)
    assert result.outcome is outcome, result.reason
    assert words in (harbour.log(machine, "system").decode() if outcome is Outcome.SUCCEEDED else result.reason)
