"""Grouping of runs into launches, their offers, and the reasons for waiting."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.offers import OPEN_MARKETS, Market, Offer
from provisioner.core.cloud.tags import INSTALLATION_TAG, JOB_TAG, LAUNCH_TAG, LIFETIME_TAG, OWNER_TAG
from provisioner.core.protocol.messages import Stop
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import launching
from provisioner.core.run.capacity import dry_until
from provisioner.core.run.launching import FAILED_BOOTS, PROBE_EVERY, LaunchPlan, plan_launches
from provisioner.core.run.records import Drought, Run, TemplateHealth
from provisioner.core.run.states import State, Waiting
from tests.support.samples import NOW, ZONES, kind, recipe, run, site

SPOT = recipe(use_spot_instance=True)
EITHER = recipe(use_spot_instance=True, placement={"spot_fallback": True, "instance_types": ["g6.xlarge"]})
BOTH_TYPES = site(kind(), kind("g6.xlarge"))


def plan(
    waiting: list[tuple[Run, Recipe]],
    where: launching.Site = BOTH_TYPES,
    *,
    droughts: tuple[Drought, ...] = (),
    health: TemplateHealth | None = None,
    room: int | None = None,
) -> LaunchPlan:
    known = {each.id: each for each in droughts}
    sick = {health.id: health} if health else {}
    return plan_launches(waiting, where, known, sick, room, NOW, (f"l{n}" for n in itertools.count()))


def dry(market: Market, name: str, zone: str, until: float = NOW + 100) -> Drought:
    return Drought(market, name, zone, until, 1)


def sick(failures: int = FAILED_BOOTS, probe_at: float = 0.0) -> TemplateHealth:
    return TemplateHealth(site().template.name, failures, "no console", probe_at)


def test_equal_runs_share_a_launch() -> None:
    """Equal runs share a call. Another job, revision, owner or lifetime needs its own: a fleet has one set of tags."""
    longer = recipe(limits={"runtime": "48h"})
    waiting = [
        (run("a"), recipe()),
        (run("b"), recipe()),
        (run("c", owner="bob"), recipe()),
        (run("d", job_name="other"), recipe()),
        (run("e", job_revision=2), recipe()),
        (run("f"), longer),
        (run("g"), SPOT),
    ]
    made = plan(waiting)
    assert [launch.runs for launch in made.launches] == [("a", "b"), ("c",), ("d",), ("e",), ("f",), ("g",)]
    assert [launch.request.count for launch in made.launches] == [2, 1, 1, 1, 1, 1]


def scaled(scale: int) -> Recipe:
    """Return a recipe whose runs need so many machines at once; `apply` does not accept one yet."""
    alone = recipe()
    return alone.model_copy(update={"spec": alone.spec.model_copy(update={"scale": scale})})


def test_run_with_several_machines_has_a_launch_of_its_own() -> None:
    """All of its machines are launched in one call, or none."""
    made = plan([(run("a"), scaled(4)), (run("b"), scaled(4)), (run("c"), recipe())])
    requests = {launch.runs: launch.request for launch in made.launches}
    assert {runs: (each.count, each.together) for runs, each in requests.items()} == {
        ("a",): (4, True),
        ("b",): (4, True),
        ("c",): (1, False),
    }


def test_run_with_several_machines_waits_until_there_is_room_for_all() -> None:
    """A part of its machines would cost money and do no work."""
    made = plan([(run("a"), scaled(4)), (run("b"), scaled(4))], room=7)
    assert [launch.runs for launch in made.launches] == [("a",)]
    [waits] = [each for each in made.runs if each.id == "b"]
    assert (waits.waiting, waits.waiting_for) == (
        Waiting.LIMIT,
        "the run needs 4 machines at once, but max_machines leaves room for only 3 more",
    )
    mixed = plan([(run("a"), scaled(4)), (run("b"), recipe()), (run("c"), recipe())], room=5)
    assert [launch.runs for launch in mixed.launches] == [("a",), ("b",)]


@pytest.mark.parametrize(
    "fields",
    [
        {"next_try_at": NOW + 1},
        {"state": State.LAUNCHING},
        {"state": State.DONE},
        {"stop": Stop(Outcome.CANCELLED, "", NOW)},
    ],
)
def test_only_what_is_due_is_planned(fields: dict[str, Any]) -> None:
    """Runs that wait, are under way or are being stopped are not planned."""
    assert plan([(run(**fields), recipe())]) == LaunchPlan()


def test_tags_say_whose_machine_it_is_and_how_long_it_may_live() -> None:
    """The machine has all five tags from its creation; the collectors need no others."""
    (launch,) = plan([(run(), recipe())]).launches
    assert launch.request.tags == {
        INSTALLATION_TAG: "here",
        LAUNCH_TAG: "l0",
        LIFETIME_TAG: f"{recipe().spec.limits.lifetime:.0f}",
        OWNER_TAG: "ann",
        JOB_TAG: "train",
    }


def test_the_first_market_with_an_open_offer_is_asked() -> None:
    """One launch has all open types and zones of a market in order of preference, without the dry ones."""
    made = plan([(run(), EITHER)], droughts=(dry(Market.SPOT, "g5.xlarge", "a"), dry(Market.SPOT, "g6.xlarge", "")))
    assert [str(offer) for offer in made.launches[0].request.offers] == ["spot g5.xlarge in b", "spot g5.xlarge in c"]
    assert made.launches[0].request.subnets == {"b": "subnet-b", "c": "subnet-c"}


def test_on_demand_is_the_users_choice() -> None:
    """With spot_fallback a dry spot market leads to on-demand. Without it the run waits until a known time."""
    droughts = (dry(Market.SPOT, "g5.xlarge", "", NOW + 100), dry(Market.SPOT, "g6.xlarge", "", NOW + 50))
    assert plan([(run(), EITHER)], droughts=droughts).launches[0].request.market is Market.ON_DEMAND
    waits = plan(
        [(run(), recipe(use_spot_instance=True, placement={"instance_types": ["g6.xlarge"]}))], droughts=droughts
    )
    assert waits.launches == []
    assert [(each.waiting, each.next_try_at) for each in waits.runs] == [(Waiting.CAPACITY, NOW + 50)]


def test_a_run_whose_market_refused_begins_with_the_next() -> None:
    """If the next market is dry, the first market is tried again."""
    second = run(tier=1)
    assert plan([(second, EITHER)]).launches[0].request.market is Market.ON_DEMAND
    droughts = (dry(Market.ON_DEMAND, "g5.xlarge", ""), dry(Market.ON_DEMAND, "g6.xlarge", ""))
    assert plan([(second, EITHER)], droughts=droughts).launches[0].request.market is Market.SPOT


@pytest.mark.parametrize(
    ("wanted", "where", "reason"),
    [
        (recipe(instance_type="p9.huge"), site(kind()), "no such instance type here: p9.huge"),
        (recipe(), site(kind(architecture="arm64")), "the AMI is for x86_64, the instance type is not"),
        (recipe(placement={"zones": ["us-east-1f"]}), site(kind()), "not offered on-demand in us-east-1f"),
        (recipe(), site(kind(zones=())), "not offered on-demand in the zones of the installation's subnets"),
        (SPOT, site(kind(spot=False)), "not offered spot in"),
    ],
)
def test_run_without_a_possible_offer_is_refused(wanted: Recipe, where: launching.Site, reason: str) -> None:
    """The run is refused with a reason instead of waiting for ever."""
    made = plan([(run(), wanted)], where)
    assert not made.launches
    assert not made.runs
    assert reason in made.refused[0][1]


def test_types_that_do_not_fit_the_image_are_not_asked_for() -> None:
    """A type of another architecture, or not sold on spot, does not prevent the others."""
    where = site(kind(architecture="arm64"), kind("g6.xlarge", spot=False))
    (launch,) = plan([(run(), EITHER)], where).launches
    assert {(offer.market, offer.instance_type) for offer in launch.request.offers} == {(Market.ON_DEMAND, "g6.xlarge")}


def test_runs_beyond_the_machine_limit_wait() -> None:
    """Runs are launched in order of arrival; the others wait, whatever their job."""
    waiting = [(run(id, job_name=name), recipe()) for id, name in (("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"))]
    made = plan(waiting, room=2)
    assert [launch.runs for launch in made.launches] == [("a", "b")]
    assert {each.id: each.waiting for each in made.runs if each.waiting} == {"c": Waiting.LIMIT, "d": Waiting.LIMIT}


def test_a_template_whose_machines_never_report_is_probed_once_an_hour() -> None:
    """One run of all jobs is launched as the probe; the others wait with the cause and are planned again soon."""
    waiting = [(run(id, job_name=name), recipe()) for id, name in (("a", "x"), ("b", "x"), ("c", "y"))]
    assert len(plan(waiting, health=sick(FAILED_BOOTS - 1)).launches) == 2
    made = plan(waiting, health=sick())
    assert [launch.runs for launch in made.launches] == [("a",)]
    assert {each.id for each in made.runs if each.waiting is Waiting.CONFIGURATION} == {"b", "c"}
    assert all(NOW < each.next_try_at <= NOW + 60 for each in made.runs if each.waiting)
    assert [each.probe_at for each in made.templates] == [NOW + PROBE_EVERY]
    [text] = {each.waiting_for for each in made.runs if each.waiting}
    assert text.startswith("3 machines in a row could not begin their work: ")
    later = plan(waiting, health=sick(probe_at=NOW + 10))
    assert not later.launches
    assert not later.templates


def test_a_recipe_s_own_disk_is_a_template_of_its_own() -> None:
    """Runs with different disks are launched apart, and their templates' health is tracked separately."""
    large = recipe(placement={"disk_size": "8704Mi", "disk_throughput": 500})
    waiting = [(run("a"), recipe()), (run("b"), large), (run("c"), large)]
    plain, own = plan(waiting).launches
    assert (plain.runs, own.runs) == (("a",), ("b", "c"))
    assert plain.request.template == BOTH_TYPES.template
    assert own.request.template == replace(BOTH_TYPES.template, disk_gib=9, disk_throughput=500)
    assert [launch.runs for launch in plan(waiting, health=sick(probe_at=NOW + 10)).launches] == [("b", "c")]
    ill = {each.name: replace(sick(), id=each.name) for each in (plain.request.template, own.request.template)}
    both = plan_launches(waiting, BOTH_TYPES, {}, ill, None, NOW, iter("xyz"))
    assert [launch.runs for launch in both.launches] == [("a",), ("b",)]
    assert {each.id for each in both.templates} == set(ill)


