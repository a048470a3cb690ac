"""What a spot interruption notice for one rank means for the others."""

from dataclasses import replace

from provisioner.core.protocol.messages import Notice
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.progress import orders
from provisioner.core.run.ranks import COMMON_INSTANT, LAST_BYTES
from provisioner.core.run.states import State
from tests.support.ranks import EXECUTING, READY, TOLD, WELL, gang, later, ranks
from tests.support.samples import NOW, report


def test_notice_names_one_instant_for_all_ranks() -> None:
    """Otherwise a common checkpoint would wait for ranks that are already stopped. SIGKILL has a common time, too."""
    noticed = {"report": replace(EXECUTING, notice=Notice(NOW + 220, NOW + 99)), "reported_at": NOW + 100}
    found = later(gang(), ranks(WELL, noticed, WELL), TOLD)
    stop = orders(found.run).stop
    assert stop
    assert (stop.outcome, stop.begin_at, stop.kill_at) == (
        Outcome.INTERRUPTED,
        TOLD + COMMON_INSTANT,
        NOW + 220 - LAST_BYTES,
    )
    assert "rank 1" in stop.reason


def test_notice_for_a_rank_that_has_ended_stops_no_other_rank() -> None:
    done = replace(EXECUTING, ended=Outcome.SUCCEEDED, notice=Notice(NOW + 220, NOW + 99))
    found = later(gang(), ranks(WELL, {"report": done, "reported_at": NOW + 100}, WELL), TOLD)
    assert found.run.ranks_stop is None


def test_notice_that_was_read_too_late_leaves_the_others_their_grace_period() -> None:
    """The control plane was away; the machine is probably gone."""
    noticed = {"report": replace(EXECUTING, notice=Notice(TOLD - 5, NOW)), "reported_at": NOW + 100}
    stop = orders(later(gang(), ranks(WELL, noticed, WELL), TOLD).run).stop
    assert stop
    assert (stop.begin_at, stop.kill_at) == (TOLD, 0.0)


def test_notice_before_the_start_makes_no_common_instant() -> None:
    """The rank with the notice ends by itself. Then the others are ordered to stop."""
    noticed = {"report": report(Step.PULL, notice=Notice(NOW + 220, NOW + 99)), "reported_at": NOW + 100}
    found = later(gang(state=State.PREPARING, start_order=0), ranks(READY, noticed, READY), TOLD)
    assert found.run.ranks_stop is None


def test_short_notice_leaves_time_between_sigterm_and_sigkill() -> None:
    noticed = {"report": replace(EXECUTING, notice=Notice(TOLD + 16, NOW + 99)), "reported_at": NOW + 100}
    stop = orders(later(gang(), ranks(WELL, noticed, WELL), TOLD).run).stop
    assert stop
    assert (stop.begin_at, stop.kill_at) == (TOLD + 2, TOLD + 8)


def test_notice_for_the_only_machine_of_a_run_needs_no_order() -> None:
    """Its agent acts alone; the agent of an earlier version would kill the job after `stop_grace`."""
    noticed = {"report": replace(EXECUTING, notice=Notice(NOW + 220, NOW + 99)), "reported_at": NOW + 100}
    assert later(gang(1), ranks(noticed), TOLD).run.ranks_stop is None
