"""The fakes of unit tests: they keep the ports' contracts, and fail on request."""

import pytest

from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import Image
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.errors import Conflict, Misconfigured, NoAnswer, NoCapacity, Throttled, Transient
from provisioner.rehearsal.ec2.conditions import Conditions
from provisioner.rehearsal.fakes.bucket import MemoryBucket
from provisioner.rehearsal.fakes.clock import InlinePool, StepClock
from provisioner.rehearsal.fakes.cloud import FakeCloud

A = Offer(Market.SPOT, "g5.xlarge", "us-east-1a")
B = Offer(Market.SPOT, "g5.xlarge", "us-east-1b")


def request(cloud: FakeCloud, token: str = "launch-1", count: int = 1) -> LaunchRequest:
    template = Template(Image("ami-1", "/dev/sda1", "x86_64"), "arn:profile", (), 100, "#!/bin/sh\n")
    return LaunchRequest(token, template, Market.SPOT, (A, B), cloud.subnets, count, {LAUNCH_TAG: token})


def test_a_launch_and_an_end() -> None:
    """Launched machines are found by their launch; ended ones have the cause of their end."""
    clock = StepClock()
    cloud = FakeCloud(clock, Conditions(boot_delay=5))
    (one,) = cloud.launch(request(cloud)).machines
    assert [machine.state for machine in cloud.machines_of("launch-1")] == [MachineState.PENDING]
    clock.step(5)
    assert cloud.machines().machines[0].state == MachineState.RUNNING
    assert cloud.terminate([one.instance_id, "i-unknown"]).keys() == {"i-unknown"}
    (ended,) = cloud.machines_known([one.instance_id, "i-unknown"]).machines
    assert (ended.state, ended.ending) == (MachineState.TERMINATED, Ending.ASKED)


def test_dry_offers_are_refused_by_name() -> None:
    """With `no_capacity_in` the launch uses other offers; without any offer the answer is empty."""
    cloud = FakeCloud(StepClock())
    cloud.no_capacity_in = {A}
    answer = cloud.launch(request(cloud))
    assert [one.offer for one in answer.machines] == [B]
    assert [(one.offer, type(one.error)) for one in answer.refusals] == [(A, NoCapacity)]
    cloud.no_capacity_in = {A, B}
    assert cloud.launch(request(cloud, "launch-2")).machines == ()


def test_a_lost_answer_is_found_by_replaying() -> None:
    """NoAnswer is raised after the effect: the same request returns the same machines."""
    cloud = FakeCloud(StepClock())
    cloud.lose_answer_of.append("launch")
    with pytest.raises(NoAnswer):
        cloud.launch(request(cloud))
    assert len(cloud.machines().machines) == 1
    assert len(cloud.launch(request(cloud)).machines) == 1
    assert len(cloud.machines().machines) == 1
    with pytest.raises(Conflict):
        cloud.launch(request(cloud, count=2))


def test_failures_come_in_the_order_given() -> None:
    """Each call raises the next error of `fail_next`; then calls succeed."""
    cloud = FakeCloud(StepClock())
    cloud.fail_next = [Throttled("slow down"), Misconfigured("no right")]
    for kind in (Throttled, Misconfigured):
        with pytest.raises(kind):
            cloud.machines()
    assert cloud.machines().machines == ()


def test_a_bucket_in_memory() -> None:
    """Conditions, order and lost answers follow the port's contract."""
    bucket = MemoryBucket()
    assert bucket.put("b", b"1", if_absent=True)
    assert not bucket.put("b", b"2", if_absent=True)
    bucket.put("a", b"")
    assert [entry.key for entry in bucket.list("", after="a")] == ["b"]
    bucket.lose_answer_of.append("put")
    with pytest.raises(Transient):
        bucket.put("c", b"3", if_absent=True)
    assert bucket.get("c") == b"3"
    assert not bucket.put("c", b"4", if_absent=True)
    bucket.delete(["a", "none"])
    assert bucket.get("a") is None


def test_an_item_of_a_pool_fails_alone() -> None:
    """An exception is the result of its item only."""
    results = InlinePool().map(lambda item: 1 // item, [1, 0])
    assert results[0] == 1
    assert isinstance(results[1], ZeroDivisionError)
