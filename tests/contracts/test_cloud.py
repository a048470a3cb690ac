"""The contract of `ports/cloud.py`, for the fake and for the EC2 adapter on the double over HTTP."""

import dataclasses

import pytest

from provisioner.core import errors
from provisioner.core.cloud.machine_images import Ami, AmiState
from provisioner.core.cloud.machines import Ending, MachineState
from provisioner.core.cloud.offers import OPEN_MARKETS, Market, Offer
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.tags import INSTALLATION_TAG
from provisioner.rehearsal.aws.account import PROFILE
from provisioner.rehearsal.ec2.conditions import (
    Breakdown,
    Capacity,
    FleetLimit,
    PriceRule,
    Quota,
    Where,
    ZoneTrouble,
)
from tests.contracts.stage import INSTALLATION, TYPE, UNKNOWN, Raise, Stage, ids
from tests.polling import until


def test_catalog_has_types_zones_and_prices(stage: Raise) -> None:
    """Known types have sizes, zones with configured subnets, and spot prices; unknown types are omitted."""
    prices = (PriceRule(9.0, at=-10.0), PriceRule(0.4, Where(zone="*a"), at=-5.0), PriceRule(0.1, at=3600.0))
    cloud = stage(prices=prices).cloud
    catalog = cloud.catalog(["g5.12xlarge", "t3.small", "never.heard-of"])
    assert catalog.types.keys() == {"g5.12xlarge", "t3.small"}
    big, small = catalog.types["g5.12xlarge"], catalog.types["t3.small"]
    assert (big.gpus, big.vcpus, big.memory_mib, big.architecture, big.spot) == (4, 48, 196608, "x86_64", True)
    assert small.gpus == 0
    assert big.zones
    assert set(big.zones) <= catalog.subnets.keys()
    assert {price.dollars for offer, price in catalog.prices.items() if offer.zone.endswith("a")} == {0.4}
    assert catalog.prices[Offer(Market.SPOT, "t3.small", "us-east-1b")].dollars == 9.0


def test_the_price_list_tells_machines_and_disks(stage: Raise) -> None:
    """The list has on-demand prices of types and of a disk's parts; spot prices and unpriced types are omitted."""
    prices = (PriceRule(1.006, Where("on-demand", "g5.xlarge")), PriceRule(0.4, Where("spot")))
    cloud = stage(prices=prices, disk=(0.08, 0.005, 0.04)).cloud
    known = cloud.price_list(["g5.xlarge", "t3.small"])
    assert {name: price.dollars for name, price in known.machines.items()} == {"g5.xlarge": 1.006}
    parts = (known.gib, known.iops, known.throughput)
    assert [price and round(price.dollars, 6) for price in parts] == [0.08, 0.005, 0.04]


def test_a_price_list_may_know_nothing(stage: Raise) -> None:
    """An unpriced type and unpriced disks give an empty list."""
    assert stage().cloud.price_list(["g5.xlarge"]) == PriceList({})


def test_no_type_is_a_catalog_too(stage: Raise) -> None:
    """No types, or only unknown ones, give an empty catalog without an error."""
    cloud = stage().cloud
    assert not cloud.catalog([]).types
    assert not cloud.catalog(["never.heard-of"]).types


def test_image_and_profile_are_found(stage: Raise) -> None:
    """An AMI has a root device; a profile has the unique id of its role."""
    up = stage()
    image, profile = up.cloud.image(up.image), up.cloud.profile(PROFILE)
    assert (image.id, image.architecture) == (up.image, "x86_64")
    assert image.root_device.startswith("/dev/")
    assert profile.name == PROFILE
    assert profile.arn.endswith(f"/{PROFILE}")
    assert profile.role_id.startswith("AROA")


@pytest.mark.parametrize("market", OPEN_MARKETS)
def test_a_launched_machine_is_listed_as_launched(stage: Raise, market: Market) -> None:
    """Launched machines are listed with the offer used, their tags and their launch time."""
    up = stage()
    request = up.request(market=market, count=3)
    answer = up.cloud.launch(request)
    assert len(set(ids(answer))) == 3
    assert not answer.refusals
    listing = up.cloud.machines()
    assert {machine.id for machine in listing.machines} == set(ids(answer))
    for launched in answer.machines:
        machine = up.find(launched.instance_id)
        assert machine.offer == launched.offer in request.offers
        assert machine.tags == request.tags
        assert (machine.launch, machine.lifetime) == (request.token, 600)
        assert machine.launch_time == listing.at == up.clock.now()
        assert (machine.ending, machine.reason_code) == (None, "")
    assert machine.state in (MachineState.PENDING, MachineState.RUNNING)


