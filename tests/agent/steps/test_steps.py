"""Single steps of the agent, with a stub node."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provisioner.agent.logs.mask import Mask
from provisioner.agent.machine.paths import Paths
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.agent.steps import executing, finishing, preparing
from provisioner.core.protocol.messages import Result, Started
from provisioner.core.protocol.words import Outcome, Step

LAUNCHED = 1_800_000_000.0


def node(root: Path, **fields: Any) -> Node:
    """Return a node with only the fields that a step uses."""
    made: dict[str, Any] = {
        "paths": Paths(str(root)),
        "machine": SimpleNamespace(launch_time=LAUNCHED),
        "order": SimpleNamespace(
            run="run-1", attempt=1, rank=0, lifetime=7200.0, runtime_limit=60.0, stop_grace=20.0, pull_limit=60.0
        ),
        "process": "ours",
        "say": lambda _: None,
        "halt": SimpleNamespace(check=lambda _: None, cause=None),
        "remember": lambda: None,
    }
    return cast(Node, SimpleNamespace(**(made | fields)))


def test_the_fuse_burns_for_the_runs_whole_lifetime(tmp_path: Path) -> None:
    """The lifetime includes boot, pull, setup, command and grace: the runtime alone would cut healthy runs short."""
    preparing.swap_fuse(node(tmp_path))
    assert Paths(str(tmp_path)).fuse.read_text() == f"{LAUNCHED + 7200.0:.0f}\n"


@pytest.mark.parametrize("step", [executing.look_for_predecessor, executing.claim])
def test_a_command_that_another_agent_started_is_not_executed(tmp_path: Path, step: Any) -> None:
    """The command may have run already. The agent checks that before its work and again just before the command."""
    theirs = Started("theirs", time.time())
    mailbox = SimpleNamespace(started=lambda: theirs, start=lambda _: theirs)
    with pytest.raises(Ended) as ended:
        step(node(tmp_path, mailbox=mailbox))
    assert (ended.value.outcome, ended.value.step, ended.value.exit_code) == (Outcome.LOST, Step.COMMAND, None)


def test_a_command_that_this_agent_claims_goes_on(tmp_path: Path) -> None:
    """The boot id is stored, so that a restart of the machine is detected."""
    executing.claim(node(tmp_path, mailbox=SimpleNamespace(start=lambda mine: mine)))
    assert Paths(str(tmp_path)).boot.exists()


def test_a_secret_in_the_reason_of_a_result_is_masked(tmp_path: Path) -> None:
    """The reason is stored, shown and archived; an engine's error may quote a variable's value."""
    mask = Mask()
    mask.add([b"hunter2-swordfish"])
    ended = Ended(Outcome.FAILED, Step.SETUP, "cannot exec hunter2-swordfish: no such file", 127)
    remembered: list[object] = []
    made: Node = node(
        tmp_path,
        ended=ended,
        mask=mask,
        spans=dict,
        spool=SimpleNamespace(streams={}),
        notice=None,
        result=None,
        signalled=None,
        remember=lambda: remembered.append(made.result),
    )
    finishing.settle_result(made)
    assert isinstance(made.result, Result)
    assert "swordfish" not in made.result.reason
    assert "no such file" in made.result.reason
    assert remembered == [made.result]


def test_the_last_report_says_that_there_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost report is repeated a few times, not for ever."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said: list[bool] = []
    made: Node

    def report() -> bool:
        said.append(made.finished)
        return False

    made = node(tmp_path, finished=False, report=report)
    finishing.last_report(made)
    assert said == [True] * 3


def test_a_machine_is_left_to_the_cloud_only_within_its_first_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption in the first hour is free; afterwards each second of waiting is billed."""
    clock = [LAUNCHED + 3000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    finishing.hold_for_notice(node(tmp_path, notice=SimpleNamespace(at=LAUNCHED + 3100.0)))
    assert clock[0] == LAUNCHED + 3100.0 + finishing.OVERDUE
    clock[0] = LAUNCHED + 4000.0
    finishing.hold_for_notice(node(tmp_path, notice=SimpleNamespace(at=LAUNCHED + 4100.0)))
    finishing.hold_for_notice(node(tmp_path, notice=None))
    assert clock[0] == LAUNCHED + 4000.0
