"""Commands of machines that are over, and the end of a list."""

from typing import Any

import pytest

from provisioner.core.commands.blocks import GENERATION_MOST, CommandState, Count, WrongChange
from provisioner.core.commands.records import Worker
from provisioner.core.protocol.messages import ListReport, Running, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists import closing
from provisioner.core.run.lists.closing import SEAL_MOST, close, may_close, note_listing, seal
from provisioner.core.run.lists.handing import hand_out
from provisioner.core.run.lists.receiving import RECORDS_MOST, take_records
from provisioner.core.run.records import Assignment, Run, Verdict
from provisioner.core.run.states import State
from tests.support.lists import BLOCK_SIZE, NODE, Kept, a_list, handed_out, line, worker
from tests.support.samples import NOW, at_work, held, report, result

OUT, WAITING, NOT_RUN = CommandState.OUT, CommandState.WAITING, CommandState.NOT_RUN
SUCCEEDED, LOST, CANCELLED = CommandState.SUCCEEDED, CommandState.LOST, CommandState.CANCELLED
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
PLAIN = ListOptions()
GONE = held(ended_at=NOW)
DONE = held({"result": result(Outcome.SUCCEEDED)})
ALIVE = held({"report": report(Step.COMMAND)})


def ended(**fields: Any) -> Run:
    return at_work(State.STOPPING, ended_at=NOW, **fields)


def listed(kept: Kept, each: Assignment, sizes: dict[int, int] | None = None, *, whole: bool = True) -> Worker:
    """Note a listing; return the node's worker after it."""
    ledger = kept.ledger()
    note_listing(ledger, each, sizes or {}, whole, NOW)
    kept.save(ledger)
    return kept.workers[each.node.id]


def closed(kept: Kept, each: Assignment = GONE, run: Run | None = None, options: ListOptions = PLAIN) -> Kept:
    """List the inbox of a node and close it."""
    listed(kept, each)
    ledger = kept.ledger()
    close(ledger, each, run or at_work(), NOW, options)
    kept.save(ledger)
    return kept


def sealed(kept: Kept, run: Run) -> Kept:
    ledger = kept.ledger()
    seal(ledger, run, NOW)
    kept.save(ledger)
    return kept


@pytest.mark.parametrize("each", [GONE, DONE], ids=["machine", "result"])
def test_a_listing_after_the_end_lets_a_node_be_closed(each: Assignment) -> None:
    kept = handed_out(12, 4)
    assert not may_close(each, kept.workers[NODE])
    assert listed(kept, each).listed_at == NOW
    assert may_close(each, kept.workers[NODE])


def test_a_listing_before_the_end_proves_nothing() -> None:
    """The machine may write another record after it."""
    kept = handed_out(12, 4)
    assert listed(kept, ALIVE).listed_at is None
    assert not may_close(GONE, kept.workers[NODE])
    assert not may_close(ALIVE, worker(listed_at=NOW)), "a report is no end, whatever was listed"


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(held({"report": report(Step.LOGS, ended=Outcome.SUCCEEDED)}), id="it ships its records"),
        pytest.param(held({"report": report(Step.LOGS, finished=True)}), id="its result was not read"),
        pytest.param(held({"verdict": Verdict(Outcome.LOST, "it is silent", NOW)}), id="a verdict may be presumed"),
    ],
)
def test_signs_that_are_no_end_do_not_close_a_node(each: Assignment) -> None:
    assert listed(handed_out(12, 4), each).listed_at is None


def test_a_listing_that_lacks_objects_proves_nothing() -> None:
    assert listed(handed_out(12, 4), GONE, whole=False).listed_at is None


@pytest.mark.parametrize(
    ("offset", "size", "proves"),
    [
        pytest.param(0, 9, True, id="a recorded chunk"),
        pytest.param(38, RECORDS_MOST, False, id="the next chunk"),
        pytest.param(38, RECORDS_MOST + 1, True, id="a chunk that is too large is never recorded"),
        pytest.param(38, 0, True, id="an empty object is no chunk"),
        pytest.param(99, 9, True, id="a chunk after a gap: what was before it never comes"),
    ],
)
def test_records_that_can_be_recorded_come_first(offset: int, size: int, *, proves: bool) -> None:
    kept = handed_out(12, 4)
    ledger = kept.ledger()
    ledger.put(ledger.workers[NODE], records_read=38)
    kept.save(ledger)
    assert bool(listed(kept, GONE, {offset: size}).listed_at) == proves


def test_a_node_is_noted_once() -> None:
    kept = handed_out(12, 4)
    listed(kept, GONE)
    ledger = kept.ledger()
    note_listing(ledger, GONE, {}, True, NOW + 9)
    assert ledger.changed() == []


def test_commands_without_a_record_wait_with_their_next_generation() -> None:
    """Those that have one stay as they are."""
    kept = handed_out(12, 3, 2)
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, line(1), NOW)
    kept.save(ledger)
    closed(kept)
    assert kept.states()[:6] == [WAITING, SUCCEEDED, WAITING, WAITING, WAITING, CommandState.FRESH]
    assert [kept.generation(index) for index in range(5)] == [2, 1, 2, 2, 2]
    assert {each.closed_at for each in kept.batches.values()} == {NOW}
    assert (kept.commands.waiting, kept.commands.out, kept.commands.retried) == (4, 0, 4)
    assert kept.workers[NODE].closed_at == NOW


