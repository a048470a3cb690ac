"""The reaper, which needs no store: which machines it ends, and by which clock."""

import pytest

from provisioner.core.cloud.machines import Listing, MachineState
from provisioner.service.collectors.reaper import UNTAGGED_LIFETIME, reap, tell
from tests.service.alone import Alone

LIFETIME, GRACE = 3600.0, 900.0


@pytest.fixture
def alone() -> Alone:
    return Alone()


@pytest.mark.parametrize(("over", "ended"), [(-1.0, False), (0.0, False), (1.0, True)])
def test_a_machine_is_ended_past_its_lifetime_and_the_grace_and_not_before(
    alone: Alone, over: float, ended: bool
) -> None:
    """The fuse and the reconciler come first, so that a healthy run is never cut short."""
    alone.shown(lifetime=LIFETIME, age=LIFETIME + GRACE + over)
    found = reap(alone.cloud, GRACE)
    assert [each.over_by for each in found] == ([over] if ended else [])
    assert alone.cloud.asked == ([{"i-1"}] if ended else [])


def test_a_machine_without_a_lifetime_tag_is_ended_after_a_day(alone: Alone) -> None:
    """An untagged machine has no other collector: the tag was removed, or the launch went wrong."""
    alone.shown("i-young", age=UNTAGGED_LIFETIME + GRACE - 1)
    alone.shown("i-old", age=UNTAGGED_LIFETIME + GRACE + 1)
    assert [each.machine.id for each in reap(alone.cloud, GRACE)] == ["i-old"]


def test_age_is_measured_by_the_clouds_clock(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer whose clock is a day ahead must not end healthy machines."""
    machine = alone.shown(lifetime=LIFETIME)
    listing = Listing(machine.launch_time + LIFETIME, (machine,))
    monkeypatch.setattr(alone.cloud, "machines", lambda: listing)
    alone.clock.step(10 * LIFETIME)
    assert reap(alone.cloud, GRACE) == []


@pytest.mark.parametrize("state", [MachineState.SHUTTING_DOWN, MachineState.TERMINATED])
def test_a_machine_that_is_ending_is_not_ended_again(alone: Alone, state: MachineState) -> None:
    """An ended machine stays listed for about an hour."""
    alone.shown(state=state, lifetime=LIFETIME, age=10 * LIFETIME)
    assert reap(alone.cloud, GRACE) == []
    assert alone.cloud.asked == []


def test_a_refused_end_is_reported_with_its_error(alone: Alone) -> None:
    """An operator must see that a machine still runs; the others are ended anyway."""
    for id in ("i-1", "i-2"):
        alone.shown(id, lifetime=LIFETIME, age=10 * LIFETIME)
    alone.cloud.refused = {"i-1"}
    found = {each.machine.id: each.error for each in reap(alone.cloud, GRACE)}
    assert found["i-1"] is not None
    assert found["i-2"] is None
    tell(reap(alone.cloud, GRACE), alone.journal, 0.0)
    assert [("error" in line, line["instance"]) for line in alone.journal.told] == [(True, "i-1"), (False, "i-2")]
