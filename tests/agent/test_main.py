"""The agent's two lists of steps: preparing stops at the first end, cleaning up runs every step."""

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from provisioner.agent.main import clean_up, prepare
from provisioner.agent.node import Node
from provisioner.agent.outcomes import Ended
from provisioner.agent.watch import Watch
from provisioner.core.protocol.words import Outcome, Step


@pytest.fixture
def node() -> Node:
    return cast(Node, SimpleNamespace(order=SimpleNamespace(scale=1), step=Step.PULL, ended=None, over=None, done=[]))


def well(node: Node) -> None:
    cast(list[str], node.done).append("well")  # type: ignore[attr-defined]


def badly(node: Node) -> None:
    cast(list[str], node.done).append("badly")  # type: ignore[attr-defined]
    raise RuntimeError("a bug")


def over(_: Node) -> None:
    raise Ended(Outcome.FAILED, Step.COMMAND, "exited with 3", 3)


def test_preparing_stops_at_the_step_that_ends_the_work(node: Node) -> None:
    """The Ended that the step raises has the outcome; no later step runs."""
    prepare(node, [well, over, well])
    assert (node.ended.outcome, node.ended.exit_code) == (Outcome.FAILED, 3)
    assert node.done == ["well"]  # type: ignore[attr-defined]


def test_end_of_one_of_several_ranks_is_reported_at_once(node: Node) -> None:
    """The other ranks cannot wait until its log is shipped; a run with one rank makes no further report."""
    prepare(node, [over])
    assert node.over is None
    reported = threading.Event()
    several = SimpleNamespace(**{**vars(node), "order": SimpleNamespace(scale=2), "changed": reported})
    prepare(cast(Node, several), [over])
    assert several.over is Outcome.FAILED
    assert reported.is_set()


def test_a_bug_in_a_step_loses_the_run_and_leaves_a_reason(node: Node) -> None:
    """Without a result the run would wait for its limits while the machine is billed."""
    prepare(node, [badly, well])
    assert (node.ended.outcome, node.ended.step) == (Outcome.LOST, Step.PULL)
    assert "a bug" in node.ended.reason
    assert node.done == ["badly"]  # type: ignore[attr-defined]


def test_cleaning_up_goes_on_after_a_step_that_fails(node: Node) -> None:
    """The steps that follow put the result and end the machine."""
    clean_up(node, [well, badly, well], cast(Watch, SimpleNamespace(close=lambda: None)))
    assert node.done == ["well", "badly", "well"]  # type: ignore[attr-defined]