def test_on_demand_follows_the_requests_order(stage: Raise) -> None:
    """The order of the request's on-demand offers is kept."""
    up = stage()
    request = up.request(market=Market.ON_DEMAND)
    turned = dataclasses.replace(request, offers=tuple(reversed(request.offers)))
    assert up.cloud.launch(turned).machines[0].offer == turned.offers[0]


def test_the_same_request_gives_the_same_machines(stage: Raise) -> None:
    """A replay of a request launches nothing new."""
    up = stage()
    request = up.request(count=2)
    assert ids(up.cloud.launch(request)) == ids(up.cloud.launch(request))
    assert len(up.cloud.machines().machines) == 2


def test_another_request_with_the_same_token_is_a_conflict(stage: Raise) -> None:
    """A client token belongs to one request."""
    up = stage()
    request = up.request()
    up.cloud.launch(request)
    with pytest.raises(errors.Conflict):
        up.cloud.launch(dataclasses.replace(request, count=2))
    assert len(up.cloud.machines().machines) == 1


def test_a_token_is_spent_with_its_machines(stage: Raise) -> None:
    """A replay after the machines' end is a conflict and launches nothing."""
    up = stage()
    request = up.request()
    (one,) = ids(up.cloud.launch(request))
    up.cloud.terminate([one])
    up.ended(one)
    with pytest.raises(errors.Conflict):
        up.cloud.launch(request)


def test_offers_without_room_are_named(stage: Raise) -> None:
    """Other offers replace one without capacity; each offer that gave no machine has an error."""
    up = stage(capacity=(Capacity(0, Where(zone="*a")), Capacity(1, Where(zone="*b"))))
    request = up.request(count=2)
    answer = up.cloud.launch(request)
    assert len(answer.machines) == 2
    refused = {refusal.offer: refusal.error for refusal in answer.refusals}
    assert refused.keys() <= set(request.offers)
    assert isinstance(refused[Offer(Market.SPOT, TYPE, "us-east-1a")], errors.NoCapacity)
    assert all(machine.offer.zone != "us-east-1a" for machine in answer.machines)


@pytest.mark.parametrize("market", OPEN_MARKETS)
def test_machines_that_work_together_are_launched_in_one_zone_or_not_at_all(stage: Raise, market: Market) -> None:
    """EC2 looks for an offer with room for all of them. Without one, nothing is launched, and each offer is refused."""
    up = stage(capacity=(Capacity(2, Where(zone="*a")), Capacity(3, Where(zone="*b")), Capacity(0, Where(zone="*c"))))
    four, three = (
        dataclasses.replace(up.request(f"launch-{count}", market=market, count=count), together=True)
        for count in (4, 3)
    )
    refused = up.cloud.launch(four)
    assert not refused.machines
    assert {refusal.offer for refusal in refused.refusals} == set(four.offers)
    launched = up.cloud.launch(three)
    assert [machine.offer.zone for machine in launched.machines] == ["us-east-1b"] * 3
    assert ids(up.cloud.launch(three)) == ids(launched)


def test_quota_has_room_for_all_machines_that_work_together(stage: Raise) -> None:
    """A quota of three machines refuses a fourth one, so four that work together are not launched."""
    up = stage(quotas=(Quota(12),))
    assert not up.cloud.launch(dataclasses.replace(up.request("four", count=4), together=True)).machines
    assert len(up.cloud.launch(dataclasses.replace(up.request("three", count=3), together=True)).machines) == 3


def test_no_machine_is_an_answer(stage: Raise) -> None:
    """A launch without any capacity is a complete answer; it raises nothing."""
    up = stage(capacity=(Capacity(0),))
    request = up.request()
    answer = up.cloud.launch(request)
    assert not answer.machines
    assert {refusal.offer for refusal in answer.refusals} == set(request.offers)
    assert {type(refusal.error) for refusal in answer.refusals} == {errors.NoCapacity}
    assert answer.refusals[0].error.code == "InsufficientInstanceCapacity"


@pytest.mark.parametrize("market", OPEN_MARKETS)
def test_a_quota_is_no_lack_of_capacity(stage: Raise, market: Market) -> None:
    """An account's quota has its own error, because no other offer helps."""
    up = stage(quotas=(Quota(7, Where(market=market.value)),))
    answer = up.cloud.launch(up.request(market=market, count=2))
    assert len(answer.machines) == 1
    assert {type(refusal.error) for refusal in answer.refusals} == {errors.QuotaExceeded}