def test_disk_is_never_smaller_than_the_ami() -> None:
    """EC2 rejects a disk that is smaller than the AMI's snapshot, for every offer."""
    image = replace(BOTH_TYPES.template.image, disk_gib=45)
    where = replace(BOTH_TYPES, template=replace(BOTH_TYPES.template, image=image, disk_gib=30))
    for placement, gib in (({}, 45), ({"disk_size": "20Gi"}, 45), ({"disk_size": "60Gi"}, 60)):
        (launch,) = plan([(run(), recipe(placement=placement))], where).launches
        assert launch.request.template.disk_gib == gib


def test_launch_asks_for_a_public_address_in_the_subnets_that_need_it() -> None:
    """A template decides it for all of its machines, so a launch has only subnets with the same need."""
    mixed = replace(BOTH_TYPES, catalog=replace(BOTH_TYPES.catalog, address_wanted=("subnet-b", "subnet-c")))
    (first,) = plan([(run(), recipe())], mixed).launches
    assert ({offer.zone for offer in first.request.offers}, first.request.template.public_address) == ({"a"}, False)
    (second,) = plan([(run(), recipe())], mixed, droughts=(dry(Market.ON_DEMAND, "g5.xlarge", "a"),)).launches
    assert {offer.zone for offer in second.request.offers} == {"b", "c"}
    assert second.request.template == replace(first.request.template, public_address=True)
    assert second.request.template.name != first.request.template.name


