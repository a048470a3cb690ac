"""Launches into cluster placement groups, and the groups that are deleted."""

from dataclasses import replace
from typing import Any

import pytest

from provisioner.core.cloud.machines import Machine, MachineState
from provisioner.core.cloud.offers import InstanceType
from provisioner.core.cloud.placement_groups import PlacementGroup, placement_group_of
from provisioner.core.cloud.tags import LAUNCH_TAG
from provisioner.core.recipe.recipe import Recipe, with_overrides
from provisioner.core.run.launching import LaunchPlan, plan_launches
from provisioner.core.run.placement_groups import LIST_AGAIN, ExpectedGroups, needed, spare
from provisioner.core.run.records import Drought, Launch, Live
from tests.support.samples import NOW, SPOT_A, ZONES, kind, machine, recipe, run, site


def clustered(**spec: Any) -> Recipe:
    return recipe(scale=4, placement={"group": "cluster", **spec.pop("placement", {})}, **spec)


def plan(*waiting: tuple[str, Recipe], types: tuple[InstanceType, ...] = ()) -> LaunchPlan:
    runs = [(run(name), wanted) for name, wanted in waiting]
    return plan_launches(runs, site(*types), {}, {}, None, NOW, iter(("l0", "l1", "l2")))


def test_each_launch_has_a_group_of_its_own() -> None:
    """The template is the same with and without a group: it is not made anew for each launch."""
    made = plan(("a", clustered()), ("b", clustered()), ("c", recipe(scale=4)))
    requests = {launch.runs: launch.request for launch in made.launches}
    assert {runs: each.placement_group for runs, each in requests.items()} == {
        ("a",): "provision-l0",
        ("b",): "provision-l1",
        ("c",): "",
    }
    assert len({each.template.name for each in requests.values()}) == 1


def test_one_machine_is_launched_into_no_group() -> None:
    """A start with `--scale 1` of a recipe with a group."""
    (launch,) = plan(("a", with_overrides(clustered(), {}, None, scale=1))).launches
    assert (launch.request.count, launch.request.placement_group) == (1, "")


def test_types_that_cannot_be_in_a_group_are_not_asked_for() -> None:
    """EC2 would refuse them. Without a group they are launched."""
    types = kind(cluster=False), kind("g6.xlarge")
    both = {"instance_types": ["g6.xlarge"]}
    (launch,) = plan(("a", clustered(placement=both)), types=types).launches
    assert {offer.instance_type for offer in launch.request.offers} == {"g6.xlarge"}
    [(_, reason)] = plan(("a", clustered()), types=types).refused
    assert reason == (
        "g5.xlarge: cannot be in a cluster placement group; choose another type, or leave placement.group out"
    )
    (launch,) = plan(("a", recipe(scale=4)), types=types).launches
    assert {offer.instance_type for offer in launch.request.offers} == {"g5.xlarge"}
    [(_, reason)] = plan(("a", recipe()), types=(kind(cluster=False, zones=()),)).refused
    assert "not offered" in reason


def test_lack_of_capacity_has_the_advice_to_do_without_the_group() -> None:
    """EC2 has less capacity in a group than outside."""
    dry = {f"on-demand/g5.xlarge/{zone}": Drought("on-demand", "g5.xlarge", zone, NOW + 9, 1) for zone in ZONES}
    [waits] = plan_launches([(run("a"), clustered())], site(), dry, {}, None, NOW, iter(("l0",))).runs
    assert waits.waiting_for.endswith("; more types or no `placement.group` would help")


def group(launch: str) -> PlacementGroup:
    return PlacementGroup(placement_group_of(launch), {LAUNCH_TAG: launch})


def opened(id: str) -> Launch:
    (launch,) = plan(("a", clustered())).launches
    return replace(launch, request=replace(launch.request, token=id))


def live(launches: tuple[str, ...] = (), machines: tuple[str, ...] = ()) -> Live:
    """Return the unfinished records: open launches, and launches of machines that have not ended."""
    known = tuple(machine(id=f"i-{launch}", launch=launch) for launch in machines)
    return Live((), (), tuple(map(opened, launches)), known, (), ())


def test_group_is_spare_without_an_open_launch_and_without_machines() -> None:
    """A foreign machine's launch is not in the store, and needs its group, too."""
    foreign = [Machine("i-9", MachineState.RUNNING, SPOT_A, NOW, {LAUNCH_TAG: "foreign"})]
    wanted = needed(live(launches=("open",), machines=("alive",)), foreign)
    listed = [group(launch) for launch in ("open", "alive", "foreign", "ended")]
    assert spare([*listed, PlacementGroup("made by hand", {})], wanted) == [group("ended")]


@pytest.mark.parametrize(
    ("launches", "wanted", "listed_at", "due"),
    [
        ((), (), NOW, False),
        (("a",), ("a",), NOW, False),
        (("a", "b"), ("a",), NOW, True),
        (("a",), ("a",), NOW - LIST_AGAIN, True),
        ((), (), 0.0, True),
        # A wrong clock set the time of the last listing.
        ((), (), NOW + 1, True),
    ],
)
def test_groups_are_listed_when_one_may_be_spare_and_once_a_day(
    launches: tuple[str, ...], wanted: tuple[str, ...], listed_at: float, due: bool
) -> None:
    """While a gang works, no call is made for its group."""
    assert ExpectedGroups(launches, listed_at).are_due(wanted, NOW) is due


def test_group_is_expected_until_a_listing_lacks_it() -> None:
    """A deletion may have no effect, and the group of an open launch may not be made yet."""
    expected = ExpectedGroups(("deleted", "gone", "open")).after_listing([group("deleted")], {"open"}, NOW)
    assert expected == ExpectedGroups(("deleted", "open"), NOW)
    assert expected.after_listing([], (), NOW + 60) == ExpectedGroups((), NOW + 60)
    found = [group("unknown"), PlacementGroup("made by hand", {})]
    assert expected.after_listing(found, (), NOW).launches == ("unknown",)
    assert expected.with_launches(["new", "open"]) == ExpectedGroups(("deleted", "new", "open"), NOW)
