"""Plan launches for queued runs: which runs share a launch, in which market, with which offers.

The functions are pure: they compute launches and reasons to wait from the stored records, the catalog and the time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from provisioner.core.cloud.caps.affording import Terms, affordable, over_cap
from provisioner.core.cloud.caps.budget import Budget, Use
from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.machine_images import undriven
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer, Price, alike, wants_address
from provisioner.core.cloud.placement_groups import placement_group_of
from provisioner.core.cloud.reserved.choice import FULL_EVERY, choose
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.cloud.tags import INSTALLATION_TAG, JOB_TAG, LAUNCH_TAG, LIFETIME_TAG, OWNER_TAG
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import capacity
from provisioner.core.run.machines.costs import terms_of
from provisioner.core.run.records import Assignment, Drought, Launch, Live, Run, TemplateHealth
from provisioner.core.run.states import State, Waiting, transition

#: Maximum number of machines in one call; an instant fleet allows more, but a lost answer should concern few machines.
LARGEST_LAUNCH = 500
#: If this many machines in a row cannot begin their work, their template launches only one machine, a probe, every
#: PROBE_EVERY seconds.
FAILED_BOOTS = 3
PROBE_EVERY = 3600.0
#: A run that waits because `max_machines` machines are alive is tried again after this many seconds.
ROOM_EVERY = 5.0
#: A run that waits for its template is tried again after this many seconds: a probe may have reported, or the settings
#: may have changed.
TEMPLATE_EVERY = 60.0


@dataclass(frozen=True)
class Site:
    """What a launch needs besides the runs: the catalog, and the template of all machines."""

    installation: str
    catalog: Catalog
    #: Its disk is the default for recipes that set no disk size or throughput.
    template: Template
    #: The families whose GPUs the AMI's driver supports; None if that is not known.
    driven: tuple[str, ...] | None = None
    #: The known list prices of an on-demand machine for an hour, by instance type.
    on_demand: Mapping[str, Price] = field(default_factory=dict)
    #: Whether offers of unknown price may be launched under a cap.
    unknown_prices: bool = False

    def price(self, offer: Offer) -> float | None:
        """Return the known price of an hour, in US dollars, or None."""
        listed = None if offer.market is Market.SPOT else self.on_demand.get(offer.instance_type)
        known = listed or self.catalog.prices.get(offer)
        return known.dollars if known else None


@dataclass(frozen=True)
class LaunchPlan:
    launches: list[Launch] = field(default_factory=list)
    #: Runs to be stored: in state launching, or in state queued with the cause of their wait.
    runs: list[Run] = field(default_factory=list)
    #: Runs that can never be launched, each with the reason.
    refused: list[tuple[Run, str]] = field(default_factory=list)
    templates: list[TemplateHealth] = field(default_factory=list)


@dataclass(frozen=True)
class _Group:
    """The properties that runs of one launch share: all machines of a fleet have the same tags."""

    owner: str
    job: str
    revision: int
    #: Number of machines of each run; a run with several has a launch of its own.
    scale: int
    #: The ranks that get a machine; empty: all of them.
    ranks: tuple[int, ...]
    #: Seconds that a machine may exist.
    lifetime: float
    types: tuple[str, ...]
    zones: tuple[str, ...]
    subnets: tuple[str, ...]
    markets: tuple[Market, ...]
    #: Whether the machines need a GPU that the AMI's driver supports.
    gpu: bool
    #: GiB and MiB/s; None for the installation's default.
    disk_gib: int | None
    disk_throughput: int | None
    #: Whether the machines are launched into a cluster placement group.
    clustered: bool
    terms: Terms
    #: The reservations in one of which the machines are launched; empty: in none.
    reserved: tuple[Reservation, ...]

    @property
    def count(self) -> int:
        """Number of machines that each run needs now."""
        return self.terms.count


def plan_launches(
    waiting: Iterable[tuple[Run, Recipe]],
    site: Site,
    droughts: Mapping[str, Drought],
    health: Mapping[str, TemplateHealth],
    room: int | None,
    now: float,
    tokens: Iterator[str],
    kept: Mapping[str, Sequence[Assignment]] = MappingProxyType({}),
    joins: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    budget: Budget | None = None,
    reserved: Mapping[str, tuple[Reservation, ...]] = MappingProxyType({}),
) -> LaunchPlan:
    """Return the launches for the queued runs whose next try is due.

    At most `room` more machines may be alive (None: any number). `health` is by the template's name. `kept` has, by
    run, the nodes whose machines its next attempt uses again: the launch is for the other ranks, near these machines.
    `joins` has, by list run that gets further machines, their ranks. `budget` is what the cap on the cost of a day
    leaves (None: any amount). `reserved` has, by run whose machines are launched into a reservation, the reservations
    to choose from.
    """
    plan = LaunchPlan()
    groups: dict[_Group, list[Run]] = {}
    for run, recipe in waiting:
        if run.state is State.QUEUED and run.next_try_at <= now and not run.stop:
            group = _group(run, recipe, kept.get(run.id, ()), joins.get(run.id, ()), reserved.get(run.id, ()))
            groups.setdefault(group, []).append(run)
    #: Numbers of machines that the launches of this plan use, by reservation.
    used = Counter[str]()
    for whole, runs in groups.items():
        possible = _possible(whole, site)
        group = _reduced(whole, possible, site, used, budget, now)
        if not possible:
            reason = _never(group, site)
            plan.refused.extend((run, reason) for run in runs)
            continue
        place = _place(group, possible, site, droughts, used, budget, now)
        if place.again_at is None and not place.offers:
            plan.refused.extend((run, place.reason) for run in runs)
            continue
        runs, late = (runs, []) if place.room is None else (runs[: place.room], runs[place.room :])
        plan.runs.extend(_wait(run, place.cause, place.reason, place.again_at or now) for run in late)
        if not place.offers:
            continue
        allowed = runs if room is None else runs[: room // group.count]
        text = "as many machines are alive as max_machines allows"
        if group.scale > 1 and room is not None:
            left = room - len(allowed) * group.count
            text = f"the run needs {group.count} machines at once, but max_machines leaves room for only {left} more"
        plan.runs.extend(_wait(run, Waiting.LIMIT, text, now + ROOM_EVERY) for run in runs[len(allowed) :])
        use = Use(now, now + group.lifetime, (place.hourly or 0.0) * group.count)
        if budget is not None and (fitting := budget.room(use)) is not None and fitting < len(allowed):
            after = budget.plus(replace(use, hourly=use.hourly * fitting))
            text = over_cap(after, use, group.terms)
            plan.runs.extend(_wait(run, Waiting.LIMIT, text, after.next_try_at) for run in allowed[fitting:])
            allowed = allowed[:fitting]
        template = _template(group, site, place)
        sick = health.get(template.name)
        if allowed and sick and sick.failures >= FAILED_BOOTS:
            text = f"{sick.failures} machines in a row could not begin their work: {sick.reason}"
            probing = now >= sick.probe_at and all(probed.id != sick.id for probed in plan.templates)
            if probing:
                plan.templates.append(replace(sick, probe_at=now + PROBE_EVERY))
            held, allowed = (allowed[1:], allowed[:1]) if probing else (allowed, [])
            plan.runs.extend(_wait(run, Waiting.CONFIGURATION, text, now + TEMPLATE_EVERY) for run in held)
        if room is not None:
            room -= len(allowed) * group.count
        if budget is not None:
            budget = budget.plus(replace(use, hourly=use.hourly * len(allowed)))
        most = LARGEST_LAUNCH if group.scale == 1 and not group.ranks else 1
        for first in range(0, len(allowed), most):
            members = allowed[first : first + most]
            launch = _launch(group, members, place, site, template, next(tokens), now)
            used[template.reservation] += launch.request.count
            plan.launches.append(launch)
            plan.runs.extend(
                replace(
                    run, state=transition(run.state, State.LAUNCHING), launch=launch.id, waiting=None, waiting_for=""
                )
                for run in members
            )
    return replace(plan, runs=_unblocked(plan.runs, now))


def machines_left(live: Live, most: int | None) -> int | None:
    """Return how many more machines may be alive, if `most` is the maximum; None: any number.

    The machines of open launches count as alive.
    """
    if most is None:
        return None
    promised = sum(launch.request.count for launch in live.launches)
    return max(0, most - len(live.machines) - promised)


def _unblocked(runs: Sequence[Run], now: float) -> list[Run]:
    """Return the runs, of which only the oldest keeps machines while it waits for the limit on machines.

    Otherwise runs that keep machines could wait for each other.
    """
    blocked = [run for run in runs if run.waiting is Waiting.LIMIT and run.kept_until is not None]
    oldest = min(blocked, key=lambda run: (run.created_at, run.id), default=None)
    return [
        replace(run, kept_until=None, next_try_at=now) if run in blocked and run is not oldest else run for run in runs
    ]


def _group(
    run: Run, recipe: Recipe, kept: Sequence[Assignment], joins: tuple[int, ...], reserved: tuple[Reservation, ...]
) -> _Group:
    spec, near, ranks = recipe.spec, kept[0].machine.offer if kept else None, {each.node.rank for each in kept}
    missing = tuple(rank for rank in range(spec.together) if rank not in ranks) if ranks else joins
    return _Group(
        run.owner,
        run.job_name,
        run.job_revision,
        spec.together,
        missing,
        spec.machine_lifetime,
        (near.instance_type,) if near else spec.instance_types,
        (near.zone,) if near else spec.placement.zones,
        spec.placement.subnets,
        # The launch begins with the market of the run's tier, then tries the later ones, then the earlier ones.
        spec.markets[run.tier :] + spec.markets[: run.tier],
        spec.placement.gpu == "required",
        spec.placement.disk_gib,
        spec.placement.disk_throughput,
        spec.together > 1 and spec.placement.group == "cluster",
        terms_of(spec, len(missing) or spec.together),
        reserved,
    )


def _reduced(
    group: _Group, possible: list[Offer], site: Site, used: Mapping[str, int], budget: Budget | None, now: float
) -> _Group:
    """Return the group, with as many of the further machines of a list run as there is room for, at least one."""
    if group.scale > 1 or len(group.ranks) < 2 or (budget is None and not group.reserved):
        return group
    rooms: list[int | None] = [each.available - used.get(each.id, 0) for each in group.reserved]
    if budget is not None and not rooms:
        prices = [price for offer in possible if (price := site.price(offer)) is not None]
        rooms = [budget.room(Use(now, now + group.lifetime, price)) for price in prices]
    most = max((group.count if room is None else room for room in rooms), default=group.count)
    ranks = group.ranks[: max(1, most)]
    return replace(group, ranks=ranks, terms=replace(group.terms, count=len(ranks)))


@dataclass(frozen=True)
class _Place:
    """The offers for the machines of some runs; and why, and until when, runs beyond `room` wait."""

    #: Their subnets are alike.
    offers: tuple[Offer, ...]
    #: US dollars of an hour of a machine at most; None if it is unknown.
    hourly: float | None = None
    reservation: Reservation | None = None
    #: The number of runs that can be launched; None: any number.
    room: int | None = 0
    cause: Waiting = Waiting.CAPACITY
    reason: str = ""
    #: None if no later try can succeed.
    again_at: float | None = None


def _place(
    group: _Group,
    possible: list[Offer],
    site: Site,
    droughts: Mapping[str, Drought],
    used: Mapping[str, int],
    budget: Budget | None,
    now: float,
) -> _Place:
    """Return where the group can be launched; `used` has the numbers of machines that other launches will use."""
    if group.reserved:
        return _reserved(group, possible, used, now)
    may_cost = affordable(possible, site.price, group.terms, budget, now, unknown_prices=site.unknown_prices)
    if not may_cost.offers:
        return _Place((), cause=Waiting.LIMIT, reason="; ".join(may_cost.skipped), again_at=may_cost.next_try_at)
    offers, opens_at = capacity.open_offers(may_cost.offers, droughts, now)
    if not offers:
        return _Place((), reason="; ".join([_all_dry(group, may_cost.offers), *may_cost.skipped]), again_at=opens_at)
    offers = alike(offers, site.catalog)
    return _Place(offers, may_cost.hourly(offers), room=None)


def _reserved(group: _Group, possible: list[Offer], used: Mapping[str, int], now: float) -> _Place:
    """Return the place in a reservation. Its machines are paid for already, so they count nothing against caps."""
    left = [replace(each, available=max(0, each.available - used.get(each.id, 0))) for each in group.reserved]
    offered = {(offer.instance_type, offer.zone) for offer in possible}
    choice = choose(left, offered, group.count, group.lifetime, now)
    chosen = choice.reservation
    if chosen is None:
        cause = Waiting.CAPACITY if choice.full else Waiting.LIMIT
        return _Place((), cause=cause, reason=choice.reason, again_at=choice.again_at)
    offers = (Offer(Market.RESERVED, chosen.instance_type, chosen.zone),)
    text = f"the other runs use all that {chosen} has free"
    return _Place(offers, 0.0, chosen, chosen.available // group.count, reason=text, again_at=now + FULL_EVERY)


def _template(group: _Group, site: Site, place: _Place) -> Template:
    template = replace(
        site.template,
        # EC2 rejects a disk that is smaller than the AMI's snapshot.
        disk_gib=max(group.disk_gib or site.template.disk_gib, site.template.image.disk_gib),
        public_address=wants_address(place.offers[0], site.catalog),
        disk_throughput=group.disk_throughput or site.template.disk_throughput,
    )
    if place.reservation is None:
        return template
    only, chosen = "capacity-reservations-only", place.reservation
    return replace(template, capacity_reservation=only, reservation=chosen.id, capacity_block=chosen.block)


def _possible(group: _Group, site: Site) -> list[Offer]:
    """Return all offers that fit the runs, in order of preference."""
    return [
        Offer(market, kind.name, zone)
        for market in group.markets
        for kind in _fitting(group, site)
        for zone in kind.zones
        if _wanted(zone, group, site) and (market is Market.ON_DEMAND or kind.spot)
    ]


def _wanted(zone: str, group: _Group, site: Site) -> bool:
    in_subnet = not group.subnets or site.catalog.subnets.get(zone) in group.subnets
    return in_subnet and (not group.zones or zone in group.zones)


def _fitting(group: _Group, site: Site) -> list[InstanceType]:
    known = [site.catalog.types[name] for name in group.types if name in site.catalog.types]
    known = [kind for kind in known if kind.cluster or not group.clustered]
    known = [kind for kind in known if not group.gpu or kind.is_driven(site.driven)]
    return [kind for kind in known if kind.architecture == site.template.image.architecture]


def _never(group: _Group, site: Site) -> str:
    """Return the reason why no offer fits the runs."""
    types, known = ", ".join(group.types), [name for name in group.types if name in site.catalog.types]
    if not known:
        return f"no such instance type here: {types}"
    if group.clustered and not any(site.catalog.types[name].cluster for name in known):
        return f"{types}: cannot be in a cluster placement group; choose another type, or leave placement.group out"
    if group.gpu and not any(site.catalog.types[name].is_driven(site.driven) for name in known):
        return f"{types}: {undriven(site.driven)}"
    if not _fitting(group, site):
        return f"{types}: the AMI is for {site.template.image.architecture}, the instance type is not"
    where = ", ".join(group.zones + group.subnets) or "the zones of the installation's subnets"
    markets = " or ".join(group.markets)
    return f"{types}: not offered {markets} in {where}"


def _all_dry(group: _Group, possible: Sequence[Offer]) -> str:
    """Return the reason to wait while all possible offers are dry, with advice."""
    types = " or ".join(dict.fromkeys(offer.instance_type for offer in possible))
    zones = sorted({offer.zone for offer in possible})
    where = zones[0] if len(zones) == 1 else f"any of {len(zones)} zones"
    fallback = "" if Market.ON_DEMAND in group.markets else " or `spot_fallback: true`"
    fallback += " or no `placement.group`" if group.clustered else ""
    return f"AWS has no {' or '.join(group.markets)} {types} in {where}; more types{fallback} would help"


def _wait(run: Run, cause: Waiting, text: str, until: float) -> Run:
    return replace(run, waiting=cause, waiting_for=text, next_try_at=until)


def _launch(
    group: _Group, runs: list[Run], place: _Place, site: Site, template: Template, token: str, now: float
) -> Launch:
    offers = place.offers
    subnets = {offer.zone: site.catalog.subnets[offer.zone] for offer in offers}
    tags = {
        INSTALLATION_TAG: site.installation,
        LAUNCH_TAG: token,
        LIFETIME_TAG: f"{group.lifetime:.0f}",
        OWNER_TAG: group.owner,
        JOB_TAG: group.job,
    }
    request = LaunchRequest(
        token=token,
        template=template,
        market=offers[0].market,
        offers=offers,
        subnets=subnets,
        count=len(runs) * group.count,
        tags=tags,
        together=group.scale > 1,
        placement_group=placement_group_of(token) if group.clustered else "",
    )
    return Launch(request, tuple(run.id for run in runs), now, ranks=group.ranks, hourly_at_most=place.hourly)
