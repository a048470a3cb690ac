"""The lease around the passes: only one process acts, and a live one keeps the lease."""

import itertools

import pytest

from provisioner.core.errors import LeaseLost, Transient, WrongStore
from provisioner.core.run.states import State
from provisioner.ports.store import Lease
from provisioner.service.control_loop.loop import Intervals, Loop
from provisioner.service.control_loop.one_pass import PassResult
from provisioner.service.control_loop.ownership import take
from provisioner.service.control_loop.reconciler import Reconciler
from tests.service.agents import Script
from tests.service.alone import Alone
from tests.service.trouble import Call, Fate
from tests.service.world import World

LONG = 1000.0
LEASE = 120.0


def loop(alone: Alone, holder: str) -> Loop:
    """Return the loop of a process that acts or stands by."""
    alone.store.release(alone.lease)
    reconciler = Reconciler(alone.installation, alone.sites)
    return Loop(alone.installation, reconciler, holder, "daemon", Intervals(lease=LEASE))


def test_a_process_that_passes_keeps_its_lease_for_as_long_as_it_lives() -> None:
    """Each pass renews the lease; otherwise another process would act too after two minutes."""
    alone = Alone()
    acting, standby = loop(alone, "acting"), loop(alone, "standby")
    for _ in range(10):
        assert acting.once() is not None
        assert standby.once() is None
        held = alone.store.lease()
        assert held is not None
        assert (held.holder, held.expires_at) == ("acting", alone.clock.now() + LEASE)
        alone.clock.step(LEASE / 2)


def test_a_process_that_stands_still_loses_its_lease_to_another() -> None:
    """A hung process must not block the others, and does nothing when it resumes."""
    alone = Alone()
    hung, other = loop(alone, "hung"), loop(alone, "other")
    hung.once()
    alone.clock.step(LEASE + 1)
    assert other.once() is not None
    assert hung.once() is None
    assert (hung.acting, other.acting) == (False, True)


def test_a_process_that_loses_its_lease_within_a_pass_no_longer_counts_as_acting() -> None:
    """The process hangs during a pass, and another process takes over."""
    alone = Alone()
    other = loop(alone, "other")

    class Hung(Reconciler):
        def once(self, _: Lease) -> PassResult:
            alone.clock.step(LEASE + 1)
            assert other.once() is not None
            raise LeaseLost("the lease is another process's")

    hung = Loop(alone.installation, Hung(alone.installation, alone.sites), "hung", "daemon", Intervals(lease=LEASE))
    assert hung.once() is None
    assert (hung.acting, other.acting) == (False, True)


def test_a_process_on_a_bucket_of_another_store_does_not_act() -> None:
    """The process would end the machines of the other store. It releases its lease at once."""
    alone, copied = Alone(), Alone()
    take(alone.installation)
    copied.store.store_id, copied.bucket.objects = "f" * 32, alone.bucket.objects
    wrong = loop(copied, "wrong")
    with pytest.raises(WrongStore):
        wrong.once()
    assert not wrong.acting
    assert copied.store.lease() is None


def test_a_released_lease_is_free_at_once() -> None:
    """After a daemon is stopped, another process must not wait two minutes."""
    alone = Alone()
    first, second = loop(alone, "first"), loop(alone, "second")
    first.once()
    first.release()
    assert second.once() is not None


@pytest.mark.parametrize(("took", "interval"), [(0.0, 1.0), (0.4, 1.0), (3.0, 3.25)])
def test_a_pass_begins_one_second_after_the_last_one_began(took: float, interval: float) -> None:
    """A longer pass does not delay the next one, but a pause always remains."""
    alone, begun = Alone(), list[float]()

    class Slow(Reconciler):
        def once(self, _: Lease) -> PassResult:
            begun.append(alone.clock.elapsed())
            alone.clock.step(took)
            return PassResult(busy=True, seen=alone.store.changes())

    alone.store.release(alone.lease)
    slow = Loop(alone.installation, Slow(alone.installation, alone.sites), "slow", "daemon", Intervals())
    slow.run(lambda: len(begun) == 5)
    assert [round(after - before, 1) for before, after in itertools.pairwise(begun)] == [round(interval, 1)] * 4


def test_reports_that_cannot_be_read_raise_an_alarm_and_no_verdict() -> None:
    """An S3 outage is reported, and no machine is judged by missing reports."""
    outage = (100.0, 2000.0)

    def unreadable(call: Call) -> Fate:
        away = outage[0] < call.at - world.began < outage[1]
        return Fate.REFUSE if away and (call.port, call.method) == ("bucket", "list") else Fate.NONE

    world = World(scripts=lambda _: Script(command=3 * LONG), fates=unreadable)
    run = world.start(limits={"silence": "3m", "runtime": "2h"})
    _, service = world.incarnate()
    told: list[str] = []
    while world.now() < world.began + outage[1]:
        told += service.operator.step()
        world.advance(10.0)
    assert told
    found = world.store.run(run.id)
    assert found
    assert (found.state, found.verdict) == (State.RUNNING, None)


def test_a_listing_that_fails_raises_an_alarm_and_the_pass_goes_on() -> None:
    """One step's error must not stop the others: reports are still read."""
    world = World(scripts=lambda _: Script(command=60.0))
    run = world.start()
    _, service = world.incarnate()
    service.operator.step()
    world.advance(40.0)
    world.cloud.fail_next += [Transient("no listing")] * 2
    assert service.operator.step()
    found = world.store.run(run.id)
    assert found
    assert found.state is State.RUNNING
