"""What a pass does for list runs."""

from dataclasses import replace
from typing import Any

from provisioner.core.commands.records import CommandList
from provisioner.core.protocol.messages import ListOrders, Orders, Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.launching import plan_launches
from provisioner.core.run.plan import Plan
from provisioner.core.run.progress import orders, orders_digest
from provisioner.core.run.records import Live, Run, Verdict
from provisioner.core.run.states import State
from tests.support.lists import a_list, batch, worker
from tests.support.samples import NOW, at_work, machine, node, recipe, report, run, site

OUT = a_list(12, next=4, out=4)


def live(commands: CommandList = OUT, of: Run | None = None, **records: Any) -> Live:
    """Return the live records of one list run with a machine at work, with some replaced."""
    made: dict[str, Any] = {
        "runs": (of or at_work(commands=12),),
        "nodes": (node(),),
        "machines": (machine(),),
        "lists": (commands,),
        "workers": (worker(batches=1),),
        "batches": (batch((0, 4, 1), put_at=NOW),),
    }
    return Live(**{"launches": (), "droughts": (), "templates": ()} | made | records)


def test_a_machine_gets_the_orders_of_its_own() -> None:
    """Those of another list are no cause to put them again."""
    plan = Plan(live(), NOW)
    ((told, to, wanted),) = plan.orders
    assert (told.id, to, wanted) == ("r1", node(), Orders(commands=ListOrders(1)))
    known = node(orders=orders_digest(wanted))
    assert Plan(live(nodes=(known,)), NOW).orders == []
    more = live(nodes=(known,), workers=(worker(batches=2),))
    assert [found[2].commands for found in Plan(more, NOW).orders] == [ListOrders(2)]


def test_a_machine_without_a_batch_needs_no_orders() -> None:
    assert Plan(live(workers=(), batches=()), NOW).orders == []


def test_machines_that_take_no_orders_get_none() -> None:
    for other in (node(work_put_at=None), node(verdict=Verdict(Outcome.LOST, "", NOW))):
        assert Plan(live(nodes=(other,)), NOW).orders == []


def test_the_orders_of_other_runs_are_as_before() -> None:
    single = run("r2", state=State.RUNNING, attempt=1, followed_until=NOW)
    other = node(id="r2.1.0", run="r2", instance_id="i-2")
    both = live(runs=(at_work(commands=12), single), nodes=(node(), other), machines=(machine(), machine(id="i-2")))
    found = {told.id: wanted for told, _, wanted in Plan(both, NOW).orders}
    assert found == {"r1": Orders(commands=ListOrders(1)), "r2": orders(single)}


def test_a_run_ends_with_its_last_command() -> None:
    plan = Plan(live(a_list(12, next=12, succeeded=12)), NOW)
    ((ended, *_),) = plan.moves.records
    assert isinstance(ended, Run)
    assert (ended.state, ended.ended_at) == (State.STOPPING, NOW)
    assert plan.moves.errors == []


def test_the_workers_of_a_run_are_its_own() -> None:
    """The next attempt waits for its own worker to be closed."""
    lost = node(verdict=Verdict(Outcome.LOST, "gone", NOW), report=report(Step.COMMAND), reported_at=NOW)
    other = worker("r2.1.0", closed_at=NOW)
    still = live(nodes=(lost,), workers=(worker(), other), machines=(machine(end_wanted_at=NOW),))
    assert Plan(still, NOW).moves.records == []
    closed = replace(still, workers=(worker(closed_at=NOW), other))
    ((ended, *_),) = Plan(closed, NOW).moves.records
    assert isinstance(ended, Run)
    assert ended.state is State.STOPPING


def test_a_run_is_finished_only_after_its_list_was_sealed() -> None:
    """Its receipt counts the commands, and every command has its final state."""
    over = at_work(State.STOPPING, commands=12, ended_at=NOW, certain_at=NOW)
    gone, archived = machine(ended_at=NOW), node(archived_at=NOW)
    waits = live(of=over, nodes=(archived,), machines=())
    assert Plan(waits, NOW, [gone]).finishes == []
    sealed = replace(waits, lists=(a_list(12, next=12, not_run=12, sealed_at=NOW),))
    assert [found[0] for found in Plan(sealed, NOW, [gone]).finishes] == [over]
    single = replace(over, commands=0)
    assert [found[0] for found in Plan(replace(waits, runs=(single,)), NOW, [gone]).finishes] == [single]


def test_a_list_run_has_no_peers() -> None:
    """Its machines do not know each other."""
    several = at_work(commands=12, scale=2)
    assert several.together == 1
    assert replace(several, commands=0).together == 2
    address = machine(address="10.0.0.1")
    assert Plan(live(of=several, machines=(address,)), NOW).peers == []


def test_machines_of_lists_share_a_launch() -> None:
    """Each list run needs one machine, and no machine waits for another."""
    several = recipe(command=["true", "false"])
    waiting = [(run(id, commands=2), several) for id in ("r1", "r2")]
    (launch,) = plan_launches(waiting, site(), {}, {}, None, NOW, iter(["l1"])).launches
    assert (launch.request.count, launch.request.together, launch.runs) == (2, False, ("r1", "r2"))


def test_a_list_run_may_be_stopped_before_it_has_a_machine() -> None:
    stop = Stop(Outcome.CANCELLED, "stopped by a user", NOW)
    queued = run(state=State.QUEUED, commands=12, stop=stop)
    empty = live(a_list(12), queued, nodes=(), machines=(), workers=(), batches=())
    ((ended, *_),) = Plan(empty, NOW).moves.records
    assert isinstance(ended, Run)
    assert ended.ended_at == NOW
