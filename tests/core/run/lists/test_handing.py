"""Which machine gets which commands."""

import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.commands.blocks import CommandState, Count
from provisioner.core.commands.records import CommandList
from provisioner.core.protocol.messages import ListReport, Notice, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.lists.dying import ALONE_AFTER
from provisioner.core.run.lists.handing import AHEAD, BATCH_MOST, RANGES_MOST, fresh_blocks, hand_out, wanted
from provisioner.core.run.records import Node, Verdict
from provisioner.core.run.states import State
from tests.support.lists import NODE, Kept, a_list, batch, handed_out, worker
from tests.support.samples import NOW, at_work, node, report, result

LONG = CommandList("r1", 1_000_000)
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)


def want(commands: CommandList = LONG, made: Node | None = None, out: int = 0, **fields: Any) -> int:
    """Return how many commands a node with `out` commands gets."""
    batches = [batch((0, out, 1))] if out else []
    nodes = {NODE: made or node()}
    return wanted(at_work(), commands, [worker(**fields)], batches, nodes).get(NODE, 0)


def test_a_machine_gets_twice_as_many_commands_as_it_runs_at_once() -> None:
    """They wait in its mailbox when it is ready; how long they take is not known."""
    assert want(slots=4) == 8
    assert want(slots=4, out=8) == 0


def test_a_machine_has_work_for_minutes_once_the_lengths_are_known() -> None:
    assert want(slots=4, rate=2.0) == 2 * AHEAD
    assert want(slots=4, rate=2.0, out=500) == 0
    assert want(slots=4, rate=2.0, out=330) == 330
    assert want(slots=4, rate=0.001) == 8, "long commands"


def test_a_batch_and_the_list_have_an_end() -> None:
    assert want(slots=4, rate=1000.0) == BATCH_MOST
    assert want(a_list(12, next=10, waiting=1), slots=4) == 3
    assert want(a_list(12, next=12), slots=4) == 0


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(node(work_put_at=None), id="no work order"),
        pytest.param(node(verdict=Verdict(Outcome.LOST, "", NOW)), id="a verdict"),
        pytest.param(node(result=result(Outcome.SUCCEEDED)), id="a result"),
        pytest.param(node(report=report(Step.LOGS, finished=True)), id="finished"),
        pytest.param(node(report=report(Step.COMMAND, notice=Notice(NOW, NOW))), id="a spot notice"),
    ],
)
def test_a_machine_that_begins_nothing_more_gets_nothing(made: Node) -> None:
    assert want(made=made) == 0
    assert want(made=node(report=report(Step.COMMAND))) == 4


def test_a_closed_worker_gets_nothing() -> None:
    """What it had waits for another machine."""
    assert want(closed_at=NOW) == 0


def test_a_machine_with_a_command_that_must_run_alone_gets_no_other() -> None:
    alone = batch((0, 1, 3), alone=True)
    nodes = {NODE: node()}
    assert wanted(at_work(), LONG, [worker()], [alone], nodes) == {}
    assert wanted(at_work(), LONG, [worker()], [replace(alone, alone=False)], nodes) == {NODE: 3}


def test_a_command_that_must_run_alone_waits_for_a_machine_without_commands() -> None:
    kept = handed_out(3, 3)
    ledger = kept.ledger()
    for _ in range(ALONE_AFTER):
        ledger.blocks.add(0, Count.DEATHS)
    ledger.take_back(0)
    assert hand_out(ledger, {NODE: 5}) == []
    ledger.put(ledger.batches[f"{NODE}.1"], closed_at=NOW)
    (made,) = hand_out(ledger, {NODE: 5})
    assert (made.ranges, made.alone, made.left) == (((0, 1, 2),), True, 1)


def test_a_node_of_another_run_gets_nothing() -> None:
    assert wanted(at_work(), LONG, [worker()], [], {}) == {}


@pytest.mark.parametrize("state", State)
def test_commands_are_handed_out_while_the_run_has_a_machine_at_work(state: State) -> None:
    """Not after the verdict, and not after an order to stop."""
    busy = state in (State.BOOTING, State.PREPARING, State.RUNNING)
    assert bool(wanted(at_work(state), LONG, [worker()], [], {NODE: node()})) == busy
    for stopped in ({"stop": STOP}, {"ranks_stop": STOP}):
        assert wanted(at_work(state, **stopped), LONG, [worker()], [], {NODE: node()}) == {}