def test_a_launch_without_offers_is_refused(stage: Raise) -> None:
    """Without offers EC2 would use a default network, so nothing is launched."""
    up = stage()
    with pytest.raises(errors.Misconfigured):
        up.cloud.launch(dataclasses.replace(up.request(), offers=()))
    assert not up.cloud.machines().machines


def test_template_not_yet_visible_is_transient(stage: Raise) -> None:
    """A template that is not yet visible everywhere is a transient error."""
    up = stage(template_lag=5.0)
    request = up.request()
    with pytest.raises(errors.Transient):
        up.cloud.launch(request)
    up.clock.step(6)
    assert len(up.cloud.launch(request).machines) == 1


def test_young_machines_may_be_missing(stage: Raise) -> None:
    """The listing lags. A termination reports an unknown id, which is no proof that the machine has ended."""
    up = stage(lag=5.0)
    (one,) = up.launch()
    assert not up.cloud.machines().machines
    assert not up.cloud.machines_of("launch-1")
    refused = up.cloud.terminate([one])
    assert isinstance(refused[one], errors.Misconfigured)
    assert refused[one].code == "InvalidInstanceID.NotFound"
    up.clock.step(6)
    assert up.find(one).ending is None


def test_a_zone_in_trouble_fails_the_list_and_hides_no_machine_of_another_zone(stage: Raise) -> None:
    """An incomplete list is an error; a query by ids returns the machines that are known."""
    up = stage(zone_troubles=(ZoneTrouble(10.0, 20.0, "us-east-1a"),))
    request = up.request()
    here, elsewhere = (
        ids(up.cloud.launch(dataclasses.replace(request, token=offer.zone, offers=(offer,))))[0]
        for offer in request.offers[:2]
    )
    # The EC2 adapter learns each machine's zone from this listing.
    assert len(up.cloud.machines().machines) == 2
    up.clock.step(15)
    with pytest.raises(errors.Transient):
        up.cloud.machines()
    assert [machine.id for machine in up.cloud.machines_known([here, elsewhere]).machines] == [elsewhere]
    up.clock.step(10)
    assert len(up.cloud.machines().machines) == 2


def test_an_account_at_its_limit_of_fleets_waits(stage: Raise) -> None:
    """The request is valid, so it succeeds once the account has fewer fleets."""
    up = stage(fleet_limits=(FleetLimit(0.0, 10.0),))
    with pytest.raises(errors.QuotaExceeded) as refused:
        up.launch()
    assert refused.value.code == "MaxFleetCountExceeded"
    up.clock.step(11)
    assert up.launch()


def test_a_replay_with_other_errors_gives_the_same_machines(stage: Raise) -> None:
    """A replay's errors do not concern the machines that already exist."""
    up = stage(replay_errors=True)
    request = up.request()
    first, again = up.cloud.launch(request), up.cloud.launch(request)
    assert ids(first) == ids(again)
    assert not first.refusals
    assert again.refusals


def test_machines_of_a_launch(stage: Raise) -> None:
    """All machines of one launch are returned, ended ones included."""
    up = stage()
    first, second = up.launch("launch-1", 2), up.launch("launch-2")
    up.cloud.terminate(first[:1])
    assert sorted(machine.id for machine in up.cloud.machines_of("launch-1")) == sorted(first)
    assert [machine.id for machine in up.cloud.machines_of("launch-2")] == second
    assert up.cloud.machines_of("launch-3") == ()


def test_known_machines_are_listed_alone(stage: Raise) -> None:
    """An unknown id is omitted without affecting the others; the listing always says when it was made."""
    up = stage()
    first, _, third = up.launch(count=3)
    listing = up.cloud.machines_known([first, UNKNOWN, third])
    assert {machine.id for machine in listing.machines} == {first, third}
    assert listing.at == up.clock.now()
    for nobody in ([UNKNOWN], []):
        listing = up.cloud.machines_known(nobody)
        assert (listing.at, listing.machines) == (up.clock.now(), ())


def test_unknown_id_does_not_prevent_other_terminations(stage: Raise) -> None:
    """All other machines are terminated; the unknown id is reported with the cloud's code."""
    up = stage()
    launched = up.launch(count=3)
    refused = up.cloud.terminate([launched[0], UNKNOWN, launched[1]])
    assert refused.keys() == {UNKNOWN}
    assert isinstance(refused[UNKNOWN], errors.Misconfigured)
    assert refused[UNKNOWN].code == "InvalidInstanceID.NotFound"
    for one in launched[:2]:
        machine = up.ended(one)
        assert (machine.ending, machine.reason_code) == (Ending.ASKED, "Client.UserInitiatedShutdown")
        assert "User initiated" in machine.reason
    assert up.find(launched[2]).ending is None


