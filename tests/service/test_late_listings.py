"""EC2 lists machines long after their launch."""

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.rehearsal.ec2.conditions import Conditions
from tests.service.agents import Script
from tests.service.world import World


@pytest.mark.parametrize("scale", [1, 2])
def test_machine_that_is_listed_30_s_after_its_launch_works_once(scale: int) -> None:
    """DescribeInstances lags behind CreateFleet (EC2 Developer Guide, "Eventual consistency")."""
    world = World(conditions=Conditions(boot_delay=5, end_delay=5, lag=30), scripts=lambda _: Script(command=10))
    run = world.start(scale=scale)
    world.run()
    world.check()
    record = world.runs.record(run.id)
    assert record.verdict is not None
    assert (record.verdict.outcome, record.attempt) == (Outcome.SUCCEEDED, 1)
    assert len(world.model.every()) == scale
