"""Further machines for a list run: when they are launched, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.launches import Refusal
from provisioner.core.commands.records import Batch, CommandList, Worker
from provisioner.core.errors import CloudError, Misconfigured, NoCapacity
from provisioner.core.protocol.messages import Notice, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.launching import plan_launches
from provisioner.core.run.lists import joining
from provisioner.core.run.lists.joining import NEEDLESS, PAUSE, as_planned, as_queued, joined, missing
from provisioner.core.run.lists.recalling import WORTH
from provisioner.core.run.records import Assignment, Event, Joining, KnownMachine, Launch, Node, Run, Verdict
from provisioner.core.run.states import State, Waiting
from tests.support.lists import NODE, batch, worker
from tests.support.samples import NOW, SPOT_A, at_work, held, machine, recipe, report, result, site

LONG = CommandList("r1", 1000, next=4, out=4)
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)


def list_run(state: State = State.RUNNING, **fields: Any) -> Run:
    text = recipe(command=["a", "b"], scale=4).dump()
    return at_work(state, **{"commands": 1000, "scale": 4, "recipe": text} | fields)


def wanted(
    run: Run | None = None,
    commands: CommandList = LONG,
    workers: Sequence[Worker] = (worker(),),
    several: Sequence[Assignment] = (held(),),
    now: float = NOW,
    out: int = 0,
) -> int:
    batches = [batch((0, out, 1))] if out else []
    return len(missing(run or list_run(), commands, {each.id: each for each in workers}, batches, several, now))


def test_as_many_machines_join_as_the_recipe_allows() -> None:
    assert missing(list_run(), LONG, {NODE: worker()}, [], [held()], NOW) == (1, 2, 3)
    assert wanted(list_run(scale=1)) == 0


def test_no_machine_joins_without_commands_for_its_slots() -> None:
    """Each runs two at once."""
    assert [wanted(commands=CommandList("r1", total)) for total in (2, 3, 4, 5, 6, 99)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("state", State)
def test_machines_join_while_the_run_has_one(state: State) -> None:
    busy = state in (State.BOOTING, State.PREPARING, State.RUNNING)
    assert bool(wanted(list_run(state))) == busy
    assert wanted(list_run(state, stop=STOP)) == wanted(list_run(state, ranks_stop=STOP)) == 0


def test_one_launch_is_open_at_a_time_and_waits_for_its_time() -> None:
    assert wanted(list_run(joining=Joining(1, launch="l2"))) == 0
    waits = list_run(joining=Joining(1, next_rank=7, next_try_at=NOW + 30))
    assert (wanted(waits), wanted(waits, now=NOW + 30)) == (0, 3)


def test_another_attempt_begins_anew() -> None:
    late = replace(list_run(joining=Joining(1, next_rank=7, next_try_at=NOW + 30)), attempt=2)
    again = held({"id": "r1.2.0", "attempt": 2})
    workers = {"r1.2.0": worker("r1.2.0")}
    assert missing(late, LONG, workers, [], [held(), again], NOW) == (1, 2, 3)


def test_no_machine_joins_that_would_begin_when_the_list_ends() -> None:
    """The first machine took 40 s to its first command."""
    began = held({"report": report(Step.COMMAND, began=NOW + 40, at=NOW + 50), "reported_at": NOW + 50})
    commands = CommandList("r1", 1000, next=960, succeeded=950, out=10)
    assert wanted(commands=commands, workers=[worker(rate=1.0)], several=[began]) == 3
    assert wanted(commands=commands, workers=[worker(rate=1.5)], several=[began]) == 0


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"verdict": Verdict(Outcome.LOST, "", NOW)}, id="lost"),
        pytest.param({"result": result(Outcome.INTERRUPTED)}, id="ended"),
        pytest.param({"report": report(Step.COMMAND, notice=Notice(NOW, NOW))}, id="will be interrupted"),
    ],
)
def test_a_machine_that_goes_is_replaced(fields: dict[str, Any]) -> None:
    """Its own commands are no reason for a new machine: it is not certain yet that it no longer runs them."""
    several = [held(fields), held({"id": "r1.1.1", "rank": 1})]
    workers = [worker(), worker("r1.1.1")]
    run = list_run(scale=2, joining=Joining(1, next_rank=2))
    assert wanted(run, workers=workers, several=several) == 1
    assert wanted(run, commands=CommandList("r1", 4, next=4, out=4), workers=workers, several=several, out=2) == 0


def test_commands_that_can_be_recalled_are_reasons_for_a_machine() -> None:
    """Not those that were recalled before and stayed."""
    all_out = CommandList("r1", 6, next=6, out=6)

    def joins(*batches: Batch) -> int:
        return len(missing(list_run(), all_out, {NODE: worker()}, batches, [held()], NOW))

    assert joins(batch((0, 6, 1))) == 2
    assert joins(batch((0, 6, 1), recall_at=NOW)) == 0
    assert joins(batch((0, 3, 1), recall_at=NOW, kept=3), batch((3, 3, 1), number=2)) == 2
    workers = {NODE: worker(), "r1.1.1": worker("r1.1.1", released_at=NOW)}
    both = [held(), held({"id": "r1.1.1", "rank": 1})]
    run = list_run(joining=Joining(1, next_rank=2))
    assert missing(run, all_out, workers, [batch((0, 6, 1))], both, NOW) == (), "a machine was released instead"
    slow, fast = worker(rate=0.03), worker(rate=0.04)
    assert [
        len(missing(list_run(), all_out, {NODE: each}, [batch((0, 6, 1))], [held()], NOW)) for each in (slow, fast)
    ] == [2, 0], "the last of them begins after 133 s, or after 100 s"


def test_no_machine_joins_for_commands_that_would_not_be_recalled_for_it() -> None:
    """They begin too soon, though a machine needs only 2 s: it would be released, and the next one launched."""
    quick = held({"report": report(Step.COMMAND, began=NOW + 2), "reported_at": NOW})
    all_out = CommandList("r1", 6, next=6, out=6)

    def joins(seconds: float) -> int:
        """Return how many machines join if the last of the four that do not run begins after `seconds`."""
        fast = worker(rate=4 / seconds)
        return len(missing(list_run(), all_out, {NODE: fast}, [batch((0, 6, 1))], [quick], NOW))

    assert (joins(WORTH - 1), joins(WORTH + 1)) == (0, 2)


def test_a_machine_without_a_worker_is_on_its_way() -> None:
    assert wanted(several=[held(), held({"id": "r1.1.1", "rank": 1})]) == 0


def test_after_three_useless_machines_there_is_a_pause() -> None:
    """Their start script fails, for example."""
    failed = Verdict(Outcome.FAILED, "setup failed", NOW, 1, Step.SETUP)
    bad = [held({"id": f"r1.1.{rank}", "rank": rank, "verdict": failed}) for rank in (1, 2, 3)]
    workers = [worker(), *(worker(each.node.id) for each in bad)]
    run = list_run(joining=Joining(1, next_rank=4))
    assert wanted(run, workers=workers, several=[held(), *bad]) == 0
    assert wanted(run, workers=workers, several=[held(), *bad], now=NOW + PAUSE) == 3
    assert wanted(run, workers=workers, several=[held(), *bad[:2]]) == 3
    useful = [workers[0], workers[1], workers[2], replace(workers[3], ended=1)]
    assert wanted(run, workers=useful, several=[held(), *bad]) == 3


def launched(run: Run, count: int = 3) -> tuple[Launch, Run]:
    """Plan a launch for further machines; return it, and the run."""
    ranks = tuple(range(joining.of(run).next_rank, joining.of(run).next_rank + count))
    by = recipe(command=["a", "b"], scale=4)
    plan = plan_launches([(as_queued(run), by)], site(), {}, {}, None, NOW, iter(["l2"]), joins={run.id: ranks})
    (launch,), (found,) = plan.launches, plan.runs
    return launch, as_planned(run, found, NOW)


def test_further_machines_are_launched_in_one_call_that_may_give_fewer() -> None:
    launch, run = launched(list_run())
    assert (launch.request.count, launch.request.together, launch.ranks) == (3, False, (1, 2, 3))
    assert (run.state, run.launch, run.joining) == (State.RUNNING, "l1", Joining(1, launch="l2"))


def test_two_lists_do_not_share_a_launch() -> None:
    by = recipe(command=["a", "b"], scale=4)
    several = [as_queued(list_run()), as_queued(list_run(id="r2"))]
    joins = {"r1": (1,), "r2": (1,)}
    plan = plan_launches([(run, by) for run in several], site(), {}, {}, None, NOW, iter(["l2", "l3"]), joins=joins)
    assert [launch.runs for launch in plan.launches] == [("r1",), ("r2",)]


def answer(run: Run, launch: Launch, machines: int, *errors: CloudError) -> tuple[Run, list[Node], list[str]]:
    """Return the run after this answer, the new nodes, and why machines are ended."""
    several = [machine(id=f"i-{number}", launch="l2") for number in range(machines)]
    refusals = [Refusal(error, SPOT_A) for error in errors]
    records = joined(launch, run, several, refusals, {}, 1, NOW + 5)
    assert next(each for each in records if isinstance(each, Launch)).closed_at == NOW + 5
    after = next((each for each in records if isinstance(each, Run)), run)
    ended = [each.end_wanted_for for each in records if isinstance(each, KnownMachine) and each.end_wanted_at]
    assert bool([each for each in records if isinstance(each, Event)]) == bool(
        [each for each in records if isinstance(each, Node)]
    )
    return after, [each for each in records if isinstance(each, Node)], ended


def test_each_machine_joins_the_attempt_with_a_rank_of_its_own() -> None:
    launch, run = launched(list_run())
    after, nodes, ended = answer(run, launch, 3)
    assert [(each.id, each.rank, each.instance_id) for each in nodes] == [
        ("r1.1.1", 1, "i-0"),
        ("r1.1.2", 2, "i-1"),
        ("r1.1.3", 3, "i-2"),
    ]
    assert (after.joining, after.state, after.attempt, ended) == (Joining(1, next_rank=4), State.RUNNING, 1, [])


def test_without_capacity_for_all_the_others_are_tried_again() -> None:
    launch, run = launched(list_run())
    after, nodes, _ = answer(run, launch, 1, NoCapacity("none left", "InsufficientInstanceCapacity"))
    assert (len(nodes), after.state) == (1, State.RUNNING)
    assert after.joining
    assert (after.joining.next_rank, after.joining.launch, after.joining.waiting) == (4, "", Waiting.CAPACITY)
    assert (after.joining.next_try_at, after.waiting) == (NOW + 5, None), "other offers may have some"


def test_a_wrong_setting_does_not_end_a_run_that_has_a_machine() -> None:
    launch, run = launched(list_run())
    after, _, _ = answer(run, launch, 0, Misconfigured("no such subnet", "InvalidSubnetID.NotFound"))
    assert (after.state, after.verdict) == (State.RUNNING, None)
    assert after.joining
    assert (after.joining.waiting, after.joining.waiting_for) == (
        Waiting.CONFIGURATION,
        "InvalidSubnetID.NotFound: no such subnet",
    )


@pytest.mark.parametrize(
    "fields",
    [{"state": State.STOPPING}, {"state": State.QUEUED, "attempt": 2}, {"stop": STOP}, {"ranks_stop": STOP}],
    ids=str,
)
def test_machines_that_arrive_too_late_are_ended(fields: dict[str, Any]) -> None:
    launch, run = launched(list_run())
    after, nodes, ended = answer(replace(run, **fields), launch, 2)
    assert (nodes, ended, after.state) == ([], [NEEDLESS, NEEDLESS], fields.get("state", State.RUNNING))


def test_an_answer_counts_once() -> None:
    launch, run = launched(list_run())
    after, _, _ = answer(run, launch, 3)
    assert answer(after, launch, 3) == (after, [], [NEEDLESS] * 3)
