"""A list of commands in a container, whose processes the agent sees from outside."""

from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.ports.control.lists import CommandFilter
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.rig import rig
from tests.engine import engine, shell_tree

pytestmark = pytest.mark.docker


def test_commands_of_a_container_have_their_own_ends_and_leave_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that a command leaves behind becomes a child of the container's init, and is killed."""
    with engine() as made:
        monkeypatch.setenv("DOCKER_HOST", made.host)
        image = made.publish("shell", shell_tree(tmp_path / "tree"), "ENV PATH=/bin")
        host = LightHost(tmp_path / "machines", docker=True, environment=lambda _: {"PROVISION_NOTICE_INTERVAL": "1"})
        with rig(tmp_path / "rig", monkeypatch, host=host, rehearsal={"engine": "container"}) as whole:
            noise = "(while :; do echo noise; sleep 0.1; done &)"
            commands = [
                "echo first; exit 3",
                f"{noise}; sleep 0.5; echo left",
                "sleep 1; echo later",
                "kill -9 $PPID; sleep 60",
            ]
            run = whole.start([*commands, "echo last"], image=image, nprocs=1)
            [done] = whole.done(run)
            assert done.verdict
            assert done.verdict.outcome is Outcome.FAILED, done.verdict
            page = whole.service.commands.page(run.id, CommandFilter())
            assert [each.exit_code for each in page.commands] == [3, 0, 0, 137, 0]
            outputs = [b"".join(whole.service.commands.output(run.id, index)) for index in range(5)]
            assert outputs[1].replace(b"noise\n", b"") == b"left\n"
            assert [outputs[index] for index in (0, 2, 3, 4)] == [b"first\n", b"later\n", b"", b"last\n"]