def test_machines_share_what_is_left() -> None:
    """Each gets at least a command for each slot, and otherwise a part of the rest."""
    workers = [worker(f"r1.1.{rank}", slots=4) for rank in range(3)]
    nodes = {each.id: node(id=each.id) for each in workers}
    assert wanted(at_work(), a_list(12), workers, [], nodes) == {"r1.1.0": 4, "r1.1.1": 4, "r1.1.2": 4}
    assert wanted(at_work(), a_list(6), workers, [], nodes) == {"r1.1.0": 4, "r1.1.1": 2}
    fast = [replace(each, rate=100.0) for each in workers]
    assert wanted(at_work(), a_list(12_000), fast, [], nodes) == dict.fromkeys(nodes, 4000)


def test_a_fast_machine_has_a_larger_part_of_what_is_left() -> None:
    """Then a slow one does not work alone at the end, and fewer commands are recalled."""
    workers = [worker("r1.1.0", rate=100.0), worker("r1.1.1", rate=50.0), worker("r1.1.2")]
    nodes = {each.id: node(id=each.id) for each in workers}
    assert wanted(at_work(), a_list(9000), workers, [], nodes) == {"r1.1.2": 4, "r1.1.0": 4000, "r1.1.1": 2000}


def test_a_machine_with_its_part_gets_more_when_half_of_it_has_ended() -> None:
    """Each batch costs several requests. Recalled commands go to the machine that has none."""
    workers = [worker(f"r1.1.{rank}", rate=100.0) for rank in range(2)]
    nodes = {each.id: node(id=each.id) for each in workers}
    commands = a_list(9000, next=9000, waiting=3000)
    out = [batch((0, 6000, 1), node="r1.1.0")]
    assert wanted(at_work(), commands, workers, out, nodes) == {"r1.1.1": 3000}
    assert wanted(at_work(), a_list(9000, next=4501), workers[:1], [batch((0, 4501, 1))], nodes) == {}
    assert wanted(at_work(), a_list(9000, next=4500), workers[:1], [batch((0, 4500, 1))], nodes) == {NODE: 4500}


def test_a_free_slot_gets_a_command() -> None:
    out = [batch((0, 3, 1))]
    assert wanted(at_work(), a_list(4, next=3), [worker(slots=4)], out, {NODE: node()}) == {NODE: 1}


def test_the_part_of_a_machine_that_boots_is_left_for_it() -> None:
    workers = [worker("r1.1.0", slots=4, rate=100.0), worker("r1.1.1", slots=4)]
    nodes = {"r1.1.0": node(id="r1.1.0"), "r1.1.1": node(id="r1.1.1", rank=1)}
    assert wanted(at_work(), a_list(12_000), workers, [], nodes) == {"r1.1.0": 6000}
    assert wanted(at_work(), a_list(1200), workers, [], nodes) == {"r1.1.0": 1000}, "work for ten seconds"


def test_an_idle_machine_comes_first() -> None:
    workers = [worker(f"r1.1.{rank}", slots=4) for rank in range(2)]
    nodes = {each.id: node(id=each.id) for each in workers}
    commands = a_list(12, next=12, waiting=1)
    assert wanted(at_work(), commands, workers, [batch((0, 4, 1), node="r1.1.0")], nodes) == {"r1.1.1": 1}


def test_a_machine_that_joins_gets_commands_when_it_can_begin_them() -> None:
    """Others may run them sooner."""
    second = worker("r1.1.1", slots=4)
    booting, ready = node(id="r1.1.1", rank=1), replace(report(Step.COMMAND), commands=ListReport())
    assert wanted(at_work(), LONG, [second], [], {second.id: booting}) == {}
    assert wanted(at_work(), LONG, [second], [], {second.id: replace(booting, report=ready)}) == {second.id: 8}


def test_a_released_machine_gets_nothing() -> None:
    assert want(released_at=NOW) == 0


