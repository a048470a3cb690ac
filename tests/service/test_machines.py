"""Unclaimed machines, and what a listing proves."""

import pytest

from provisioner.core.cloud.machines import MachineState
from provisioner.core.errors import Transient
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.machines.listings import ABSENT, ASK_AGAIN
from provisioner.core.run.records import Verdict
from provisioner.service.control_loop.machines import EXAMINE_EVERY, Machines
from tests.service.alone import Alone
from tests.support import samples

TERMINATED = MachineState.TERMINATED


@pytest.fixture
def alone() -> Alone:
    return Alone()


@pytest.fixture
def machines(alone: Alone) -> Machines:
    return Machines(alone.installation)


def test_a_machine_whose_end_is_wanted_is_asked_to_end_until_a_listing_shows_it(
    alone: Alone, machines: Machines
) -> None:
    """EC2 may accept a request and lose it, so the request is repeated until the end is listed."""
    alone.launched()
    alone.known(end_wanted_at=alone.clock.now(), end_wanted_for="no run needs it")
    alone.shown()
    for _ in range(3):
        machines.look(alone.live(), alone.epoch)
        machines.terminate(alone.plan().terminations, alone.epoch)
        alone.clock.step(ASK_AGAIN)
    assert alone.cloud.asked == [{"i-1"}] * 3
    alone.cloud.listed.clear()
    alone.shown(state=TERMINATED)
    machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert len(alone.cloud.asked) == 3
    assert alone.machine().ended_at == alone.clock.now()


def test_a_machine_that_is_asked_to_end_is_not_asked_again_at_once(alone: Alone, machines: Machines) -> None:
    """Otherwise a pass each second would use up the account's request rate."""
    alone.launched()
    alone.known(end_wanted_at=alone.clock.now())
    machines.terminate(alone.plan().terminations, alone.epoch)
    alone.clock.step(ASK_AGAIN - 1)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == [{"i-1"}]


def test_a_machine_that_a_run_holds_is_not_asked_to_end(alone: Alone, machines: Machines) -> None:
    """Only machines with a wanted end are terminated."""
    alone.launched()
    alone.known()
    alone.shown()
    machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == []


def test_a_machine_that_is_shutting_down_is_not_asked_to_end(alone: Alone, machines: Machines) -> None:
    """It is already ending; large machines take minutes."""
    alone.launched()
    alone.known(end_wanted_at=alone.clock.now())
    alone.shown(state=MachineState.SHUTTING_DOWN)
    machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == []


def test_a_refused_end_does_not_count_as_accepted(alone: Alone, machines: Machines) -> None:
    """`wait` returns once the end is accepted; a refusal (termination protection, rights) is no acceptance."""
    alone.launched()
    alone.known("i-1", end_wanted_at=alone.clock.now())
    alone.known("i-2", end_wanted_at=alone.clock.now())
    alone.cloud.refused = {"i-1"}
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert (alone.machine("i-1").end_accepted_at, alone.machine("i-2").end_accepted_at) == (None, alone.clock.now())
    assert alone.machine("i-1").end_asked_at == alone.clock.now()


def test_a_machine_that_a_listing_lacks_for_an_hour_is_gone_and_not_before(alone: Alone, machines: Machines) -> None:
    """EC2's listings lag and flap: absence is proof only after the hour for which ended instances stay listed."""
    alone.launched()
    alone.known()
    for after, gone in [(60.0, False), (ABSENT - 60, False), (1.0, True)]:
        alone.clock.step(after)
        machines.look(alone.live(), alone.epoch)
        assert (alone.machine().ended_at is not None) is gone


def test_a_machine_that_is_listed_again_within_the_hour_is_alive(alone: Alone, machines: Machines) -> None:
    """The hour counts from the last listing with the machine."""
    alone.launched()
    alone.known()
    alone.clock.step(ABSENT - 60)
    alone.shown()
    machines.look(alone.live(), alone.epoch)
    alone.cloud.listed.clear()
    alone.clock.step(ABSENT - 60)
    machines.look(alone.live(), alone.epoch)
    assert alone.machine().ended_at is None


