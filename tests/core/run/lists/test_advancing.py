"""A list run from its records: its state, its outcome, and its machines' orders."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.protocol.messages import ListOrders, Orders, Recall, Span, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.lists.advancing import advance, first_begin, orders, verdict
from provisioner.core.run.progress import Advance
from provisioner.core.run.records import Assignment, Run, Verdict
from provisioner.core.run.states import State
from tests.support.lists import NODE, a_list, batch, worker
from tests.support.samples import NOW, at_work, held, recipe, report, result

STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
PLAIN = ListOptions()
OPEN = a_list(12, next=4, out=4)
ALL = a_list(12, next=12, succeeded=12)
AT_WORK = held({"report": report(Step.COMMAND), "reported_at": NOW})
BOOTING = held()
CLOSED = worker(closed_at=NOW)


def list_run(state: State = State.RUNNING, **fields: Any) -> Run:
    return at_work(state, commands=12, **fields)


def ended(outcome: Outcome, code: int | None = None, step: Step = Step.COMMAND, **machine: Any) -> Assignment:
    return held({"result": result(outcome, code, step), "report": report(step), "reported_at": NOW}, **machine)


def moved(
    each: Assignment = AT_WORK,
    *,
    run: Run | None = None,
    commands: CommandList = OPEN,
    made: Worker | None = None,
    now: float = NOW + 60,
    by: Recipe | None = None,
) -> Advance:
    workers = {NODE: made or worker()}
    return advance(run or list_run(), commands, workers, [each], by or recipe(retries=1), now)


def test_reports_move_the_run() -> None:
    assert moved(BOOTING, run=list_run(State.BOOTING)).run.state is State.BOOTING
    setup = held({"report": report(Step.SETUP), "reported_at": NOW})
    assert moved(setup, run=list_run(State.BOOTING)).run.state is State.PREPARING
    assert moved(run=list_run(State.BOOTING)).run.state is State.RUNNING
    run = list_run()
    assert moved(run=run) == Advance(run)


def test_the_run_ends_with_its_last_command() -> None:
    """The machine still lives: it is ordered to stop, and gets its verdict later."""
    after = moved(commands=ALL)
    assert (after.run.state, after.run.ended_at) == (State.STOPPING, NOW + 60)
    assert after.run.verdict == Verdict(Outcome.SUCCEEDED, "12 commands succeeded", NOW + 60, 0, Step.COMMAND)
    assert after.run.ranks_stop == Stop(Outcome.SUCCEEDED, "all commands have ended", NOW + 60)
    assert after.nodes == ()


def test_a_machine_that_has_ended_gets_no_order_to_stop() -> None:
    after = moved(ended(Outcome.SUCCEEDED, 0), commands=ALL)
    assert (after.run.ranks_stop, after.run.ended_at) == (None, NOW + 60)
    assert [node.verdict and node.verdict.outcome for node in after.nodes] == [Outcome.SUCCEEDED]


@pytest.mark.parametrize(
    ("counts", "outcome", "code", "reason"),
    [
        ({"succeeded": 12}, Outcome.SUCCEEDED, 0, "12 commands succeeded"),
        ({"failed": 12}, Outcome.FAILED, 1, "0 of 12 commands succeeded; 12 failed"),
        ({"succeeded": 9, "failed": 3}, Outcome.FAILED, 1, "9 of 12 commands succeeded; 3 failed"),
        ({"succeeded": 9, "lost": 3}, Outcome.FAILED, 1, "9 of 12 commands succeeded; 3 lost"),
        (
            {"succeeded": 2, "failed": 1, "lost": 2, "cancelled": 3, "not_run": 4},
            Outcome.FAILED,
            1,
            "2 of 12 commands succeeded; 1 failed, 2 lost, 3 cancelled, 4 not run",
        ),
    ],
)
def test_outcome_and_exit_code_follow_from_the_counters(
    counts: dict[str, int], outcome: Outcome, code: int, reason: str
) -> None:
    assert verdict(a_list(12, next=12, **counts), NOW) == Verdict(outcome, reason, NOW, code, Step.COMMAND)


def test_a_list_with_open_commands_has_no_verdict() -> None:
    assert verdict(a_list(12, next=12, succeeded=11, waiting=1), NOW) is None


def test_long_lists_are_written_with_commas() -> None:
    found = verdict(CommandList("r1", 10_000, succeeded=9_990, failed=10), NOW)
    assert found
    assert found.reason == "9,990 of 10,000 commands succeeded; 10 failed"
    one = verdict(CommandList("r1", 1, succeeded=1), NOW)
    assert one
    assert one.reason == "1 command succeeded"


@pytest.mark.parametrize(
    "each",
    [
        pytest.param(ended(Outcome.SUCCEEDED, 0), id="a result"),
        pytest.param(held({"result_sought_at": NOW + 60}, ended_at=NOW, reason="gone"), id="an ended machine"),
    ],
)
def test_an_attempt_is_over_only_after_its_records_were_read(each: Assignment) -> None:
    """They may show that the list has ended. The node's verdict is stored at once, so that its machine ends."""
    after = moved(each)
    assert (after.run.state, after.run.verdict) == (State.RUNNING, None)
    (node,) = after.nodes
    again = replace(each, node=node)
    assert moved(again) == Advance(list_run())
    over = moved(again, made=CLOSED)
    assert (over.run.state, over.run.ended_at) == (State.STOPPING, None)
    assert over.run.verdict
    assert over.run.verdict.outcome is Outcome.LOST
    assert over.run.lost_after_start + over.run.lost_before_start == 1
    done = moved(again, made=CLOSED, commands=ALL)
    assert done.run.verdict
    assert done.run.verdict.outcome is Outcome.SUCCEEDED


