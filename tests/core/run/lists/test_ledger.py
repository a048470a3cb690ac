"""The working copy of a list within one transaction."""

import pytest

from provisioner.core.commands.blocks import CommandState, WrongChange
from provisioner.core.commands.records import Block
from provisioner.core.run.lists.ledger import Ledger
from provisioner.core.run.records import Live
from tests.support.lists import NODE, a_list, batch, handed_out, worker


def test_nothing_is_saved_if_nothing_changed() -> None:
    assert handed_out(12, 4).ledger().changed() == []


def test_commands_are_handed_out_in_their_order() -> None:
    """All commands from the list's `next` on are fresh, so no index may be left out."""
    ledger = Ledger(a_list(), [], [], [])
    with pytest.raises(WrongChange, match="not the next one: 0"):
        ledger.hand_out(1)


def test_state_and_counters_move_together() -> None:
    ledger = Ledger(a_list(), [], [], [])
    for index in range(3):
        ledger.hand_out(index)
    ledger.take_back(0)
    ledger.end(1, CommandState.FAILED)
    found = ledger.commands
    assert (found.next, found.waiting, found.out, found.failed, found.retried) == (3, 1, 1, 1, 1)
    assert (found.open, found.ended, found.remaining) == (11, 1, 10)
    commands, block = ledger.changed()
    assert commands == found
    assert isinstance(block, Block)


def test_several_commands_move_together_with_their_counters() -> None:
    ledger = Ledger(a_list(), [], [], [])
    ledger.hand_out(0, 7)
    ledger.end(1, CommandState.SUCCEEDED, 2)
    ledger.give_back(5, 2)
    ledger.take_back(0)
    found = ledger.commands
    assert (found.next, found.waiting, found.out, found.succeeded, found.retried) == (7, 3, 2, 2, 1)
    ledger.end(7, CommandState.NOT_RUN, 5)
    assert (ledger.commands.next, ledger.commands.not_run, ledger.commands.open) == (12, 5, 5)


def test_those_of_several_commands_that_are_to_be_stopped_are_cancelled() -> None:
    ledger = Ledger(a_list(stops=(8, 4, 1)), [], [], [])
    ledger.hand_out(0, 8)
    ledger.take_back(0, 4)
    ledger.give_back(4, 3)
    states = [ledger.blocks.state(index).name for index in range(9)]
    assert states == ["WAITING", "CANCELLED", *["WAITING"] * 2, "CANCELLED", *["WAITING"] * 2, "OUT", "FRESH"]
    assert [ledger.blocks.generation(index) for index in (0, 3, 5)] == [2, 2, 1]
    assert (ledger.commands.stops, ledger.commands.retried, ledger.commands.waiting) == ((8,), 3, 5)
    ledger.end(7, CommandState.SUCCEEDED)
    assert ledger.commands.stops == (8,)


def test_fresh_commands_and_others_do_not_change_together() -> None:
    ledger = Ledger(a_list(), [], [], [])
    ledger.hand_out(0, 2)
    ledger.give_back(1)
    with pytest.raises(WrongChange, match="command 1 is not the next one: 2"):
        ledger.hand_out(1, 4)


def test_a_list_with_open_commands_is_not_sealed() -> None:
    with pytest.raises(WrongChange, match="open commands"):
        Ledger(a_list(), [], [], []).seal(1.0)


def test_each_changed_record_is_saved_once() -> None:
    """Several functions change one worker in one transaction."""
    ledger = Ledger(a_list(), [worker()], [batch((0, 2, 1))], [])
    ledger.put(ledger.workers[NODE], ended=1)
    ledger.put(ledger.workers[NODE], failed=1)
    assert ledger.changed() == [worker(ended=1, failed=1)]


def test_the_ledger_of_a_run_has_its_records_alone() -> None:
    workers, batches = (worker(), worker("r2.1.0")), (batch((0, 2, 1)), batch((0, 2, 1), node="r2.1.0", run="r2"))
    live = Live((), (), (), (), (), (), lists=(a_list(),), workers=workers, batches=batches)
    ledger = Ledger.of(live, "r1")
    assert (list(ledger.workers.values()), list(ledger.batches.values())) == ([workers[0]], [batches[0]])
    with pytest.raises(KeyError):
        Ledger.of(live, "r3")