def test_a_batch_has_the_next_commands() -> None:
    kept = handed_out(12, 4, 3)
    first, second = kept.batches.values()
    assert (first.id, first.number, first.ranges, first.left, first.box) == (
        f"{NODE}.1",
        1,
        ((0, 4, 1),),
        4,
        f"A:{NODE}",
    )
    assert (second.id, second.number, second.ranges, second.put_at) == (f"{NODE}.2", 2, ((4, 3, 1),), None)
    assert (kept.workers[NODE].batches, kept.commands.next) == (2, 7)


def test_at_the_end_of_the_list_a_batch_is_smaller_and_then_none() -> None:
    kept = handed_out(12, 9, 9, 9)
    assert [each.ranges for each in kept.batches.values()] == [((0, 9, 1),), ((9, 3, 1),)]
    assert kept.workers[NODE].batches == 2


def test_a_batch_has_a_bounded_number_of_commands() -> None:
    kept = Kept(CommandList("r1", BATCH_MOST + 5))
    kept.add(worker())
    ledger = kept.ledger()
    (made,) = hand_out(ledger, {NODE: BATCH_MOST + 3})
    assert made.left == BATCH_MOST


def with_waiting(total: int, *waiting: int) -> Kept:
    """Return a list whose first machine had all commands and was lost after it ended all but these."""
    kept = handed_out(total, total)
    ledger = kept.ledger()
    for index in range(total):
        if index in waiting:
            ledger.take_back(index)
        else:
            ledger.end(index, CommandState.SUCCEEDED)
    ledger.put(ledger.batches[f"{NODE}.1"], left=0, closed_at=NOW)
    kept.save(ledger)
    kept.add(worker("r1.2.0"))
    return kept


def test_waiting_commands_come_first() -> None:
    """They were begun once; the fresh ones follow in the same batch."""
    kept = with_waiting(8, 1, 2, 6)
    kept.commands = replace(kept.commands, total=12)
    # The last block was stored with the old length.
    block = kept.blocks["r1.000001"]
    kept.blocks["r1.000001"] = replace(block, states=_padded(block.states), generations=_padded(block.generations))
    ledger = kept.ledger()
    (made,) = hand_out(ledger, {"r1.2.0": 5})
    assert made.ranges == ((1, 2, 2), (6, 1, 2), (8, 2, 1))
    kept.save(ledger)
    assert (kept.commands.waiting, kept.commands.next) == (0, 10)


def _padded(packed: bytes) -> bytes:
    return zlib.compress(zlib.decompress(packed).ljust(5, b"\0"))


def test_a_part_of_the_waiting_commands_is_handed_out() -> None:
    kept = with_waiting(8, 1, 2, 3)
    ledger = kept.ledger()
    assert [each.ranges for each in hand_out(ledger, {"r1.2.0": 2})] == [((1, 2, 2),)]
    kept.save(ledger)
    assert kept.commands.waiting == 1


def test_scattered_commands_fill_several_batches() -> None:
    """The head of a batch is bounded, and so is the time to find a command in it."""
    several = range(0, 2 * RANGES_MOST + 100, 2)
    kept = with_waiting(2 * RANGES_MOST + 100, *several)
    ledger = kept.ledger()
    (made,) = hand_out(ledger, {"r1.2.0": 5000})
    assert len(made.ranges) <= RANGES_MOST
    kept.save(ledger)
    assert kept.commands.waiting == len(several) - made.left


@given(st.lists(st.integers(1, 6), max_size=6), st.integers(1, 30))
def test_no_command_is_in_two_batches(sizes: list[int], total: int) -> None:
    kept = handed_out(total, *sizes)
    found = [first + each for one in kept.batches.values() for first, count, _ in one.ranges for each in range(count)]
    assert found == list(range(min(total, sum(sizes))))


def test_the_blocks_of_the_next_commands_are_named() -> None:
    assert list(fresh_blocks(a_list(12), 5)) == [0]
    assert list(fresh_blocks(a_list(12, next=4), 2)) == [0, 1]
    assert list(fresh_blocks(a_list(12, next=5), 100)) == [1, 2]