def test_a_machine_that_ends_early_by_itself_is_lost() -> None:
    """It had no work for too long, for example because it could not read its orders. The list goes on."""
    for outcome in (Outcome.SUCCEEDED, Outcome.CANCELLED):
        run = moved(ended(outcome), made=CLOSED).run
        assert run.verdict
        assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.LOST, None)
        assert run.verdict.reason == "the machine ended before the list (its reason)"
        assert run.retries_used == 0


def test_an_interrupted_machine_is_replaced_at_once() -> None:
    run = moved(ended(Outcome.INTERRUPTED), made=CLOSED).run
    assert (run.state, run.ended_at, run.next_try_at) == (State.STOPPING, None, NOW + 60)


def test_a_failed_setup_counts_as_a_retry() -> None:
    """Only a recipe with retries repeats it, as for a single command."""
    failed = ended(Outcome.FAILED, 3, Step.SETUP)
    again = moved(failed, made=CLOSED).run
    assert (again.ended_at, again.retries_used) == (None, 1)
    over = moved(failed, made=CLOSED, by=recipe()).run
    assert over.verdict
    assert (over.ended_at, over.verdict.outcome, over.verdict.exit_code) == (NOW + 60, Outcome.FAILED, 3)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.TIMED_OUT])
def test_some_outcomes_end_the_run(outcome: Outcome) -> None:
    run = moved(ended(outcome), made=CLOSED).run
    assert run.verdict
    assert (run.ended_at, run.verdict.outcome) == (NOW + 60, outcome)


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SUCCEEDED, Outcome.LOST, Outcome.INTERRUPTED])
def test_a_stop_ends_the_run(outcome: Outcome) -> None:
    """Its outcome is the stop's, whatever the machine says; after a result, its records are read first."""
    run, each = list_run(stop=STOP), ended(outcome, 0)
    assert moved(each, run=run).run.state is State.RUNNING
    after = moved(each, run=run, made=CLOSED).run
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.reason) == (Outcome.CANCELLED, "stopped by a user")
    assert (after.verdict.exit_code, after.ended_at) == (None, NOW + 60)


