"""Lists that end before all their commands have: too many failures, or a setup that always fails."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.commands.records import CommandList, Worker
from provisioner.core.protocol.messages import ListOrders, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.lists import ListOptions
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run.lists.advancing import advance, orders
from provisioner.core.run.progress import Advance
from provisioner.core.run.records import Assignment, Run, Verdict
from provisioner.core.run.states import State
from tests.support.lists import NODE, a_list, worker
from tests.support.samples import NOW, at_work, held, recipe, report, result

STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
OPEN = a_list(12, next=4, out=4)
AT_WORK = held({"report": report(Step.COMMAND), "reported_at": NOW})
CLOSED = worker(closed_at=NOW)


def list_run(state: State = State.RUNNING, **fields: Any) -> Run:
    return at_work(state, commands=12, **fields)


def ended(outcome: Outcome, code: int | None = None) -> Assignment:
    return held({"result": result(outcome, code), "report": report(Step.COMMAND), "reported_at": NOW})


def moved(
    each: Assignment = AT_WORK,
    *,
    by: Recipe,
    commands: CommandList,
    run: Run | None = None,
    made: Worker | None = None,
) -> Advance:
    return advance(run or list_run(), commands, {NODE: made or worker()}, [each], by, NOW + 60)


TOO_MANY = a_list(12, next=6, succeeded=1, failed=2, lost=1, out=2)
FINISH, KILL = (recipe(retries=1, list={"max_failures": 2, "on_max": how}, command=["x"]) for how in ("finish", "kill"))
EARLY = "2 commands failed and 1 were lost, more than list.max_failures (2)"


def test_too_many_failures_end_the_list_when_its_machines_have_ended() -> None:
    """It does not count as a failed attempt: no retry follows. The commands that ran have finished."""
    assert moved(commands=TOO_MANY, by=FINISH) == Advance(list_run())
    assert moved(commands=replace(TOO_MANY, lost=0, waiting=1), by=FINISH) == Advance(list_run())
    after = moved(ended(Outcome.SUCCEEDED, 0), commands=TOO_MANY, made=CLOSED, by=FINISH).run
    wanted = Verdict(Outcome.FAILED, f"the list ended early: {EARLY}", NOW + 60, 1, Step.COMMAND)
    assert (after.verdict, after.ended_at, after.ranks_stop) == (wanted, NOW + 60, None)


def test_too_many_failures_kill_the_running_commands_if_the_recipe_says_so() -> None:
    stopped = moved(commands=TOO_MANY, by=KILL).run
    assert (stopped.ranks_stop, stopped.ended_at) == (Stop(Outcome.CANCELLED, EARLY, NOW + 60), None)
    killed = replace(TOO_MANY, out=0, cancelled=2, halted=2)
    assert moved(run=stopped, commands=killed, by=KILL).run == stopped
    after = moved(ended(Outcome.CANCELLED), run=stopped, commands=killed, made=CLOSED, by=KILL).run
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.exit_code, after.ended_at) == (Outcome.FAILED, 1, NOW + 60)


def test_a_stop_and_a_limit_decide_before_too_many_failures() -> None:
    for run, outcome in (
        (list_run(stop=STOP), Outcome.CANCELLED),
        (list_run(ranks_stop=Stop(Outcome.TIMED_OUT, "too long", NOW)), Outcome.TIMED_OUT),
    ):
        after = moved(ended(outcome), run=run, commands=TOO_MANY, made=CLOSED, by=KILL).run
        assert after.verdict
        assert after.verdict.outcome is outcome


def test_a_list_whose_last_commands_are_too_many_failures_names_them() -> None:
    after = moved(commands=a_list(12, next=12, succeeded=9, failed=3), by=FINISH).run
    assert after.verdict
    assert after.verdict.reason == (
        "3 commands failed, more than list.max_failures (2): 9 of 12 commands succeeded; 3 failed"
    )


def test_machines_of_a_list_that_ends_early_begin_nothing_more() -> None:
    finish, few = ListOptions(max_failures=2), ListOptions(max_failures=3)
    assert orders(list_run(), TOO_MANY, worker(batches=2), [], finish).commands == ListOrders(2, finish=True)
    assert orders(list_run(), TOO_MANY, worker(), [], finish).commands == ListOrders(finish=True)
    assert orders(list_run(), TOO_MANY, worker(batches=2), [], few).commands == ListOrders(2)


def setups(*ends: tuple[Outcome, Step]) -> list[Assignment]:
    """Return machines of one attempt that ended like this, one after the other."""
    found = []
    for rank, (outcome, step) in enumerate(ends):
        made = replace(result(outcome, 7, step), at=NOW + rank)
        found.append(held({"id": f"r1.1.{rank}", "rank": rank, "result": made, "reported_at": NOW + 50}))
    return found


FAILED_SETUP = (Outcome.FAILED, Step.SETUP)


def after_setups(*ends: tuple[Outcome, Step], commands: CommandList = OPEN, **last: Any) -> Run:
    """Return the run after these ends, while a further machine boots."""
    several = setups(*ends)
    rank = len(several)
    booting = held({"id": f"r1.1.{rank}", "rank": rank, **last})
    workers = {each.node.id: worker(each.node.id, closed_at=NOW) for each in several}
    return advance(list_run(), commands, workers, [*several, booting], recipe(), NOW + 60).run


def test_setup_that_fails_on_three_machines_in_a_row_ends_the_run() -> None:
    """The other machines are ended, and the run has the outcome of the setup. Otherwise launches would never stop."""
    stopped = after_setups(*[FAILED_SETUP] * 3)
    assert stopped.ranks_stop == Stop(Outcome.CANCELLED, "setup failed on 3 machines in a row", NOW + 60)
    ends = setups(*[FAILED_SETUP] * 3, (Outcome.CANCELLED, Step.BOOT))
    workers = {each.node.id: worker(each.node.id, closed_at=NOW) for each in ends}
    after = advance(stopped, OPEN, workers, ends, recipe(), NOW + 60).run
    assert after.verdict
    assert (after.verdict.outcome, after.verdict.step, after.verdict.exit_code) == (*FAILED_SETUP, 7)
    assert after.ended_at == NOW + 60


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([FAILED_SETUP] * 2, id="two machines"),
        pytest.param([FAILED_SETUP, FAILED_SETUP, (Outcome.LOST, Step.PULL)], id="another end"),
        pytest.param([FAILED_SETUP, (Outcome.INTERRUPTED, Step.SETUP), FAILED_SETUP], id="not in a row"),
        pytest.param([(Outcome.LOST, Step.SETUP)] * 3, id="not the fault of the setup"),
    ],
)
def test_fewer_failures_of_setup_do_not_end_the_run(ends: list[tuple[Outcome, Step]]) -> None:
    assert after_setups(*ends).ranks_stop is None


def test_failures_of_setup_do_not_end_a_run_whose_commands_have_begun() -> None:
    assert after_setups(*[FAILED_SETUP] * 3, report=report(Step.COMMAND), reported_at=NOW).ranks_stop is None


def test_a_limit_of_setup_counts_as_its_failure() -> None:
    assert after_setups(*[(Outcome.TIMED_OUT, Step.SETUP)] * 3).ranks_stop
