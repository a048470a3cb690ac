"""From runs that wait to launches: who goes together, in which market, on which offers.

Pure: the world as it is known, and the time, come in; launches and the reasons to wait go out.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from provisioner.core.cloud.launches import LaunchRequest, Template
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer
from provisioner.core.cloud.tags import INSTALLATION_TAG, JOB_TAG, LAUNCH_TAG, LIFETIME_TAG, OWNER_TAG
from provisioner.core.recipe.recipe import Recipe
from provisioner.core.run import capacity
from provisioner.core.run.records import Drought, Launch, Live, Run, TemplateHealth
from provisioner.core.run.states import State, Waiting, transition

#: Machines asked for by one call; an instant fleet takes more, but a lost answer should stay small.
LARGEST_LAUNCH = 500
#: This many machines in a row that never report stop their template, but for one probe an hour.
FAILED_BOOTS = 3
PROBE_EVERY = 3600.0
#: A run that waits for room among our own machines looks again after this.
ROOM_EVERY = 5.0
#: One that waits for its template looks again after this: a probe may have reported, or the settings changed.
TEMPLATE_EVERY = 60.0


@dataclass(frozen=True)
class Site:
    """Where launches go: what is to be had there, and what all machines have in common."""

    installation: str
    catalog: Catalog
    #: Its disk is for recipes that ask for none of their own.
    template: Template


@dataclass(frozen=True)
class LaunchPlan:
    launches: list[Launch] = field(default_factory=list)
    #: Runs as they are to be stored: launching, or waiting with the cause.
    runs: list[Run] = field(default_factory=list)
    #: Runs that can never be launched, each with the reason.
    refused: list[tuple[Run, str]] = field(default_factory=list)
    templates: list[TemplateHealth] = field(default_factory=list)


@dataclass(frozen=True)
class _Group:
    """What the runs of one launch share: a fleet tags all its machines alike."""

    owner: str
    job: str
    revision: int
    lifetime: float
    types: tuple[str, ...]
    zones: tuple[str, ...]
    subnets: tuple[str, ...]
    markets: tuple[Market, ...]
    #: GiB, and MiB a second; None is the installation's.
    disk_size: int | None
    disk_throughput: int | None


def plan_launches(
    waiting: Iterable[tuple[Run, Recipe]],
    site: Site,
    droughts: Mapping[str, Drought],
    health: Mapping[str, TemplateHealth],
    room: int | None,
    now: float,
    tokens: Iterator[str],
) -> LaunchPlan:
    """Launches for the queued runs that are due; `room` more machines may be alive (None: any number).

    `health` is by the template's name.
    """
    plan = LaunchPlan()
    groups: dict[_Group, list[Run]] = {}
    for run, recipe in waiting:
        if run.state is State.QUEUED and run.next_try_at <= now and not run.stop:
            groups.setdefault(_group(run, recipe), []).append(run)
    for group, runs in groups.items():
        possible = _possible(group, site)
        if not possible:
            reason = _never(group, site)
            plan.refused.extend((run, reason) for run in runs)
            continue
        offers, opens_at = _open(possible, droughts, now)
        if not offers:
            text = f"every offer of {', '.join(group.types)} was dry lately"
            plan.runs.extend(_wait(run, Waiting.CAPACITY, text, opens_at) for run in runs)
            continue
        allowed = runs[:room]
        text = "as many machines as the settings allow are alive"
        plan.runs.extend(_wait(run, Waiting.LIMIT, text, now + ROOM_EVERY) for run in runs[len(allowed) :])
        template = _template(group, site)
        sick = health.get(template.name)
        if allowed and sick and sick.failures >= FAILED_BOOTS:
            text = f"{sick.failures} machines in a row never reported: {sick.reason}"
            probing = now >= sick.probe_at and all(probed.id != sick.id for probed in plan.templates)
            if probing:
                plan.templates.append(replace(sick, probe_at=now + PROBE_EVERY))
            held, allowed = (allowed[1:], allowed[:1]) if probing else (allowed, [])
            plan.runs.extend(_wait(run, Waiting.CONFIGURATION, text, now + TEMPLATE_EVERY) for run in held)
        if room is not None:
            room -= len(allowed)
        for first in range(0, len(allowed), LARGEST_LAUNCH):
            members = allowed[first : first + LARGEST_LAUNCH]
            launch = _launch(group, members, offers, site, next(tokens), now)
            plan.launches.append(launch)
            plan.runs.extend(
                replace(
                    run, state=transition(run.state, State.LAUNCHING), launch=launch.id, waiting=None, waiting_for=""
                )
                for run in members
            )
    return plan


def machines_left(live: Live, most: int | None) -> int | None:
    """Return how many more machines may be alive if at most `most` may; None: any number.

    The machines of open launches count as alive.
    """
    if most is None:
        return None
    promised = sum(launch.request.count for launch in live.launches)
    return max(0, most - len(live.machines) - promised)


def _group(run: Run, recipe: Recipe) -> _Group:
    spec = recipe.spec
    return _Group(
        run.owner,
        run.job_name,
        run.job_revision,
        spec.limits.lifetime,
        spec.instance_types,
        spec.placement.zones,
        spec.placement.subnets,
        # A run whose tier is not the first begins there, and comes back round.
        spec.markets[run.tier :] + spec.markets[: run.tier],
        # EC2 sells whole GiB.
        spec.placement.disk_size and math.ceil(spec.placement.disk_size / (1 << 30)),
        spec.placement.disk_throughput,
    )


def _template(group: _Group, site: Site) -> Template:
    return replace(
        site.template,
        disk_gib=group.disk_size or site.template.disk_gib,
        disk_throughput=group.disk_throughput or site.template.disk_throughput,
    )


def _possible(group: _Group, site: Site) -> list[Offer]:
    """Every offer that the runs could ever have, in their order of preference."""
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
    return [kind for kind in known if kind.architecture == site.template.image.architecture]


def _never(group: _Group, site: Site) -> str:
    """Why the runs can have no offer at all."""
    types = ", ".join(group.types)
    if not any(name in site.catalog.types for name in group.types):
        return f"no such instance type here: {types}"
    if not _fitting(group, site):
        return f"{types}: the machine image is {site.template.image.architecture}, the type is not"
    where = ", ".join(group.zones + group.subnets) or "the zones of the installation's subnets"
    markets = " or ".join(group.markets)
    return f"{types}: not offered {markets} in {where}"


def _open(possible: list[Offer], droughts: Mapping[str, Drought], now: float) -> tuple[tuple[Offer, ...], float]:
    """The first market's offers that are not dry; or none, and when the first of all opens again."""
    until = {offer: capacity.dry_until(offer, droughts, now) for offer in possible}
    offers = [offer for offer, dry in until.items() if dry is None]
    opens_at = min((dry for dry in until.values() if dry is not None), default=now)
    return tuple(offer for offer in offers if offer.market is offers[0].market), opens_at


def _wait(run: Run, cause: Waiting, text: str, until: float) -> Run:
    return replace(run, waiting=cause, waiting_for=text, next_try_at=until)


def _launch(group: _Group, runs: list[Run], offers: tuple[Offer, ...], site: Site, token: str, now: float) -> Launch:
    subnets = {offer.zone: site.catalog.subnets[offer.zone] for offer in offers}
    tags = {
        INSTALLATION_TAG: site.installation,
        LAUNCH_TAG: token,
        LIFETIME_TAG: f"{group.lifetime:.0f}",
        OWNER_TAG: group.owner,
        JOB_TAG: group.job,
    }
    request = LaunchRequest(token, _template(group, site), offers[0].market, offers, subnets, len(runs), tags)
    return Launch(request, tuple(run.id for run in runs), now)