def test_a_stop_does_not_wait_for_a_machine_that_is_lost() -> None:
    gone = held({"result_sought_at": NOW + 60, "stop_put_at": NOW}, ended_at=NOW)
    after = moved(gone, run=list_run(stop=STOP)).run
    assert (after.state, after.ended_at) == (State.STOPPING, NOW + 60)


def test_commands_that_a_stop_ended_are_no_failures() -> None:
    """All commands were running when the run was stopped."""
    stopped = a_list(12, next=12, succeeded=8, cancelled=4, halted=4)
    assert moved(run=list_run(stop=STOP), commands=stopped).run.verdict is None
    after = moved(ended(Outcome.CANCELLED), run=list_run(stop=STOP), commands=stopped, made=CLOSED).run
    assert after.verdict
    assert after.verdict.outcome is Outcome.CANCELLED


def test_a_list_that_ended_before_its_stop_has_succeeded() -> None:
    run = moved(run=list_run(stop=STOP), commands=ALL).run
    assert run.verdict
    assert (run.verdict.outcome, run.ranks_stop) == (Outcome.SUCCEEDED, None)


def test_the_limit_counts_from_the_first_command_of_the_list() -> None:
    """Not from that of the present machine: the machine of the first attempt began the list."""
    by, run = recipe(limits={"runtime": "1h"}), replace(list_run(), attempt=2)
    first = ended(Outcome.INTERRUPTED, ended_at=NOW)
    first = replace(first, node=replace(first.node, verdict=Verdict(Outcome.INTERRUPTED, "", NOW)))
    late = report(Step.COMMAND, began=NOW + 1800, at=NOW + 1800)
    second = held({"id": "r1.2.0", "attempt": 2, "report": late, "reported_at": NOW + 1800})
    workers = {NODE: CLOSED, "r1.2.0": worker("r1.2.0")}
    # The command of the first machine began at NOW + 10 by its result, and at NOW by its report.
    before = advance(run, OPEN, workers, [first, second], by, NOW + 3599)
    assert before.run == run
    after = advance(run, OPEN, workers, [first, second], by, NOW + 3600)
    reason = "the list took longer than limits.runtime of 1 h"
    assert after.run.ranks_stop == Stop(Outcome.TIMED_OUT, reason, NOW + 3600)
    again = advance(after.run, OPEN, workers, [first, second], by, NOW + 3700)
    assert again.run == after.run, "the order is given once"


def test_a_list_over_its_limit_ends_as_timed_out_whatever_its_machine_says() -> None:
    limit = Stop(Outcome.TIMED_OUT, "too long", NOW)
    for outcome in (Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.INTERRUPTED, Outcome.LOST):
        run = moved(ended(outcome), run=list_run(ranks_stop=limit), made=CLOSED).run
        assert run.verdict
        assert (run.verdict.outcome, run.ended_at) == (Outcome.TIMED_OUT, NOW + 60)


def test_commands_that_a_machine_ended_without_an_order_were_over_the_limit() -> None:
    """The machine keeps to the limit by itself, and its records may arrive before its result."""
    stopped = a_list(12, next=12, succeeded=8, cancelled=4, halted=4)
    run = moved(commands=stopped).run
    assert run.verdict is None
    assert run.ranks_stop
    assert run.ranks_stop.outcome is Outcome.TIMED_OUT
    after = moved(ended(Outcome.LOST), run=run, commands=stopped, made=CLOSED).run
    assert after.verdict
    assert after.verdict.outcome is Outcome.TIMED_OUT


def test_commands_that_were_stopped_alone_do_not_time_the_list_out() -> None:
    """The list goes on, and ends as failed although nothing else went wrong."""
    stopped = a_list(12, next=12, succeeded=7, cancelled=4, out=1)
    assert not moved(commands=stopped).run.ranks_stop
    over = moved(commands=replace(stopped, succeeded=8, out=0)).run
    assert over.verdict
    assert (over.verdict.outcome, over.verdict.exit_code) == (Outcome.FAILED, 1)
    assert over.verdict.reason == "8 of 12 commands succeeded; 4 cancelled"


