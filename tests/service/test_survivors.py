"""Runs that lose a machine and keep the others, with the real services, scripted machines and virtual time."""

from collections.abc import Sequence
from typing import Any

import pytest

from provisioner.core.protocol.messages import Report
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State, Waiting
from provisioner.core.run.survivors import SHORTEST
from provisioner.rehearsal.ec2.conditions import Capacity, Conditions
from tests.service.agents import Script
from tests.service.world import World

WHOLE: dict[str, Any] = {"scale": 3, "use_spot_instance": True, "limits": {"stop_grace": "10s"}}


def world(conditions: Conditions | None = None, **more: Any) -> World:
    """Return a world whose machines execute their command for five minutes."""
    return World(conditions, lambda _: Script(command=300.0), **more)


def nodes(played: World, run: Run, attempt: int) -> Sequence[Node]:
    found = [node for node in played.store.nodes(run.id) if node.attempt == attempt]
    return sorted(found, key=lambda node: node.rank)


def machines(played: World, run: Run, attempt: int) -> list[str]:
    return [node.instance_id for node in nodes(played, run, attempt)]


def interrupt(played: World, at: float, rank: int) -> None:
    """Plan a spot notice for this rank of the run's present attempt."""

    def notice() -> None:
        [run] = played.store.live().runs
        instance = machines(played, run, run.attempt)[rank]
        played.model.interrupt(instance, played.now())

    played.plan(at, notice)


def played(made: World, **spec: Any) -> Run:
    run = made.start(**{**WHOLE, **spec})
    made.run()
    made.check()
    done = made.store.run(run.id)
    assert done
    return done


def test_one_machine_is_launched_for_one_that_was_interrupted() -> None:
    made = world()
    interrupt(made, 100.0, 1)
    done = played(made)
    assert done.verdict
    assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 2)
    first, second = machines(made, done, 1), machines(made, done, 2)
    assert [before == after for before, after in zip(first, second, strict=True)] == [True, False, True]
    assert [node.reused for node in nodes(made, done, 2)] == [True, False, True]
    assert len(made.cloud.model.every()) == 4


def test_machine_works_for_several_attempts() -> None:
    """Rank 0 stays on one machine. The new machine of the second attempt is kept for the third."""
    made = world()
    interrupt(made, 100.0, 1)
    interrupt(made, 250.0, 2)
    done = played(made)
    assert done.verdict
    assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 3)
    used = [machines(made, done, attempt) for attempt in (1, 2, 3)]
    assert [len({each[rank] for each in used}) for rank in range(3)] == [1, 2, 2]
    assert len(made.cloud.model.every()) == 5


def test_second_machine_is_interrupted_while_the_first_is_replaced() -> None:
    """The machine that was launched for one missing rank is ended: by now two ranks are missing."""
    made = world(Conditions(boot_delay=30.0))
    interrupt(made, 100.0, 1)
    interrupt(made, 113.0, 2)
    done = played(made)
    assert done.verdict
    assert done.verdict.outcome is Outcome.SUCCEEDED
    last = machines(made, done, done.attempt)
    assert last[0] == machines(made, done, 1)[0]
    assert not {last[1], last[2]} & set(machines(made, done, 1))


#: After the first three machines, EC2 has none for a quarter of an hour.
DROUGHT = Conditions(capacity=(Capacity(3), Capacity(None, at=900.0)))


def test_machines_are_released_if_none_can_be_launched_near_them() -> None:
    """Then all machines are launched together, and no machine has waited for longer than the limit."""
    made = world(DROUGHT)
    interrupt(made, 100.0, 1)
    done = played(made)
    assert done.verdict
    assert done.verdict.outcome is Outcome.SUCCEEDED
    assert not set(machines(made, done, 1)) & set(machines(made, done, 2))
    for machine in machines(made, done, 1):
        assert made.cloud.model.history(machine)[-1].at - made.began < 100.0 + 120.0 + SHORTEST


def test_stop_of_a_run_that_keeps_machines_ends_them_at_once() -> None:
    made = world(DROUGHT)
    interrupt(made, 100.0, 1)
    run = made.start(**WHOLE)

    def stop() -> None:
        waiting = made.store.run(run.id)
        assert waiting
        assert (waiting.state, waiting.waiting) == (State.QUEUED, Waiting.CAPACITY)
        assert waiting.kept_until is not None
        made.runs.stop(run.id)

    made.plan(140.0, stop)
    made.run()
    made.check()
    for machine in machines(made, run, 1)[::2]:
        assert made.cloud.model.history(machine)[-1].at - made.began < 170.0


@pytest.mark.parametrize("survivors", ["release", "keep"])
def test_on_demand_machines_are_kept_only_if_the_recipe_says_so(survivors: str) -> None:
    """The third machine loses its power."""
    scripts = iter([Script(command=300.0), Script(command=300.0), Script(command=300.0, off_at=60.0)])
    made = World(scripts=lambda _: next(scripts, Script(command=300.0)))
    done = played(made, use_spot_instance=False, gang={"survivors": survivors})
    assert (len(made.cloud.model.every()), done.attempt) == (4 if survivors == "keep" else 6, 2)


def test_late_report_of_the_last_attempt_is_ignored() -> None:
    """It says that the machine has finished. The second attempt has not even begun."""
    made, reports = world(), list[Report]()
    interrupt(made, 100.0, 1)
    run = made.start(**WHOLE)

    def look() -> None:
        reports.extend(node.report for node in nodes(made, run, 2) if node.reused and node.report)

    for second in range(100, 300):
        made.plan(float(second), look)
    made.run()
    made.check()
    assert {(report.attempt, report.finished) for report in reports if report.sequence} >= {(2, False)}
    assert {report.attempt for report in reports} == {2}
