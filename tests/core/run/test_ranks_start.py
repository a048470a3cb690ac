"""When the ranks of an attempt are ordered to start, and what happens if some of them are missing."""

from dataclasses import replace

import pytest

from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.progress import orders
from provisioner.core.run.states import State
from tests.support.ranks import GONE, LED, PULLING, READY, TOLD, WELL, ended, gang, later, outcome, ranks
from tests.support.samples import NOW, result


def test_ranks_start_when_all_are_ready() -> None:
    """The order to start is stored in the run, and is part of the orders for each machine."""
    preparing = gang(state=State.PREPARING, start_order=0)
    assert later(preparing, ranks(READY, PULLING, READY), NOW + 30).run is preparing
    assert orders(preparing).start == 0
    started = later(preparing, ranks(READY, READY, READY), NOW + 31).run
    assert (started.start_order, orders(started).start) == (1, 1)
    assert later(started, ranks(READY, READY, READY), NOW + 32).run is started


def test_ranks_do_not_start_after_one_of_them_has_ended() -> None:
    over = {"report": replace(READY["report"], ended=Outcome.INTERRUPTED), "reported_at": NOW + 25}
    found = later(gang(state=State.PREPARING, start_order=0), ranks(READY, over, READY), NOW + 30)
    assert found.run.start_order == 0
    assert found.run.ranks_stop


def test_adopted_attempt_without_some_of_its_ranks_does_not_start() -> None:
    """Its other machines are gone, so it is tried again at once."""
    preparing = gang(state=State.PREPARING, start_order=0)
    found = later(preparing, ranks(READY, READY), NOW + 30)
    assert found.run.start_order == 0
    assert found.run.ranks_stop
    over = later(found.run, ranks(*[{"result": result(Outcome.CANCELLED, step=Step.BARRIER)}] * 2), NOW + 40)
    assert (outcome(over), over.run.ended_at) == (Outcome.LOST, None)


def test_adopted_ranks_that_execute_go_on_but_do_not_succeed_alone() -> None:
    """A healthy machine is not ended because a store was lost; but a missing rank may have failed."""
    found = later(gang(start_order=0), ranks(WELL, WELL), TOLD)
    assert found.run.ranks_stop is None
    assert outcome(later(gang(), ranks(*[ended(Outcome.SUCCEEDED, 0)] * 2), TOLD)) is Outcome.LOST


def test_adopted_ranks_are_not_stopped_before_they_have_reported() -> None:
    """Only their reports show whether they execute."""
    assert later(gang(start_order=0), ranks(READY, {}), TOLD).run.ranks_stop is None


def test_adopted_workers_without_their_leader_are_stopped() -> None:
    held = [each for each in ranks(WELL, WELL, WELL) if each.node.rank]
    assert later(gang(), held, TOLD, **LED).run.ranks_stop
    assert later(gang(), held, TOLD).run.ranks_stop is None


@pytest.mark.parametrize("which", ["stop", "ranks_stop"])
def test_ranks_that_must_stop_do_not_start(which: str) -> None:
    stopped = gang(2, State.PREPARING, start_order=0, **{which: Stop(Outcome.CANCELLED, "", NOW)})
    assert later(stopped, ranks(READY, READY), NOW + 30).run.start_order == 0


def test_ranks_do_not_start_in_the_pass_in_which_one_is_judged() -> None:
    gone = READY | {"result_sought_at": NOW + 90}
    found = later(gang(2, State.PREPARING, start_order=0), ranks(READY, gone, m1=GONE), NOW + 91)
    assert found.run.start_order == 0


def test_order_to_start_is_for_one_attempt() -> None:
    assert orders(replace(gang(), attempt=2)).start == 0