def test_a_command_whose_last_generation_is_lost_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation is one byte, and without an end the run would never be done."""
    monkeypatch.setattr(closing, "GENERATION_MOST", 1)
    kept = closed(handed_out(12, 3))
    assert kept.states()[:4] == [LOST, LOST, LOST, CommandState.FRESH]


def test_a_node_is_closed_once() -> None:
    kept = closed(handed_out(12, 3))
    ledger = kept.ledger()
    close(ledger, GONE, at_work(), NOW + 9, PLAIN)
    assert ledger.changed() == []


def test_a_node_whose_inbox_was_not_listed_keeps_its_commands() -> None:
    kept = handed_out(12, 3)
    ledger = kept.ledger()
    close(ledger, GONE, at_work(), NOW, PLAIN)
    assert ledger.changed() == []


def test_only_the_commands_of_this_node_wait() -> None:
    kept = handed_out(12, 3)
    kept.add(worker("r1.2.0"))
    closed(kept, held({"id": "r1.2.0", "attempt": 2}, ended_at=NOW))
    assert kept.states()[:3] == [OUT] * 3


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (ended(), LOST),
        (ended(stop=STOP), CANCELLED),
        (ended(verdict=Verdict(Outcome.TIMED_OUT, "too long", NOW)), CANCELLED),
    ],
)
def test_after_the_run_commands_that_ran_on_a_lost_machine_have_an_end(run: Run, state: CommandState) -> None:
    """They may have done their work; the others had not begun as far as is known."""
    running = ListReport(running=(Running(0, 1, 1, NOW), Running(1, 2, 9, NOW)))
    lost = held({"report": report(Step.COMMAND, commands=running)}, ended_at=NOW)
    kept = closed(handed_out(12, 3), lost, run)
    assert kept.states()[:3] == [WAITING, state, WAITING]
    assert sealed(kept, run).states() == [NOT_RUN, state, *[NOT_RUN] * 10]


def test_a_command_that_was_lost_too_often_is_lost() -> None:
    """Its generation is one byte; the others of its batch wait."""
    kept = handed_out(12, 2)
    ledger = kept.ledger()
    for _ in range(GENERATION_MOST - 1):
        ledger.take_back(0)
        ledger.hand_out(0)
    ledger.put(ledger.batches[f"{NODE}.1"], ranges=((0, 1, GENERATION_MOST), (1, 1, 1)))
    kept.save(ledger)
    assert closed(kept).states()[:2] == [LOST, WAITING]


def died(kept: Kept, node: str = NODE, options: ListOptions = PLAIN, run: Run | None = None) -> Kept:
    """Close a node whose machine died while it ran its first two commands."""
    (batch,) = (each for each in kept.batches.values() if each.node == node and each.closed_at is None)
    several = [(index, batch.ranges[0][2]) for first, count, _ in batch.ranges for index in range(first, first + count)]
    running = tuple(Running(slot, *each, NOW) for slot, each in enumerate(several[:2]))
    listed = ListReport(1, running, waiting=max(0, len(several) - 2))
    lost = held({"id": node, "report": report(Step.COMMAND, commands=listed)}, ended_at=NOW)
    return closed(kept, lost, run, options)


def handed_on(kept: Kept, attempt: int, count: int = 4) -> str:
    """Hand commands out to the machine of the next attempt; return its node's id."""
    kept.add(worker(f"r1.{attempt}.0"))
    ledger = kept.ledger()
    hand_out(ledger, {f"r1.{attempt}.0": count})
    kept.save(ledger)
    return f"r1.{attempt}.0"


def test_a_command_that_ran_on_three_machines_that_died_is_lost() -> None:
    """After two deaths it is alone on its machine, so that its neighbours are not lost with it."""
    kept = died(handed_out(12, 4))
    second = handed_on(kept, 2)
    died(kept, second)
    assert [kept.loaded().count(index, Count.DEATHS) for index in range(4)] == [2, 2, 0, 0]
    others = handed_on(kept, 3, 99)
    assert [each.ranges for each in kept.batches.values() if each.node == others] == [((2, 2, 3), (4, 8, 1))]
    alone = handed_on(kept, 4, 99)
    assert [(each.ranges, each.alone) for each in kept.batches.values() if each.node == alone] == [(((0, 1, 3),), True)]
    died(kept, alone)
    assert (kept.states()[:2], kept.commands.lost) == ([LOST, WAITING], 1)
    assert handed_on(kept, 5, 99)
    assert kept.batches["r1.5.0.1"].ranges == ((1, 1, 3),)


def test_the_deaths_of_machines_that_were_told_to_end_do_not_count() -> None:
    kept = died(handed_out(12, 4), run=at_work(ranks_stop=STOP))
    assert kept.loaded().count(0, Count.DEATHS) == 0
    assert kept.states()[:4] == [WAITING] * 4


