"""The steps of a run with several ranks, with a stub node and a clock that only `sleep` advances."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provisioner.agent.node import Node
from provisioner.agent.outcomes import Cause, Ended, Halt
from provisioner.agent.steps.gathering import meet_peers, wait_for_ranks
from provisioner.core.errors import Invalid
from provisioner.core.protocol.messages import Orders, Peers, Stop
from provisioner.core.protocol.words import Outcome, Step

NOW = 1_800_000_000.0
LIMIT = 30.0
MINE = Peers("run-1", 2, ("10.0.0.1", "10.0.0.2"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the time: only `sleep` advances it."""
    at = [NOW]
    monkeypatch.setattr(time, "time", lambda: at[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: at.__setitem__(0, at[0] + seconds))
    return at


def node(peers: Callable[[], Peers | None] = lambda: None, **fields: Any) -> Node:
    steps: list[str] = []
    made: dict[str, Any] = {
        "order": SimpleNamespace(run="run-1", attempt=2, rank=0, scale=2, gather_limit=LIMIT),
        "peers": (),
        "waited": 0.0,
        "orders": Orders(),
        "halt": Halt(),
        "step": Step.CLONE,
        "steps": steps,
        "mailbox": SimpleNamespace(peers=peers),
        "engine": SimpleNamespace(exit_code=lambda: None),
        "say": lambda _: None,
        "begin": lambda step: steps.append(f"begin {step}"),
        "end": lambda step: steps.append(f"end {step}"),
        "began": lambda _: NOW,
    }
    return cast(Node, SimpleNamespace(**(made | fields)))


def stopping() -> Halt:
    halt = Halt()
    halt.ask(Cause(Outcome.CANCELLED, "rank 1 has ended: failed", NOW + 30))
    return halt


@pytest.mark.usefixtures("clock")
def test_only_rank_waits_for_nobody() -> None:
    alone = node(order=SimpleNamespace(scale=1))
    meet_peers(alone)
    wait_for_ranks(alone)
    assert alone.steps == []  # type: ignore[attr-defined]


def test_addresses_of_another_attempt_are_ignored(clock: list[float]) -> None:
    """The machine may have served an earlier attempt, with other machines."""
    told = iter([None, Peers("run-1", 1, ("10.0.0.9",)), Peers("run-2", 2, ("10.0.0.9",)), MINE])
    made = node(lambda: next(told))
    meet_peers(made)
    assert made.peers == MINE.addresses
    assert clock[0] < NOW + 2


@pytest.mark.usefixtures("clock")
def test_wait_for_addresses_ends_at_the_limit() -> None:
    """Otherwise N machines would idle while the control plane is away."""
    with pytest.raises(Ended, match=r"did not arrive within limits\.gather of 30 s") as ended:
        meet_peers(node())
    assert ended.value.outcome is Outcome.LOST


@pytest.mark.usefixtures("clock")
def test_wait_for_addresses_ends_with_a_stop() -> None:
    with pytest.raises(Ended) as ended:
        meet_peers(node(halt=stopping()))
    assert (ended.value.outcome, ended.value.step) == (Outcome.CANCELLED, Step.CLONE)


@pytest.mark.usefixtures("clock")
def test_unreadable_addresses_lose_the_attempt() -> None:
    def wrong() -> Peers:
        raise Invalid("not a Peers")

    with pytest.raises(Ended, match="cannot be read: not a Peers") as ended:
        meet_peers(node(wrong))
    assert ended.value.outcome is Outcome.LOST


@pytest.mark.usefixtures("clock")
def test_rank_starts_with_the_order_for_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sleep = node(), time.sleep
    told = iter([Orders(start=1), Orders(start=1), Orders(start=2)])

    def next_orders(seconds: float) -> None:
        sleep(seconds)
        made.orders = next(told)

    monkeypatch.setattr(time, "sleep", next_orders)
    wait_for_ranks(made)
    assert made.orders.start == 2
    assert made.steps == ["begin barrier", "end barrier"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("clock")
def test_rank_that_is_told_to_stop_does_not_start() -> None:
    """The orders may contain both: another rank has ended between the two."""
    with pytest.raises(Ended) as ended:
        wait_for_ranks(node(orders=Orders(start=2), halt=stopping()))
    assert ended.value.outcome is Outcome.CANCELLED


@pytest.mark.usefixtures("clock")
def test_order_to_stop_holds_the_start_before_it_takes_effect() -> None:
    """The watcher adds the cause a moment after it has read both orders; until then the rank must not start."""
    both = Orders(Stop(Outcome.CANCELLED, "rank 1 has ended: failed", NOW), start=2)
    made = node(orders=both)
    with pytest.raises(Ended, match="not all ranks were ready"):
        wait_for_ranks(made)


@pytest.mark.usefixtures("clock")
def test_barrier_ends_at_the_limit() -> None:
    with pytest.raises(Ended, match=r"not all ranks were ready within limits\.gather of 30 s") as ended:
        wait_for_ranks(node())
    assert (ended.value.outcome, ended.value.step) == (Outcome.LOST, Step.BARRIER)


def test_limit_is_for_both_waits_together(clock: list[float]) -> None:
    """The machine's lifetime includes it once, and its fuse would end a rank that waits longer."""
    began = clock[0]
    made = node(lambda: MINE if clock[0] >= began + 20 else None)
    meet_peers(made)
    with pytest.raises(Ended, match="not all ranks were ready"):
        wait_for_ranks(made)
    # The stub's barrier begins at NOW.
    assert clock[0] < NOW + LIMIT


@pytest.mark.usefixtures("clock")
def test_rank_whose_container_has_ended_does_not_wait() -> None:
    with pytest.raises(Ended, match="first shell ended") as ended:
        wait_for_ranks(node(engine=SimpleNamespace(exit_code=lambda: 137)))
    assert ended.value.outcome is Outcome.LOST
