"""A Docker engine that hangs holds neither the agent nor the job's processes."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.agent.fetch import pull
from provisioner.agent.job import container, processes
from provisioner.agent.job.container import ContainerEngine
from provisioner.agent.machine.tools import Tools
from provisioner.agent.outcomes import Ended, Halt
from provisioner.core.protocol.words import Outcome, Step
from tests.support.work_orders import ORDER

#: Answers questions about the container, and hangs at everything that changes it.
DOCKER = """#!/bin/sh
case "$*" in
*json*) echo '{{"Running": true}}' ;;
inspect*) echo "{pid} id" ;;
*) sleep 600 ;;
esac
"""


@pytest.fixture
def init() -> Iterator[subprocess.Popen[bytes]]:
    """Yield the first process of a container."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: subprocess.Popen[bytes]) -> ContainerEngine:
    (tmp_path / "docker").write_text(DOCKER.format(pid=init.pid))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(container, "CHANGE", 0.5)
    monkeypatch.setattr(processes, "is_in_container", lambda *_: True)
    return ContainerEngine(ORDER, "i-1", tmp_path / "files", tmp_path / "job", lambda _: None)


def test_job_is_killed_by_the_agent_itself(engine: ContainerEngine, init: subprocess.Popen[bytes]) -> None:
    """The kernel ends a container's processes with its first one; Docker is not needed for that."""
    assert engine.adopt()
    assert engine.tree() is not None
    engine.kill()
    assert init.wait(10) == -9


def test_container_that_is_never_created_loses_the_attempt(engine: ContainerEngine) -> None:
    """The reason has the command that hung."""
    with pytest.raises(Ended, match="docker did not end within 0 s") as ended:
        engine.create({})
    assert ended.value.outcome is Outcome.LOST


@pytest.mark.timeout(60)
def test_engine_that_accepts_no_connection_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the queue of its socket is full, the kernel lets a new connection wait for ever."""
    monkeypatch.setattr(pull, "CONNECT", 0.3)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/socket")
    with contextlib.ExitStack() as opened:
        engine = opened.enter_context(socket.socket(socket.AF_UNIX))
        engine.bind(f"{tmp_path}/socket")
        engine.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(f"{tmp_path}/socket")
        tools = Tools(Step.PULL, Halt(), time.time() + 600, "too long", lambda _: None)
        assert not pull.is_here("image", tools, "1.43")
