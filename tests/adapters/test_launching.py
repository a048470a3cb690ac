"""The parameters of CreateFleet for a launch."""

from dataclasses import replace

import pytest

from provisioner.adapters.ec2.launching import creation, fleet
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.cloud.offers import OPEN_MARKETS, Market, Offer
from tests.support.samples import ZONES, site


def request(market: Market) -> LaunchRequest:
    """Return a request that prefers the more expensive type."""
    offers = tuple(Offer(market, kind, "a") for kind in ("p5.48xlarge", "g5.xlarge"))
    return LaunchRequest("token", site().template, market, offers, {zone: f"subnet-{zone}" for zone in ZONES}, 1, {})


def test_on_demand_launch_follows_the_order_of_the_request() -> None:
    """`lowest-price` would overrule the types that the user prefers (EC2 API, "OnDemandOptionsRequest")."""
    made = fleet(request(Market.ON_DEMAND), {})
    overrides = made["LaunchTemplateConfigs"][0]["Overrides"]
    assert made["OnDemandOptions"] == {"AllocationStrategy": "prioritized"}
    assert [(each["InstanceType"], each["Priority"]) for each in overrides] == [
        ("p5.48xlarge", 0.0),
        ("g5.xlarge", 1.0),
    ]


def test_spot_launch_leaves_the_choice_of_the_pool_to_ec2() -> None:
    """Spot overrides have no priority: EC2 knows which pool is about to be interrupted."""
    made = fleet(request(Market.SPOT), {})
    assert made["SpotOptions"]["AllocationStrategy"] == "price-capacity-optimized"
    assert not [each for each in made["LaunchTemplateConfigs"][0]["Overrides"] if "Priority" in each]


@pytest.mark.parametrize("market", OPEN_MARKETS)
def test_machines_that_work_together_are_all_launched_or_none(market: Market) -> None:
    """EC2 accepts a minimum only with a single type or zone (EC2 API, "SpotOptionsRequest")."""
    made = fleet(replace(request(market), count=3, together=True), {})
    options = made["SpotOptions" if market is Market.SPOT else "OnDemandOptions"]
    names = ("MinTargetCapacity", "SingleInstanceType", "SingleAvailabilityZone")
    assert [options[name] for name in names] == [3, True, True]
    assert "MinTargetCapacity" not in str(fleet(request(market), {}))


def test_security_groups_of_an_interface_with_a_public_address_are_the_interfaces() -> None:
    """EC2 rejects an interface beside security groups. Without groups, the VPC's default group applies."""
    template = replace(site().template, security_groups=("sg-1", "sg-2"))
    plain = creation(template, {})["LaunchTemplateData"]
    assert plain["SecurityGroupIds"] == ["sg-1", "sg-2"]
    public = creation(replace(template, public_address=True), {})["LaunchTemplateData"]
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": True, "DeleteOnTermination": True}
    assert public.pop("NetworkInterfaces") == [{**interface, "Groups": ["sg-1", "sg-2"]}]
    del plain["SecurityGroupIds"]
    assert public == plain
    bare = creation(replace(template, public_address=True, security_groups=()), {})["LaunchTemplateData"]
    assert bare["NetworkInterfaces"] == [interface]


def test_placement_group_is_named_in_every_override() -> None:
    """The launch template stays the same for all launches. EC2 accepts the group's name only, no zone or tenancy."""
    plain, placed = (fleet(replace(request(Market.SPOT), placement_group=name), {}) for name in ("", "provision-token"))
    (config,) = placed["LaunchTemplateConfigs"]
    assert [each["Placement"] for each in config["Overrides"]] == [{"GroupName": "provision-token"}] * 2
    for each in config["Overrides"]:
        del each["Placement"]
    assert placed == plain


def reserved(*, block: bool) -> LaunchRequest:
    only = "capacity-reservations-only"
    template = replace(site().template, capacity_reservation=only, reservation="cr-1", capacity_block=block)
    offers = (Offer(Market.RESERVED, "p5.48xlarge", "a"),)
    return replace(request(Market.RESERVED), template=template, offers=offers, count=3, together=True)


def test_machines_of_a_reservation_are_on_demand_machines_whose_template_names_it() -> None:
    made, template = fleet(reserved(block=False), {}), creation(reserved(block=False).template, {})
    assert made["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "on-demand"
    assert made["OnDemandOptions"]["MinTargetCapacity"] == 3
    data = template["LaunchTemplateData"]
    assert data["CapacityReservationSpecification"] == {
        "CapacityReservationPreference": "capacity-reservations-only",
        "CapacityReservationTarget": {"CapacityReservationId": "cr-1"},
    }
    assert "InstanceMarketOptions" not in data


def test_fleet_of_a_capacity_block_has_no_options() -> None:
    """EC2 refuses them, and launches as many machines as it can (EC2 User Guide, "Capacity Blocks")."""
    made, template = fleet(reserved(block=True), {}), creation(reserved(block=True).template, {})
    assert made["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "capacity-block"
    assert not {"OnDemandOptions", "SpotOptions"} & made.keys()
    assert "Priority" not in str(made)
    assert template["LaunchTemplateData"]["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