def test_a_list_over_its_limit_did_not_end_while_booting() -> None:
    """Another machine may be booting when the limit is over; then its end comes last."""
    limit = Stop(Outcome.TIMED_OUT, "too long", NOW)
    booting = {"id": "r1.1.1", "rank": 1, "result": replace(result(Outcome.TIMED_OUT, step=Step.BOOT), at=NOW + 55)}
    both, workers = [ended(Outcome.TIMED_OUT), held(booting)], {NODE: CLOSED, "r1.1.1": replace(CLOSED, id="r1.1.1")}
    run = advance(list_run(ranks_stop=limit), OPEN, workers, both, recipe(), NOW + 60).run
    assert run.verdict
    assert (run.verdict.outcome, run.verdict.step) == (Outcome.TIMED_OUT, Step.COMMAND)


def test_the_first_begin_is_by_our_clock() -> None:
    """Half an hour behind: the time is converted by the report, and is never before the machine was ours."""
    behind = report(Step.COMMAND, began=NOW - 1700, at=NOW - 1700)
    assert first_begin([held({"report": behind, "reported_at": NOW + 100})]) == NOW + 100
    early = report(Step.COMMAND, began=NOW - 1700, at=NOW)
    assert first_begin([held({"report": early, "reported_at": NOW})]) == NOW
    assert first_begin([held({"report": report(Step.SETUP), "reported_at": NOW})]) is None
    other = held({"result": result(Outcome.LOST, spans={"command": Span(NOW + 5, None)})})
    assert first_begin([AT_WORK, other]) == NOW


def several(*ends: Outcome) -> list[Assignment]:
    """Return machines of one attempt that ended like this, one after the other."""
    found = []
    for rank, outcome in enumerate(ends):
        late = {"id": f"r1.1.{rank}", "rank": rank, "result": replace(result(outcome), at=NOW + rank)}
        found.append(held({**late, "report": report(Step.COMMAND), "reported_at": NOW + 50}))
    return found


def test_an_attempt_ends_with_its_last_machine() -> None:
    """A machine that was released has succeeded, whatever becomes of the list."""
    ends = several(Outcome.LOST, Outcome.INTERRUPTED, Outcome.SUCCEEDED)
    workers = {each.node.id: worker(each.node.id, closed_at=NOW) for each in ends}
    alive = held({"id": "r1.1.3", "rank": 3, "report": report(Step.COMMAND), "reported_at": NOW + 50})
    waits = advance(list_run(), OPEN, workers | {"r1.1.3": worker("r1.1.3")}, [*ends, alive], recipe(), NOW + 60)
    assert (waits.run.state, len(waits.nodes)) == (State.RUNNING, 3)
    after = advance(list_run(), OPEN, workers, ends, recipe(), NOW + 60).run
    assert after.verdict
    assert (after.state, after.verdict.outcome, after.ended_at) == (State.STOPPING, Outcome.INTERRUPTED, None)


def test_losses_do_not_count_while_commands_end() -> None:
    """On spot machines, a long list loses any number of them."""
    run = list_run(ever_started=True, lost_after_start=19)
    assert moved(ended(Outcome.LOST), run=run, made=CLOSED).run.ended_at
    after = moved(ended(Outcome.LOST), run=run, made=replace(CLOSED, ended=1)).run
    assert (after.ended_at, after.lost_after_start) == (None, 1)


def test_a_released_machine_is_told_to_end_and_then_presumed_to_have_ended() -> None:
    released = worker(released_at=NOW)
    told = orders(list_run(), OPEN, released, [], PLAIN)
    assert told.stop
    assert (told.stop.outcome, told.stop.at) == (Outcome.SUCCEEDED, NOW)
    silent = {
        "report": report(Step.COMMAND),
        "reported_at": NOW + 50,
        "stop_put_at": NOW,
        "result_sought_at": NOW + 900,
    }
    late = moved(held(silent), made=released, now=NOW + 900)
    assert late.nodes[0].verdict
    assert late.nodes[0].verdict.outcome is Outcome.SUCCEEDED


