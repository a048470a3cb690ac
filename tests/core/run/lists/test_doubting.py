"""Machines on which every command fails."""

from collections.abc import Iterable
from typing import Any

from provisioner.core.commands.blocks import CommandState, Count
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.run.lists.doubting import ENOUGH, RANGES_MOST, extended, is_suspect, judge, length, to_load
from provisioner.core.run.lists.handing import hand_out, wanted
from provisioner.core.run.lists.recalling import dismiss, goes_on, recall
from provisioner.core.run.lists.receiving import NO_RETRIES, take_records
from tests.support.lists import Kept, a_list, line, worker
from tests.support.samples import NOW, at_work, node

BAD, GOOD = "r1.1.0", "r1.1.1"
WAITING, FAILED, SUCCEEDED = CommandState.WAITING, CommandState.FAILED, CommandState.SUCCEEDED


def two_machines(each: int = 30) -> Kept:
    """Return a list of which two machines have got so many commands, the bad one the first."""
    kept = Kept(a_list(100))
    kept.add(worker(BAD), worker(GOOD))
    ledger = kept.ledger()
    hand_out(ledger, {BAD: each, GOOD: each})
    kept.save(ledger)
    return kept


def end(
    kept: Kept, node: str, indices: Iterable[int], code: int = 1, *, options: ListOptions = NO_RETRIES, **fields: Any
) -> list[str]:
    """Record these ends; return the machines that are found to be bad then."""
    ledger = kept.ledger()
    data = b"".join(line(index, code, **fields) for index in indices)
    take_records(ledger, node, kept.workers[node].records_read, data, NOW, options)
    found = [each.id for each in judge(ledger, NOW)]
    kept.save(ledger)
    return found


def test_failures_in_a_row_do_not_count_if_other_machines_succeed() -> None:
    """They wait with their next generation, and the machine gets no more commands."""
    kept = two_machines()
    assert end(kept, BAD, range(ENOUGH)) == []
    assert end(kept, GOOD, [30], 0) == [BAD]
    assert kept.states()[:ENOUGH] == [WAITING] * ENOUGH
    assert {kept.generation(index) for index in range(ENOUGH)} == {2}
    assert (kept.commands.failed, kept.commands.repeated, kept.workers[BAD].doubted_at) == (0, ENOUGH, NOW)
    assert (kept.workers[GOOD].doubted_at, end(kept, GOOD, [31], 0)) == (None, [])


def test_one_failure_less_is_not_enough() -> None:
    kept = two_machines()
    end(kept, BAD, range(ENOUGH - 1))
    assert end(kept, GOOD, [30], 0) == []
    assert end(kept, BAD, [ENOUGH - 1]) == [BAD]


def test_a_list_whose_commands_all_fail_has_no_bad_machine() -> None:
    kept = two_machines()
    end(kept, BAD, range(30))
    assert end(kept, GOOD, range(30, 60)) == []
    assert kept.commands.failed == 60


def test_only_successes_since_the_first_of_the_failures_count() -> None:
    """Perhaps all commands of this part of the list fail."""
    kept = two_machines()
    end(kept, GOOD, [30], 0)
    assert end(kept, BAD, range(30)) == []
    assert end(kept, GOOD, range(31, 60)) == []


def test_own_successes_do_not_speak_against_a_machine() -> None:
    """Those before the failures may be in the same chunk."""
    kept = two_machines()
    ledger = kept.ledger()
    data = line(0, 0) + b"".join(line(index, 1) for index in range(1, 1 + ENOUGH))
    take_records(ledger, BAD, 0, data, NOW)
    assert judge(ledger, NOW) == []
    kept.save(ledger)
    assert (length(kept.workers[BAD]), kept.workers[BAD].succeeded_before) == (ENOUGH, 1)


def test_a_success_ends_the_row() -> None:
    kept = two_machines()
    end(kept, BAD, range(15))
    end(kept, BAD, [15], 0)
    end(kept, BAD, range(16, 30))
    assert end(kept, GOOD, [30], 0) == []
    assert length(kept.workers[BAD]) == 14


def test_commands_that_a_bad_machine_still_ran_do_not_count_either() -> None:
    kept = two_machines()
    end(kept, BAD, range(ENOUGH))
    end(kept, GOOD, [30], 0)
    assert end(kept, BAD, [ENOUGH]) == []
    assert (kept.states()[ENOUGH], kept.commands.failed) == (WAITING, 0)