def test_types_that_the_ami_cannot_drive_are_not_launched() -> None:
    """Their machines would be paid until the GPU check fails. A job without a GPU may have them."""
    old = kind("p3.2xlarge")
    where = replace(site(old, kind("g6.xlarge")), driven=("g5", "g6"))
    both = recipe(instance_type="p3.2xlarge", placement={"instance_types": ["g6.xlarge"]})
    (launch,) = plan([(run(), both)], where).launches
    assert {offer.instance_type for offer in launch.request.offers} == {"g6.xlarge"}
    ((_, reason),) = plan([(run(), recipe(instance_type="p3.2xlarge"))], where).refused
    assert reason.startswith("p3.2xlarge: the driver of the AMI supports only g5, g6;")
    for free in (recipe(instance_type="p3.2xlarge", placement={"gpu": "none"}), both):
        assert plan([(run(), free)], replace(where, driven=None)).launches
    assert plan([(run(), recipe(instance_type="p3.2xlarge", placement={"gpu": "none"}))], where).launches


def test_subnets_restrict_zones() -> None:
    """Only the subnets that the recipe names are used, even if the type is offered in other zones."""
    (launch,) = plan([(run(), recipe(placement={"subnets": ["subnet-b"]}))]).launches
    assert launch.request.subnets == {"b": "subnet-b"}
    nowhere = plan([(run(), recipe(placement={"subnets": ["subnet-z"]}))])
    assert "not offered on-demand in subnet-z" in nowhere.refused[0][1]


