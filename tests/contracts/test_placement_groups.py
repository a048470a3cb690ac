"""The contract of `ports/cloud.py` for placement groups."""

from dataclasses import replace

import pytest

from provisioner.core import errors
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.offers import Offer
from provisioner.rehearsal.ec2.conditions import Capacity, Where
from tests.contracts.stage import Raise, Stage, ids


def clustered(up: Stage, token: str = "launch-1", count: int = 2) -> LaunchRequest:
    request = up.request(token, count=count)
    return replace(request, together=True, placement_group=f"provision-{token}")


def groups(up: Stage) -> list[str]:
    return [group.name for group in up.cloud.placement_groups()]


def test_catalog_says_which_types_can_be_in_a_group(stage: Raise) -> None:
    types = stage().cloud.catalog(["g5.xlarge", "t3.small"]).types
    assert (types["g5.xlarge"].cluster, types["t3.small"].cluster) == (True, False)


def test_launch_makes_its_group_and_a_replay_makes_no_other(stage: Raise) -> None:
    """The group has the machines' tags, by which it is found after a crash."""
    up = stage()
    request = clustered(up)
    assert ids(up.cloud.launch(request)) == ids(up.cloud.launch(request))
    (group,) = up.cloud.placement_groups()
    assert (group.name, group.launch, group.tags) == ("provision-launch-1", "launch-1", request.tags)


def test_launch_without_machines_leaves_its_group(stage: Raise) -> None:
    """The caller deletes it: the launch may be repeated."""
    up = stage(capacity=(Capacity(1, Where()),))
    answer = up.cloud.launch(clustered(up))
    assert not answer.machines
    assert {type(refusal.error) for refusal in answer.refusals} == {errors.NoCapacity}
    assert groups(up) == ["provision-launch-1"]


def test_group_is_deleted_once_its_machines_have_ended(stage: Raise) -> None:
    """A machine that is shutting down still uses its group. A deletion may be repeated."""
    up = stage(end_delay=30.0)
    launched = ids(up.cloud.launch(clustered(up)))
    assert not up.cloud.delete_placement_group("provision-launch-1")
    up.cloud.terminate(launched)
    assert not up.cloud.delete_placement_group("provision-launch-1")
    assert groups(up) == ["provision-launch-1"]
    up.clock.step(31)
    for one in launched:
        up.ended(one)
    for _ in range(2):
        assert up.cloud.delete_placement_group("provision-launch-1")
        assert groups(up) == []


def test_limit_of_groups_is_a_quota(stage: Raise) -> None:
    """No machine is launched, because the request was for machines in a group."""
    up = stage(placement_groups=1)
    up.cloud.launch(clustered(up))
    with pytest.raises(errors.QuotaExceeded) as refused:
        up.cloud.launch(clustered(up, "launch-2"))
    assert refused.value.code == "PlacementGroupLimitExceeded"
    assert len(up.cloud.machines().machines) == 2


def test_type_that_cannot_be_in_a_group_is_misconfigured(stage: Raise) -> None:
    """The error has EC2's message, which names the type."""
    up = stage()
    request = clustered(up)
    small = tuple(Offer(offer.market, "t3.small", offer.zone) for offer in request.offers)
    answer = up.cloud.launch(replace(request, offers=small))
    assert not answer.machines
    for refusal in answer.refusals:
        assert isinstance(refusal.error, errors.Misconfigured)
        assert "not supported by the 't3.small' instance type" in str(refusal.error)


def test_launch_into_a_group_that_is_not_available_yet_is_transient(stage: Raise) -> None:
    """Nothing is launched. The group is available some time after its creation."""
    up = stage(group_lag=60.0)
    request = clustered(up)
    with pytest.raises(errors.Transient):
        up.cloud.launch(request)
    assert up.cloud.machines().machines == ()
    assert groups(up) == ["provision-launch-1"]
    up.clock.step(61)
    assert len(up.cloud.launch(request).machines) == 2
