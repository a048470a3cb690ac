"""The plan of one pass over stored records."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.listings import ASK_AGAIN
from provisioner.core.run.plan import Plan, Senses
from provisioner.core.run.progress import orders, proven
from provisioner.core.run.records import (
    Event,
    KnownMachine,
    Launch,
    Live,
    Node,
    Record,
    Run,
    TemplateHealth,
    Verdict,
)
from provisioner.core.run.states import State
from tests.support.samples import NOW, SPOT_A, at_work, machine, node, report, result, run, site

OVER = Verdict(Outcome.SUCCEEDED, "done", NOW, 0)
STOP = Stop(Outcome.CANCELLED, "stopped by a user", NOW)


def live(**records: Any) -> Live:
    """Return Live with these records only."""
    none: dict[str, Any] = dict.fromkeys(("runs", "nodes", "launches", "machines", "droughts", "templates"), ())
    return Live(**(none | {name: tuple(several) for name, several in records.items()}))


def open_launch(count: int = 1, **fields: Any) -> Launch:
    request = LaunchRequest("l1", site().template, Market.SPOT, (SPOT_A,), {"a": "subnet-a"}, count, {})
    return Launch(request, ("r1",), NOW, **fields)


def of_kind(records: list[Record], kind: type[Any]) -> list[Any]:
    return [each for each in records if isinstance(each, kind)]


def test_an_empty_store_gives_an_empty_plan() -> None:
    plan = Plan(live(), NOW)
    assert (plan.repeats, plan.due.runs, plan.work, plan.moves.records, plan.terminations) == ([], [], [], [], [])
    assert (plan.orders, plan.consoles, plan.archives, plan.finishes) == ([], [], [], [])
    assert (plan.room, plan.busy, plan.next_try_at) == (None, False, None)


def test_a_queued_run_is_due_at_its_next_try_and_not_before() -> None:
    later, stopped = run("r2", next_try_at=NOW + 1), run("r3", stop=STOP)
    plan = Plan(live(runs=[run(), later, stopped]), NOW)
    assert [each.id for each, _ in plan.due.runs] == ["r1"]
    assert plan.next_try_at == NOW


def test_a_run_with_a_recipe_of_another_version_is_refused() -> None:
    plan = Plan(live(runs=[run(recipe="{}")]), NOW)
    assert plan.due.runs == []
    assert [(each.state, each.verdict and each.verdict.outcome) for each in plan.due.refused] == [
        (State.STOPPING, Outcome.REFUSED)
    ]


def test_open_launches_are_repeated_unless_they_are_held() -> None:
    held, free = open_launch(held_until=NOW + 1), open_launch(held_until=NOW)
    assert Plan(live(launches=[held, free]), NOW).repeats == [free]


def test_machines_and_open_launches_count_against_the_machine_limit() -> None:
    records = live(launches=[open_launch(2)], machines=[machine()])
    assert [Plan(records, NOW, max_machines=most).room for most in (None, 5, 2)] == [None, 2, 0]


def test_work_orders_go_to_nodes_whose_machine_lives_and_whose_run_goes_on() -> None:
    runs = [at_work(State.BOOTING), at_work(State.BOOTING, stop=STOP, id="r2")]
    fresh, stopped = node(work_put_at=None), node(id="r2.1.0", run="r2", instance_id="i-2", work_put_at=None)
    plan = Plan(live(runs=runs, nodes=[fresh, stopped], machines=[machine(), machine(id="i-2")]), NOW)
    assert [each.id for _, each, _ in plan.work] == [fresh.id]
    gone = Plan(live(runs=runs[:1], nodes=[fresh]), NOW, [machine(ended_at=NOW)])
    assert gone.work == []


def test_ranks_get_all_addresses_once_these_are_known() -> None:
    """Each rank gets the addresses in the order of the ranks; an attempt without all of its ranks waits."""
    ranks = [node(id=f"n{rank}", rank=rank, instance_id=f"i-{rank}") for rank in (1, 0)]
    machines = [machine(id=f"i-{rank}", address=f"10.0.0.{rank}") for rank in (0, 1)]
    several = at_work(State.BOOTING, scale=2)
    plan = Plan(live(runs=[several], nodes=ranks, machines=machines), NOW)
    assert [each.id for each, _ in plan.peers] == ["n1", "n0"]
    assert {message.addresses for _, message in plan.peers} == {("10.0.0.0", "10.0.0.1")}
    assert {(message.run, message.attempt) for _, message in plan.peers} == {("r1", 1)}
    unknown = [machines[0], machine(id="i-1")]
    assert Plan(live(runs=[several], nodes=ranks, machines=unknown), NOW).peers == []
    told = [replace(ranks[0], peers_put_at=NOW), ranks[1]]
    assert [each.id for each, _ in Plan(live(runs=[several], nodes=told, machines=machines), NOW).peers] == ["n0"]
    adopted = Plan(live(runs=[several], nodes=ranks[:1], machines=machines), NOW)
    assert adopted.peers == []
    alone = Plan(live(runs=[at_work()], nodes=[node()], machines=[machine(address="10.0.0.1")]), NOW)
    assert alone.peers == []


def test_rank_that_must_stop_gets_no_work_order() -> None:
    stopped = at_work(State.BOOTING, scale=2, ranks_stop=STOP)
    assert Plan(live(runs=[stopped], nodes=[node(work_put_at=None)], machines=[machine()]), NOW).work == []


def test_a_result_gives_a_verdict_and_ends_the_machine_in_one_transaction() -> None:
    ended = node(result=result(Outcome.SUCCEEDED, 0))
    plan = Plan(live(runs=[at_work()], nodes=[ended], machines=[machine()]), NOW + 60)
    (records,) = plan.moves.records
    assert [each.state for each in of_kind(records, Run)] == [State.STOPPING]
    assert [each.verdict.outcome for each in of_kind(records, Node)] == [Outcome.SUCCEEDED]
    assert [each.end_wanted_at for each in of_kind(records, KnownMachine)] == [NOW + 60]
    assert [each.text for each in of_kind(records, Event)] == ["stopping: succeeded, its reason"]


def test_a_run_whose_reports_were_not_read_is_not_judged() -> None:
    """The machine may have reported, and the report may not have been read."""
    records = live(runs=[at_work()], nodes=[node()], machines=[machine()])
    much_later = NOW + 1e6
    assert Plan(records, much_later).moves.seek
    assert not Plan(records, much_later, senses=Senses(unheard=frozenset({"r1"}))).moves.seek


def test_boots_that_fail_together_are_all_counted() -> None:
    """Each count is stored as the next version of the previous one."""
    nodes = [
        node(id=f"r{n}.1.0", run=f"r{n}", instance_id=f"i-{n}", result_sought_at=NOW + 1e6 - 1) for n in range(1, 4)
    ]
    runs = [at_work(State.BOOTING, id=f"r{n}") for n in range(1, 4)]
    machines = [machine(id=f"i-{n}") for n in range(1, 4)]
    known = TemplateHealth("t", failures=1, version=7)
    plan = Plan(live(runs=runs, nodes=nodes, machines=machines, templates=[known]), NOW + 1e6)
    counts = [each for records in plan.moves.records for each in of_kind(records, TemplateHealth)]
    assert [(each.failures, each.version) for each in counts] == [(2, 7), (3, 8), (4, 9)]


def test_unfit_machine_counts_against_its_template_and_a_broken_one_does_not() -> None:
    """Docker is dead on each machine of a bad AMI; a broken GPU is the fault of one machine."""
    for unfit, counted in ((True, [2]), (False, [])):
        ended = node(report=report(Step.BOOT), result=result(Outcome.LOST, step=Step.BOOT, unfit=unfit))
        known = TemplateHealth("t", failures=1, version=7)
        plan = Plan(live(runs=[at_work()], nodes=[ended], machines=[machine()], templates=[known]), NOW + 60)
        counts = [each for records in plan.moves.records for each in of_kind(records, TemplateHealth)]
        assert [each.failures for each in counts] == counted
        assert [each.failed_at for each in counts] == [NOW + 60] * len(counted)


@pytest.mark.parametrize("step", list(Step))
def test_template_is_sound_once_a_machine_gets_beyond_its_boot(step: Step) -> None:
    """The first report comes before Docker has answered."""
    known = TemplateHealth("t", failures=2, reason="why", probe_at=NOW, failed_at=NOW, version=7)
    sound = TemplateHealth("t", failed_at=NOW, version=7)
    for before in (None, report(Step.BOOT)):
        assert proven(known, before, report(step)) == (None if step is Step.BOOT else sound)
    assert proven(known, report(Step.PULL), report(step)) is None, "it was counted when the work began"
    assert proven(sound, None, report(step)) is None
    assert proven(None, None, report(step)) is None


def test_console_of_a_machine_that_ended_without_a_report_is_read_before_the_verdict() -> None:
    """Only such a machine: the console of any other is read after the verdict, for the archive."""
    gone = machine(ended_at=NOW + 9)
    shown = Plan(live(runs=[at_work(State.BOOTING)], nodes=[node()]), NOW + 10, [gone]).last_words
    assert [each.machine.id for _, each in shown] == [gone.id]
    others = [
        (node(), machine()),
        (node(report=report(Step.BOOT)), gone),
        (node(result=result(Outcome.LOST)), gone),
        (node(verdict=OVER), gone),
        (node(), replace(gone, console="kept")),
    ]
    for each, held in others:
        assert Plan(live(runs=[at_work(State.BOOTING)], nodes=[each]), NOW + 10, [held]).last_words == []


def test_machines_of_one_attempt_that_never_boot_count_once() -> None:
    """They share a fault. Otherwise one run with many machines would stop all launches with its template."""
    late = {"result_sought_at": NOW + 1e6 - 1}
    nodes = [node(id=f"r1.1.{rank}", rank=rank, instance_id=f"i-{rank}", **late) for rank in range(3)]
    machines = [machine(id=f"i-{rank}") for rank in range(3)]
    plan = Plan(live(runs=[at_work(State.BOOTING, scale=3)], nodes=nodes, machines=machines), NOW + 1e6)
    counts = [each for records in plan.moves.records for each in of_kind(records, TemplateHealth)]
    assert [each.failures for each in counts] == [1]
    stopping = at_work(State.STOPPING, scale=3, ranks_stop=STOP)
    judged = replace(nodes[0], verdict=Verdict(Outcome.LOST, "no report", NOW))
    later = Plan(live(runs=[stopping], nodes=[judged, *nodes[1:]], machines=machines), NOW + 1e6)
    assert [each for records in later.moves.records for each in of_kind(records, TemplateHealth)] == []


def test_an_error_about_one_run_leaves_the_others_decided() -> None:
    broken = at_work(id="r0")
    ended = node(result=result(Outcome.SUCCEEDED, 0))
    unusable = node(id="r0.1.0", run="r0", instance_id="i-2", result=replace(ended.result, at="never"))  # type: ignore[type-var]
    plan = Plan(
        live(runs=[broken, at_work()], nodes=[unusable, ended], machines=[machine(), machine(id="i-2")]), NOW + 60
    )
    assert [of_kind(records, Run)[0].id for records in plan.moves.records] == ["r1"]
    assert [each.id for each, _ in plan.moves.errors] == ["r0"]


def test_terminations_are_those_wanted_and_not_requested_lately() -> None:
    wanted = machine(end_wanted_at=NOW)
    just_asked = machine(id="i-2", end_wanted_at=NOW, end_asked_at=NOW)
    plan = Plan(live(machines=[wanted, just_asked, machine(id="i-3")]), NOW + ASK_AGAIN - 1)
    assert [each.id for each in plan.terminations] == ["i-1"]
    assert len(Plan(plan.live, NOW + ASK_AGAIN).terminations) == 2


def test_orders_go_to_nodes_at_work_when_they_change() -> None:
    stopped = at_work(stop=STOP)
    assert Plan(live(runs=[at_work()], nodes=[node()], machines=[machine()]), NOW).orders == []
    assert Plan(live(runs=[stopped], nodes=[node()], machines=[machine()]), NOW).orders == [
        (stopped, node(), orders(stopped))
    ]
    over = node(verdict=OVER)
    assert Plan(live(runs=[stopped], nodes=[over], machines=[machine()]), NOW).orders == []


def test_a_node_without_a_result_is_archived_after_its_machine_ended_and_its_console_was_kept() -> None:
    """Until the machine has ended, its last bytes may still arrive."""
    lost = at_work(State.STOPPING, verdict=OVER)
    mute = node(verdict=replace(OVER, outcome=Outcome.LOST))
    records = live(runs=[lost], nodes=[mute])
    waiting = Plan(replace(records, machines=(machine(),)), NOW)
    assert [(each.machine.id) for _, each in waiting.consoles] == ["i-1"]
    assert waiting.archives == []
    heard = replace(records, nodes=(replace(mute, result_sought_at=NOW),))
    ended = Plan(heard, NOW, [machine(ended_at=NOW, console="last words")])
    assert ended.consoles == []
    assert [each.node.id for _, each in ended.archives] == [mute.id]


def test_a_result_is_looked_for_between_the_end_of_a_machine_and_the_archiving_of_its_log() -> None:
    """A machine that was given up may write its result just before its end; without it, its whole log counts as cut."""
    lost = at_work(State.STOPPING, verdict=OVER, ended_at=NOW)
    mute = node(verdict=replace(OVER, outcome=Outcome.LOST), result_sought_at=NOW - 1)
    records, gone = live(runs=[lost], nodes=[mute]), machine(ended_at=NOW, console="last words")
    alive = Plan(replace(records, machines=(machine(),)), NOW)
    assert (alive.moves.seek, alive.archives) == ([], [])
    unheard = Plan(records, NOW, [gone])
    assert ([each.node.id for each in unheard.moves.seek], unheard.archives) == ([mute.id], [])
    heard = Plan(replace(records, nodes=(replace(mute, result_sought_at=NOW),)), NOW, [gone])
    assert (heard.moves.seek, [each.node.id for _, each in heard.archives]) == ([], [mute.id])
    set_back = Plan(records, NOW - 10, [gone])
    assert (set_back.moves.seek, [each.node.id for _, each in set_back.archives]) == ([], [mute.id])


def test_a_node_with_a_result_is_archived_while_its_machine_still_ends() -> None:
    ended = node(verdict=OVER, result=result(Outcome.SUCCEEDED, 0))
    plan = Plan(live(runs=[at_work(State.STOPPING)], nodes=[ended], machines=[machine()]), NOW)
    assert [each.node.id for _, each in plan.archives] == [ended.id]


def test_a_run_finishes_when_logs_are_kept_and_machines_gone() -> None:
    over = at_work(State.STOPPING, verdict=OVER, ended_at=NOW)
    kept = node(verdict=OVER, archived_at=NOW)
    assert [each.id for each, _ in Plan(live(runs=[over], nodes=[kept]), NOW, [machine(ended_at=NOW)]).finishes] == [
        "r1"
    ]
    assert Plan(live(runs=[over], nodes=[kept], machines=[machine()]), NOW).finishes == []
    assert Plan(live(runs=[over], nodes=[node(verdict=OVER)]), NOW, [machine(ended_at=NOW)]).finishes == []


def test_a_queued_run_alone_needs_no_pass_soon_but_a_stopped_one_does() -> None:
    assert not Plan(live(runs=[run()]), NOW).busy
    assert Plan(live(runs=[run(stop=STOP)]), NOW).busy
    assert Plan(live(machines=[machine()]), NOW).busy


def test_a_state_that_a_report_brought_comes_before_the_other_events_of_the_report() -> None:
    heard = node(report=report(Step.PULL), reported_at=NOW + 5)
    plan = Plan(live(runs=[at_work(State.BOOTING)], nodes=[heard], machines=[machine()]), NOW + 6)
    (records,) = plan.moves.records
    (event,) = of_kind(records, Event)
    assert event.text.startswith("preparing")
    assert event.at < NOW + 5