def test_a_probe_without_room_is_not_used_up() -> None:
    """The probe of this hour is kept until it can be made."""
    made = plan([(run(), recipe())], health=sick(), room=0)
    assert not made.templates
    assert not made.launches
    assert [each.waiting for each in made.runs] == [Waiting.LIMIT]


def test_a_large_group_is_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost answer concerns fewer machines."""
    monkeypatch.setattr(launching, "LARGEST_LAUNCH", 2)
    made = plan([(run(f"r{n}"), recipe()) for n in range(5)])
    assert [launch.runs for launch in made.launches] == [("r0", "r1"), ("r2", "r3"), ("r4",)]
    assert len({launch.id for launch in made.launches}) == 3


NAMES = ("g5.xlarge", "g6.xlarge", "p4d.24xlarge")
RECIPES = [
    recipe(
        instance_type=names[0],
        use_spot_instance=spot,
        placement={"spot_fallback": fallback, "instance_types": names[1:], "zones": zones},
    )
    for names in (["g5.xlarge"], ["p4d.24xlarge", "g5.xlarge"], ["g6.xlarge", "p4d.24xlarge", "x9.unknown"])
    for spot, fallback in ((False, False), (True, False), (True, True))
    for zones in ([], ["us-east-1a"])
]
PLACES = ("us-east-1a", "us-east-1b")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw waiting runs, a site, droughts, a template's health, and room."""
    ids = itertools.count()
    times = st.sampled_from([NOW - 5, NOW, NOW + 5])
    runs = draw(
        st.lists(
            st.builds(
                lambda owner, name, state, at, tier, recipe: (
                    run(
                        f"r{next(ids)}",
                        owner=owner,
                        job_name=name,
                        state=state,
                        next_try_at=at,
                        tier=tier % len(recipe.spec.markets),
                    ),
                    recipe,
                ),
                st.sampled_from(["ann", "bob"]),
                st.sampled_from(["x", "y"]),
                st.sampled_from([State.QUEUED, State.QUEUED, State.QUEUED, State.RUNNING]),
                times,
                st.integers(0, 1),
                st.sampled_from(RECIPES),
            ),
            max_size=8,
        )
    )
    kinds = [
        kind(
            name,
            spot=draw(st.booleans()),
            zones=tuple(draw(st.sets(st.sampled_from(PLACES)))),
            architecture=draw(st.sampled_from(["x86_64", "x86_64", "arm64"])),
        )
        for name in draw(st.sets(st.sampled_from(NAMES)))
    ]
    where = site(*kinds) if kinds else site(kind("t3.other"))
    where = replace(where, catalog=replace(where.catalog, subnets={zone: f"subnet-{zone}" for zone in PLACES}))
    droughts = draw(
        st.lists(
            st.builds(
                dry, st.sampled_from(OPEN_MARKETS), st.sampled_from(NAMES), st.sampled_from(["", *PLACES]), times
            ),
            max_size=6,
        )
    )
    health = draw(st.none() | st.builds(sick, st.integers(0, 5), times))
    return runs, where, tuple(droughts), health, draw(st.none() | st.integers(0, 4))