def test_absence_from_a_partial_listing_proves_nothing(alone: Alone, machines: Machines) -> None:
    """During a zone's trouble only known machines are listed, without those of the zone."""
    alone.launched()
    alone.known("i-1")
    alone.known("i-2")
    alone.cloud.unlistable = Transient("a zone is in trouble")
    alone.clock.step(3 * ABSENT)
    alone.shown("i-2", state=TERMINATED)
    machines.look(alone.live(), alone.epoch)
    assert alone.machine("i-1").ended_at is None
    assert alone.machine("i-2").ended_at == alone.clock.now()


def test_a_failed_listing_of_an_empty_store_is_an_error(alone: Alone, machines: Machines) -> None:
    """A failed listing must not count as an empty one."""
    alone.cloud.unlistable = Transient("no answer")
    with pytest.raises(Transient):
        machines.look(alone.live(), alone.epoch)


def test_a_machine_that_is_listed_alive_after_it_was_taken_for_gone_is_ended(alone: Alone, machines: Machines) -> None:
    """The obligation to end a machine never expires."""
    alone.launched()
    alone.known(ended_at=alone.clock.now(), ending_at=alone.clock.now())
    alone.shown()
    machines.look(alone.live(), alone.epoch)
    found = alone.machine()
    assert (found.ended_at, found.ending_at, found.end_wanted_at) == (None, None, alone.clock.now())
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == [{"i-1"}]


@pytest.mark.parametrize("judged", [False, True], ids=["without a verdict", "with a verdict"])
def test_a_claimed_machine_that_is_listed_alive_after_it_was_taken_for_gone(
    alone: Alone, machines: Machines, judged: bool
) -> None:
    """One of the listings is wrong: a healthy machine must not be ended for it, but one with a verdict must."""
    alone.launched()
    alone.known(ended_at=alone.clock.now(), ending_at=alone.clock.now())
    verdict = Verdict(Outcome.LOST, "it was gone", alone.clock.now()) if judged else None
    alone.store.save([samples.at_work()])
    alone.store.save([samples.node(verdict=verdict)])
    alone.shown()
    machines.look(alone.live(), alone.epoch)
    assert alone.machine().ended_at is None
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == ([{"i-1"}] if judged else [])


def test_an_unclaimed_machine_of_a_closed_launch_is_ended(alone: Alone, machines: Machines) -> None:
    """After a lost answer, only the launch's tag may identify a machine."""
    alone.launched()
    alone.shown()
    machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert alone.cloud.asked == [{"i-1"}]


def test_a_machine_of_an_open_launch_is_left_alone(alone: Alone, machines: Machines) -> None:
    """The launch's answer may still bind the machine to a run."""
    alone.launched(closed=False)
    alone.shown()
    sight = machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert (alone.cloud.asked, sight.foreign, alone.live().machines) == ([], (), ())


def test_a_machine_of_a_launch_that_this_store_never_made_is_shown_and_not_ended(
    alone: Alone, machines: Machines
) -> None:
    """The store may be wrong or lost: ending such machines could kill another installation's healthy runs."""
    alone.shown(launch="another-stores")
    alone.shown("i-2", launch="another-stores", state=TERMINATED)
    sight = machines.look(alone.live(), alone.epoch)
    machines.terminate(alone.plan().terminations, alone.epoch)
    assert [each.id for each in sight.foreign] == ["i-1"]
    assert alone.cloud.asked == []


def test_status_checks_are_asked_once_a_minute_and_only_of_silent_machines(alone: Alone, machines: Machines) -> None:
    """EC2 updates the checks once a minute, so more requests bring nothing."""
    alone.launched()
    silent = alone.known()
    machines.examine([], alone.epoch)
    assert alone.cloud.examined == 0
    machines.examine([silent], alone.epoch)
    machines.examine([silent], alone.epoch)
    assert alone.cloud.examined == 1
    alone.clock.step(EXAMINE_EVERY)
    alone.cloud.failing_checks = {"i-1"}
    machines.examine([silent], alone.epoch)
    assert alone.machine().impaired_at == alone.clock.now()
