"""The common time at which several ranks get SIGTERM, with a stub node and a clock that only `sleep` advances."""

import time
from types import MethodType, SimpleNamespace
from typing import Any, cast

import pytest

from provisioner.agent.node import Node
from provisioner.agent.outcomes import Halt
from provisioner.agent.watch import (
    BARRIER_INTERVAL,
    BRISK_INTERVAL,
    LATEST_INSTANT,
    ORDERS_INTERVAL,
    RANKS_INTERVAL,
    Watch,
    kill_time,
)
from provisioner.core.protocol.messages import ListWork, Notice, Orders, Span, Stop
from provisioner.core.protocol.words import Outcome, SignalCause, Step

NOW = 1_800_000_000.0
NOTICE = Notice(NOW + 120, NOW)
INTERRUPTED = Stop(Outcome.INTERRUPTED, "EC2 interrupts the machine of rank 1", NOW, NOW + 4, NOW + 100)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the time: only `sleep` advances it."""
    at = [NOW]
    monkeypatch.setattr(time, "time", lambda: at[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: at.__setitem__(0, at[0] + seconds))
    return at


def node(
    scale: int = 2,
    step: Step = Step.COMMAND,
    stop: Stop | None = None,
    commands: ListWork | None = None,
    ahead: float = 0.0,
    **fields: Any,
) -> Node:
    made: dict[str, Any] = {
        "order": SimpleNamespace(scale=scale, attempt=1, stop_grace=30.0, commands=commands),
        "halt": Halt(),
        "step": step,
        "spans": lambda: {step.value: Span(NOW)},
        "mailbox": SimpleNamespace(orders=lambda: Orders(stop)),
        "look_for_notice": lambda: NOTICE,
        "rebalance_at": NOW,
        "job_dir": None,
        "ahead": ahead,
        "say": lambda _: None,
    }
    found = SimpleNamespace(**(made | fields))
    found.paced = MethodType(Node.paced, found)
    return cast(Node, found)


def test_order_with_a_common_instant_waits_for_it(clock: list[float]) -> None:
    """The time of SIGKILL is also the order's, which is calculated from the notice."""
    made = node(stop=INTERRUPTED)
    Watch(made).read_orders()
    assert clock[0] == NOW + 4
    assert made.halt.cause
    assert (made.halt.cause.outcome, made.halt.cause.kill_at) == (Outcome.INTERRUPTED, NOW + 100)
    assert made.halt.cause.signal_cause is SignalCause.NOTICE


def test_instant_that_is_far_away_is_not_waited_for(clock: list[float]) -> None:
    """The clocks of control plane and machine may differ."""
    Watch(node(stop=Stop(Outcome.INTERRUPTED, "", NOW, NOW + 900))).read_orders()
    assert clock[0] == NOW + LATEST_INSTANT


def test_other_orders_to_stop_have_effect_at_once(clock: list[float]) -> None:
    made = node(stop=Stop(Outcome.CANCELLED, "stop requested", NOW))
    Watch(made).read_orders()
    assert clock[0] == NOW
    assert made.halt.cause
    assert made.halt.cause.kill_at == NOW + 30


@pytest.mark.parametrize(
    ("scale", "step", "commands", "interval"),
    [
        (1, Step.COMMAND, None, ORDERS_INTERVAL),
        (2, Step.COMMAND, None, RANKS_INTERVAL),
        (2, Step.BARRIER, None, BARRIER_INTERVAL),
        (2, Step.COMMAND, ListWork(4, 10), ORDERS_INTERVAL),
    ],
)
def test_ranks_that_wait_for_each_other_read_their_orders_more_often(
    scale: int, step: Step, commands: ListWork | None, interval: float
) -> None:
    assert Watch(node(scale, step, commands=commands)).read_orders() == interval


def test_noticed_rank_waits_for_the_common_instant(clock: list[float]) -> None:
    """If no order comes, because the control plane is away, the rank stops alone."""
    made = node()
    Watch(made).react_to_notice()
    assert NOW + LATEST_INSTANT <= clock[0] < NOW + LATEST_INSTANT + 1
    assert made.halt.cause
    assert made.halt.cause.kill_at == kill_time(NOTICE)


def test_noticed_rank_goes_with_the_others(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    made, sleep = node(stop=INTERRUPTED), time.sleep
    watch = Watch(made)

    def told_meanwhile(seconds: float) -> None:
        sleep(seconds)
        if clock[0] > NOW + 1:
            monkeypatch.setattr(time, "sleep", sleep)
            watch.read_orders()

    monkeypatch.setattr(time, "sleep", told_meanwhile)
    watch.react_to_notice()
    assert clock[0] < NOW + 6


@pytest.mark.parametrize(("scale", "step"), [(1, Step.COMMAND), (2, Step.SETUP)])
def test_notice_has_effect_at_once_without_ranks_that_execute(clock: list[float], scale: int, step: Step) -> None:
    made = node(scale, step)
    Watch(made).react_to_notice()
    assert clock[0] == NOW
    assert made.halt.cause


def test_short_notice_leaves_less_time_for_the_common_instant(clock: list[float]) -> None:
    Watch(node(look_for_notice=lambda: Notice(NOW + 24, NOW))).react_to_notice()
    assert clock[0] == pytest.approx(NOW + 3, abs=0.2)


def test_commands_of_a_list_go_on_after_a_notice_until_the_grace_period_begins(clock: list[float]) -> None:
    """What they finish meanwhile need not execute again."""
    made = node(1, commands=ListWork(4, 10))
    watch, asked = Watch(made), []
    for moment in (NOW, kill_time(NOTICE) - 36, kill_time(NOTICE) - 34):
        clock[0] = moment
        watch.react_to_notice()
        asked.append(made.halt.cause and made.halt.cause.kill_at)
    assert asked == [None, None, kill_time(NOTICE)]
    assert clock[0] == kill_time(NOTICE) - 30


def test_agent_that_looks_seldom_sends_sigterm_in_time(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISION_NOTICE_INTERVAL", "600")
    made = node(1, commands=ListWork(4, 10))
    watch = Watch(made)
    clock[0] += watch.react_to_notice()
    watch.react_to_notice()
    assert made.halt.cause
    assert clock[0] == kill_time(NOTICE) - 30


def test_known_notice_holds_while_the_metadata_service_fails(clock: list[float]) -> None:
    def fails() -> Notice:
        raise OSError("timed out")

    made = node(1, commands=ListWork(4, 10), notice=NOTICE, look_for_notice=fails)
    clock[0] = kill_time(NOTICE) - 32
    Watch(made).react_to_notice()
    assert clock[0] == kill_time(NOTICE) - 30
    assert made.halt.cause


def test_notice_during_the_setup_of_a_list_has_effect_at_once() -> None:
    made = node(1, Step.SETUP, commands=ListWork(4, 10))
    Watch(made).react_to_notice()
    assert made.halt.cause


@pytest.mark.parametrize(("ahead", "interval"), [(0.0, ORDERS_INTERVAL), (8.0, 4.0), (99.0, BRISK_INTERVAL)])
def test_machine_with_many_commands_ahead_reads_its_orders_less_often(ahead: float, interval: float) -> None:
    """Each request costs money."""
    assert Watch(node(2, commands=ListWork(4, 10), ahead=ahead)).read_orders() == interval