@given(worlds())
def test_plan_invariants_hold(world: tuple[Any, ...]) -> None:
    """Each due run is launched, waits or is refused. Launched offers are open, wanted, alike and tagged."""
    waiting, where, droughts, health, room = world
    made = plan(waiting, where, droughts=droughts, health=health, room=room)
    known = {each.id: each for each in droughts}
    due = {
        each.id: (each, wanted) for each, wanted in waiting if each.state is State.QUEUED and each.next_try_at <= NOW
    }

    launched = Counter(id for launch in made.launches for id in launch.runs)
    waits = Counter(each.id for each in made.runs if each.state is State.QUEUED)
    refused = Counter(each.id for each, _ in made.refused)
    assert launched + waits + refused == Counter(list(due))
    assert {each.id: each.launch for each in made.runs if each.state is State.LAUNCHING} == {
        id: launch.id for launch in made.launches for id in launch.runs
    }
    for each in made.runs:
        if each.state is State.QUEUED:
            assert each.waiting
            assert each.waiting_for
            assert each.next_try_at > NOW
        else:
            assert each.waiting is None
            assert each.waiting_for == ""
    assert all(reason for _, reason in made.refused)

    for launch in made.launches:
        request, members = launch.request, [due[id] for id in launch.runs]
        assert request.count == len(members) > 0
        assert request.offers
        assert len(set(request.offers)) == len(request.offers)
        assert {offer.market for offer in request.offers} == {request.market}
        assert set(request.subnets) == {offer.zone for offer in request.offers}
        assert request.tags.keys() == {INSTALLATION_TAG, LAUNCH_TAG, LIFETIME_TAG, OWNER_TAG, JOB_TAG}
        assert request.tags[LAUNCH_TAG] == request.token == launch.id
        for offer in request.offers:
            assert dry_until(offer, known, NOW) is None
            _can_be_had(offer, where)
        for each, wanted in members:
            spec = wanted.spec
            assert (each.owner, each.job_name) == (request.tags[OWNER_TAG], request.tags[JOB_TAG])
            assert int(request.tags[LIFETIME_TAG]) == round(spec.limits.lifetime)
            assert request.market in spec.markets
            assert {offer.instance_type for offer in request.offers} <= set(spec.instance_types)
            assert {offer.zone for offer in request.offers} <= set(spec.placement.zones or PLACES)
    assert len({launch.id for launch in made.launches}) == len(made.launches)
    if room is not None:
        assert sum(launched.values()) <= room
    if health and health.failures >= FAILED_BOOTS:
        assert sum(launched.values()) == len(made.templates) <= (1 if health.probe_at <= NOW else 0)


def _can_be_had(offer: Offer, where: launching.Site) -> None:
    known = where.catalog.types[offer.instance_type]
    assert offer.zone in known.zones
    assert known.architecture == where.template.image.architecture
    assert known.spot or offer.market is Market.ON_DEMAND


def test_zones_of_the_made_site_have_subnets() -> None:
    """The sample site has a subnet in each of its zones."""
    assert set(site().catalog.subnets) == set(ZONES)