def test_ending_may_be_repeated(stage: Raise) -> None:
    """Terminating an ended machine, or none, is no error."""
    up = stage()
    (one,) = up.launch()
    assert up.cloud.terminate([one]) == up.cloud.terminate([one, one]) == up.cloud.terminate([]) == {}


def test_an_interruption_is_named(stage: Raise) -> None:
    """A spot machine that the cloud took back has the ending INTERRUPTED."""
    up = stage()
    (one,) = up.launch()
    up.interrupt(one)
    up.clock.step(121)
    assert up.ended(one).ending is Ending.INTERRUPTED


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("Client.InternalError", Ending.MISCONFIGURED),
        ("Server.InternalError", Ending.FAULT),
        ("Server.InsufficientInstanceCapacity", Ending.NO_CAPACITY),
    ],
)
def test_a_machine_that_never_came_up_says_why(stage: Raise, code: str, ending: Ending) -> None:
    """The cloud's reason is kept verbatim and mapped to an ending."""
    up = stage(breakdowns=(Breakdown(0.0, code, "as EC2 says it"),))
    (one,) = up.launch()
    machine = up.ended(one)
    assert (machine.reason_code, machine.ending) == (code, ending)
    assert "as EC2 says it" in machine.reason


def test_the_console_is_text(stage: Raise) -> None:
    """The console output is the text that the machine printed, or empty."""
    up = stage()
    (one,) = up.launch()
    assert up.cloud.console(one) == ""
    up.consoles[one] = "no route to S3\nü\n"
    assert up.cloud.console(one) == "no route to S3\nü\n"


TAGS = {INSTALLATION_TAG: INSTALLATION, "provision:agent": "0" * 64}


def available(up: Stage, id: str) -> Ami:
    """Wait until the AMI is made; return it."""

    def found() -> Ami:
        return next(ami for ami in up.cloud.amis() if ami.id == id)

    until(lambda: found().state is not AmiState.PENDING, f"the making of {id}")
    return found()


def test_an_image_is_made_of_a_machine(stage: Raise) -> None:
    """The AMI is pending, then available. It has its tags from the start, and machines can be launched from it."""
    up = stage(image_delay=60.0)
    (one,) = up.launch()
    made = up.cloud.create_ami(one, "first", TAGS)
    (pending,) = up.cloud.amis()
    assert (pending.id, pending.name, pending.state, pending.tags) == (made, "first", AmiState.PENDING, TAGS)
    assert pending.created_at == int(up.clock.now())
    assert (pending.disk_gib, pending.architecture) == (100, "x86_64")
    up.clock.step(61)
    assert available(up, made).state is AmiState.AVAILABLE
    up.image = made
    assert up.cloud.image(made).id == made
    (two,) = up.launch("launch-2")
    assert (up.find(one).image, up.find(two).image) == (up.find(one).image, made)
    assert up.find(one).image != made


def test_the_same_image_twice_is_one(stage: Raise) -> None:
    """The same name and tags give the existing AMI; other tags are a conflict."""
    up = stage()
    (one,) = up.launch()
    made = up.cloud.create_ami(one, "first", TAGS)
    assert up.cloud.create_ami(one, "first", TAGS) == made
    with pytest.raises(errors.Conflict):
        up.cloud.create_ami(one, "first", {**TAGS, "more": "x"})
    assert len(up.cloud.amis()) == 1


def test_no_image_of_a_machine_that_is_not_there(stage: Raise) -> None:
    """The error has the cloud's code."""
    with pytest.raises(errors.Misconfigured) as told:
        stage().cloud.create_ami(UNKNOWN, "first", TAGS)
    assert told.value.code == "InvalidInstanceID.NotFound"


def test_a_deleted_image_starts_no_machine(stage: Raise) -> None:
    """The AMI and its snapshots are deleted, others stay, and a second deletion is no error."""
    up = stage()
    (one,) = up.launch()
    first, second = (up.cloud.create_ami(one, name, TAGS) for name in ("first", "second"))
    available(up, first)
    gone = up.request("launch-2")
    gone = dataclasses.replace(gone, template=dataclasses.replace(gone.template, image=up.cloud.image(first)))
    for there in (True, False):
        assert up.cloud.delete_ami(first) is there
        assert [ami.id for ami in up.cloud.amis()] == [second]
    answer = up.cloud.launch(gone)
    assert not answer.machines
    assert {type(refusal.error) for refusal in answer.refusals} == {errors.Misconfigured}