def test_a_failure_is_excused_once_for_each_command() -> None:
    """The next failure is the final state of the command. It does not count against the second machine."""
    kept = two_machines()
    end(kept, BAD, range(ENOUGH))
    end(kept, GOOD, [30], 0)
    kept.add(worker("r1.1.2"))
    ledger = kept.ledger()
    hand_out(ledger, {"r1.1.2": ENOUGH})
    kept.save(ledger)
    assert end(kept, "r1.1.2", range(ENOUGH), generation=2) == []
    assert end(kept, GOOD, [31], 0) == []
    assert kept.states()[:ENOUGH] == [FAILED] * ENOUGH
    assert kept.workers["r1.1.2"].streak == ()
    assert [kept.loaded().may_be_excused(0, 2), kept.loaded().may_be_excused(30, 1)] == [False, False]


def test_tries_of_one_command_count_once() -> None:
    """Otherwise one command that always fails, and is retried on one machine, would make that machine a bad one."""
    kept, options = two_machines(), ListOptions(retries=100)
    for generation in range(1, 2 * ENOUGH):
        end(kept, BAD, [0], generation=generation, number=generation, options=options)
        ledger = kept.ledger()
        hand_out(ledger, {BAD: 1})
        kept.save(ledger)
    assert end(kept, GOOD, [30], 0) == []
    assert length(kept.workers[BAD]) == 1


def test_commands_with_retries_left_keep_the_count_of_their_failures() -> None:
    """They run again anyway."""
    kept = two_machines()
    end(kept, BAD, range(ENOUGH), options=ListOptions(retries=1))
    assert end(kept, GOOD, [30], 0) == [BAD]
    loaded = kept.loaded()
    assert kept.states()[:ENOUGH] == [WAITING] * ENOUGH
    assert (loaded.count(0, Count.FAILURES), loaded.count(0, Count.EXCUSED), kept.generation(0)) == (1, 0, 2)


def test_a_bad_machine_gives_its_commands_back_and_is_released() -> None:
    kept = two_machines()
    end(kept, BAD, range(ENOUGH))
    end(kept, GOOD, [30], 0)
    nodes = {id: node(id=id, rank=rank) for rank, id in enumerate((BAD, GOOD))}
    ledger = kept.ledger()
    (mine, other) = (ledger.batches[f"{BAD}.1"], ledger.batches[f"{GOOD}.1"])
    ledger.put(mine, put_at=NOW)
    ledger.put(other, put_at=NOW)
    recall(ledger, nodes, NOW)
    assert [ledger.batches[each.id].recall_at for each in (mine, other)] == [NOW, None]
    dismiss(ledger, NOW, all_machines=False)
    assert ledger.workers[BAD].released_at is None, "it still runs commands"
    ledger.give_back(ENOUGH, 10)
    ledger.put(ledger.batches[mine.id], left=0, closed_at=NOW)
    dismiss(ledger, NOW, all_machines=False)
    assert [ledger.workers[id].released_at for id in (BAD, GOOD)] == [NOW, None]
    batches = ledger.batches.values()
    assert BAD not in wanted(at_work(), ledger.commands, ledger.workers.values(), batches, nodes)


def test_a_bad_machine_takes_no_commands() -> None:
    bad = worker(BAD, doubted_at=NOW)
    assert not goes_on(node(), bad)
    assert wanted(at_work(), a_list(100), [bad], [], {BAD: node()}) == {}


def test_a_machine_that_only_fails_gets_few_commands_until_others_show_what_to_expect() -> None:
    """It may be the fastest of all, and would take the whole list."""
    fast = worker(BAD, ended=4, failed=4, streak=((0, 4, 1),), rate=100.0)
    slow, failing = worker(GOOD), worker(GOOD, ended=1, failed=1, streak=((9, 1, 1),))
    assert [is_suspect(fast, [each]) for each in (slow, failing)] == [True, False]
    assert not is_suspect(fast, [])
    assert not is_suspect(worker(BAD, ended=9, failed=4, streak=((0, 4, 1),)), [slow])
    assert is_suspect(worker(BAD, ended=99, failed=25, streak=((0, ENOUGH, 1),)), [slow])
    nodes, long = {id: node(id=id) for id in (BAD, GOOD)}, a_list(100_000)
    assert wanted(at_work(), long, [fast, slow], [], nodes)[BAD] == 4
    assert wanted(at_work(), long, [fast, failing], [], nodes)[BAD] > 1000


def test_failed_commands_are_kept_in_ranges() -> None:
    assert extended((), [(5, 1), (3, 1), (4, 1), (7, 1), (8, 2)]) == ((3, 3, 1), (7, 1, 1), (8, 1, 2))
    many = extended((), [(2 * index, 1) for index in range(RANGES_MOST + 5)])
    assert (len(many), many[0]) == (RANGES_MOST, (10, 1, 1))
    few, several = worker(BAD, streak=((3, 3, 1),)), worker(GOOD, streak=((50, ENOUGH, 1),))
    assert to_load([few, several], []) == [(50, ENOUGH, 1)]
    assert to_load([few, several], [BAD]) == [(3, 3, 1), (50, ENOUGH, 1)]