def test_lost_commands_do_not_run_again_if_the_recipe_says_so() -> None:
    """Those that the machine had not begun run elsewhere."""
    kept = died(handed_out(12, 4), options=ListOptions(restart_lost=False))
    assert kept.states()[:5] == [LOST, LOST, WAITING, WAITING, CommandState.FRESH]


def test_a_command_that_an_interruption_ended_does_not_run_again_either() -> None:
    """The machine has a result; no record says that the command has ended."""
    listed = ListReport(1, waiting=2)
    fields = {"report": report(Step.COMMAND, commands=listed), "result": result(Outcome.INTERRUPTED)}
    kept = closed(handed_out(12, 4), held(fields), options=ListOptions(restart_lost=False))
    assert kept.states()[:4] == [LOST, LOST, WAITING, WAITING]


def test_commands_of_a_list_that_ends_early_are_lost_with_their_machine() -> None:
    """They would never run again."""
    kept = handed_out(12, 4)
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, line(0, 1), NOW)
    kept.save(ledger)
    died(kept, options=ListOptions(max_failures=0))
    assert kept.states()[:4] == [CommandState.FAILED, LOST, WAITING, WAITING]


def test_with_a_result_nothing_ran_at_the_end() -> None:
    running = ListReport(running=(Running(0, 1, 1, NOW),))
    fields = {"report": report(Step.COMMAND, commands=running), "result": result(Outcome.CANCELLED)}
    assert closed(handed_out(12, 3), held(fields), ended()).states()[:3] == [WAITING] * 3


def test_sealing_gives_every_command_its_final_state() -> None:
    kept = handed_out(12, 3)
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, line(0), NOW)
    kept.save(ledger)
    sealed(closed(kept), ended())
    assert kept.states() == [SUCCEEDED, *[NOT_RUN] * 11]
    assert (kept.commands.sealed_at, kept.commands.open, kept.commands.not_run) == (NOW, 0, 11)
    assert sealed(kept, ended()).commands.sealed_at == NOW


def test_a_command_that_would_have_run_again_has_failed() -> None:
    """Its last record says so; one that waits because its machine was lost was not run."""
    kept = handed_out(12, 3)
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, line(0, 1), NOW, ListOptions(retries=1))
    kept.save(ledger)
    assert sealed(closed(kept), ended()).states()[:3] == [CommandState.FAILED, NOT_RUN, NOT_RUN]


def test_a_list_is_not_sealed_before_the_run_has_ended() -> None:
    """Its commands wait for the next attempt."""
    assert sealed(closed(handed_out(12, 3)), at_work(State.STOPPING)).commands.not_run == 0


def test_a_list_is_not_sealed_before_all_workers_are_closed() -> None:
    """A record may still come."""
    kept = handed_out(12, 3)
    assert sealed(kept, ended()).commands.ended == 0
    kept.add(worker("r1.2.0"))
    assert sealed(closed(kept), ended()).commands.ended == 0


def test_a_list_that_never_had_a_machine_is_sealed() -> None:
    assert sealed(Kept(a_list(12)), ended()).states() == [NOT_RUN] * 12


def test_a_list_whose_commands_have_all_ended_is_sealed() -> None:
    kept = handed_out(2, 2)
    ledger = kept.ledger()
    take_records(ledger, NODE, 0, line(0) + line(1), NOW)
    kept.save(ledger)
    assert sealed(closed(kept), ended()).commands.sealed_at == NOW


def test_long_lists_are_sealed_in_several_transactions() -> None:
    """One that is lost in between is repeated where it was."""
    kept = handed_out(2 * SEAL_MOST * BLOCK_SIZE + 7, 3)
    closed(kept)
    rounds = 0
    while kept.commands.sealed_at is None:
        assert kept.commands.not_run == rounds * SEAL_MOST * BLOCK_SIZE
        sealed(kept, ended())
        rounds += 1
    assert rounds == 3
    assert set(kept.states()) == {NOT_RUN}


def test_commands_that_wait_in_blocks_that_were_not_loaded_are_sealed_later() -> None:
    kept = closed(handed_out(12, 12))
    ledger = kept.ledger()
    one = type(ledger)(kept.commands, kept.workers.values(), [], [kept.blocks["r1.000001"], kept.blocks["r1.000002"]])
    seal(one, ended(), NOW)
    kept.save(one)
    assert (kept.commands.waiting, kept.commands.sealed_at) == (5, None)
    assert sealed(kept, ended()).commands.sealed_at == NOW


def test_a_command_that_a_machine_has_is_never_sealed() -> None:
    """Nothing but a bug leaves one: all workers are closed. It is loud."""
    kept = handed_out(3, 3)
    ledger = kept.ledger()
    ledger.put(ledger.workers[NODE], closed_at=NOW)
    seal(ledger, ended(), NOW)
    assert ledger.commands.sealed_at is None
    with pytest.raises(WrongChange):
        ledger.end(0, NOT_RUN)