def test_without_a_readable_recipe_a_lost_machine_is_replaced() -> None:
    """Another version stored the recipe."""
    run = advance(list_run(), OPEN, {NODE: CLOSED}, [ended(Outcome.INTERRUPTED)], None, NOW).run
    assert (run.state, run.ended_at) == (State.STOPPING, None)


def test_a_queued_list_run_is_stopped_as_any_other() -> None:
    after = advance(list_run(State.QUEUED, stop=STOP), OPEN, {}, [], recipe(), NOW)
    assert (after.run.state, after.run.ended_at) == (State.STOPPING, NOW)


def test_an_attempt_that_was_settled_is_followed_by_the_next_one() -> None:
    run = moved(ended(Outcome.INTERRUPTED), made=CLOSED).run
    after = advance(run, OPEN, {NODE: CLOSED}, [ended(Outcome.INTERRUPTED, ended_at=NOW)], recipe(), NOW + 61)
    assert after.run.state is State.QUEUED


# Orders


def told(commands: CommandList, *batches: Batch, **fields: Any) -> ListOrders | None:
    return orders(list_run(), commands, worker(**fields), batches, PLAIN).commands


def test_a_machine_is_told_of_the_batches_in_its_mailbox() -> None:
    """A batch whose object was not put yet is not named, nor is any after it."""
    first, second, third = (batch((number, 1, 1), number=number, put_at=NOW) for number in (1, 2, 3))
    unput = replace(second, put_at=None)
    assert told(OPEN, first, second, batches=2) == ListOrders(2)
    assert told(OPEN, first, unput, third, batches=3) == ListOrders(1)
    assert told(OPEN, replace(first, put_at=None), batches=1) is None
    # The batches of which all commands have ended are not read from the store.
    assert told(OPEN, batches=7) == ListOrders(7)


def test_a_machine_with_the_last_commands_is_told_so() -> None:
    """Not while commands wait, nor while another machine, which may be lost, has some."""
    mine, rest = batch((0, 12, 1), put_at=NOW), a_list(12, next=12, out=12)
    assert told(rest, mine, batches=1) == ListOrders(1, last=True)
    retried = orders(list_run(), rest, worker(batches=1), [mine], ListOptions(retries=1)).commands
    assert retried == ListOrders(1), "each of them may run again"
    assert told(rest, replace(mine, put_at=None), batches=1) is None
    assert told(a_list(12, next=11, out=11), mine, batches=1) == ListOrders(1)
    assert told(a_list(12, next=12, out=11, waiting=1), mine, batches=1) == ListOrders(1)
    assert told(rest, mine, batch((3, 1, 1), node="r1.1.1"), batches=1) == ListOrders(1)


def test_a_machine_whose_commands_are_recalled_is_told_so() -> None:
    """It is not told that no batch follows."""
    recalled = batch((0, 4, 1), put_at=NOW, recall_at=NOW, spare=2)
    told = orders(list_run(), a_list(4, next=4, out=4), worker(batches=1), [recalled], PLAIN)
    assert told == Orders(commands=ListOrders(1, False, (Recall(1, 2),)))


def test_a_machine_is_told_which_of_its_commands_to_stop() -> None:
    """Not those of other machines, nor those that no machine has."""
    mine, other = batch((0, 4, 1), (8, 1, 1), put_at=NOW), batch((4, 4, 1), node="r1.1.1")
    stopped = a_list(12, next=9, out=9, stops=(11, 8, 5, 3))
    assert told(stopped, mine, other, batches=1) == ListOrders(1, stop=(3, 8))


def test_orders_have_the_stop_and_the_followers() -> None:
    run = list_run(stop=STOP, followed_until=NOW)
    assert orders(run, OPEN, None, [], PLAIN) == Orders(STOP, NOW)
    assert orders(run, OPEN, worker(), [], PLAIN) == Orders(STOP, NOW)
    assert orders(list_run(), OPEN, None, [], PLAIN) == Orders()
