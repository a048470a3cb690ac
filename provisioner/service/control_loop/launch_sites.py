"""Look up and cache the facts that launches need: machine images, instance profiles, catalogs, prices, the agent."""

import functools
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from provisioner.core.cloud.launches import Profile, Template
from provisioner.core.cloud.machine_images import Image, driven_families
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer, Price, Size
from provisioner.core.cloud.prices import PriceList
from provisioner.core.cloud.reserved.reservations import Reservation
from provisioner.core.errors import CloudError, Misconfigured, NeedsOperator
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import agent_key
from provisioner.core.recipe.defaults import RecipeDefaults, reservation
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run.clock_repair import SLACK
from provisioner.core.run.launching import Site
from provisioner.service.installation import Installation

T = TypeVar("T")

#: Seconds for which a cached catalog is valid (CATALOG_TTL): a spot price stays the same for hours. Seconds for which
#: cached machine images, profiles, GPU types and list prices are valid (PLACE_TTL): these change rarely.
CATALOG_TTL = 3600.0
PLACE_TTL = 24 * 3600.0
#: Maximum number of catalogs in memory that were made to check recipes. When it is reached, all of them are dropped.
MOST_CHECKED = 100
#: Seconds after an error until a price list or a quota is requested again.
UNLISTED_TTL = 600.0
#: Key of the operator's choice of a machine image, which has precedence over the machine image in the settings.
AMI = "ami"


@dataclass(frozen=True)
class Agent:
    """The agent's archive: a fingerprint of its sources, and the function that builds the archive."""

    fingerprint: str
    build: Callable[[], bytes]


@dataclass(frozen=True)
class _Remembered:
    """A catalog in a form that JSON can express: its prices by `market/instance_type/zone`."""

    catalog: Catalog
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True)
class _Names:
    names: tuple[str, ...]


class LaunchSites:
    """Caches the facts that launches need: with a warm cache, the first cloud call for a new run is its launch."""

    def __init__(self, installation: Installation, agent: Agent, user_data: Callable[[str, str], str]) -> None:
        """`user_data(role_id, agent_sha256)` returns the user data for the machines of one role."""
        self._installation = installation
        self._agent = agent
        self._user_data = user_data
        self._catalogs: dict[frozenset[str], Catalog] = {}
        self._checked: dict[frozenset[str], Catalog] = {}
        #: Price lists by instance type, each with the monotonic time until which it is valid.
        self._lists: dict[str, tuple[PriceList, float]] = {}
        self._agent_sha256 = ""

    def site(self, profile: str, types: Collection[str], listed: Collection[str] = (), failed_at: float = 0.0) -> Site:
        """Return the site at which to launch these instance types with this profile. Raises CloudError.

        It has the list prices of the types in `listed`, as far as they are known. `failed_at` is when a machine last
        could not work: its role may have been made anew, so the profile is looked up again if that was not done since.
        """
        installation, policy = self._installation, self._installation.policy
        reference, role = self.image_reference(), self.role(profile, failed_at)
        image = self.image(reference)
        template = Template(
            image=image,
            profile_arn=role.arn,
            security_groups=(*policy.groups_of(profile), *(policy.way_in.security_groups if installation.keys else ())),
            disk_gib=policy.disk_gib,
            user_data=self._user_data(role.role_id, self._uploaded()),
            role_id=role.role_id,
            installation=policy.installation,
        )
        on_demand = {name: price for name in listed if (price := self.price_list(name).machines.get(name))}
        return Site(
            policy.installation,
            self.catalog(types),
            template,
            driven_families(reference),
            on_demand,
            policy.caps.unknown_prices,
        )

    def image_reference(self) -> str:
        """Return the reference of the machine image for runs: the operator's choice, or else that of the settings."""
        return self._installation.store.chosen(AMI) or self._installation.policy.image

    def image(self, reference: str) -> Image:
        """Return the machine image; the answer may be a day old."""
        return self._known(f"image {reference}", Image, lambda: self._installation.cloud.image(reference))

    def role(self, profile: str, since: float = 0.0) -> Profile:
        """Return the instance profile with its role; the answer may be a day old, but not older than `since`."""
        return self._known(f"profile {profile}", Profile, lambda: self._installation.cloud.profile(profile), since)

    def reserved(self, reference: str) -> tuple[Reservation, ...]:
        """Return the capacity reservations with this id, or of this group, as they are now."""
        return self._installation.cloud.reservations(reference)

    def agent(self) -> tuple[str, bytes]:
        """Build the agent's archive; return its sha256 and the archive."""
        archive = self._agent.build()
        return hashlib.sha256(archive).hexdigest(), archive

    def agent_sha256(self) -> str:
        """Return the sha256 of the agent's archive; build the archive only if the store does not have its sha256."""
        store, key = self._installation.store, f"agent {self._agent.fingerprint}"
        found = store.remembered(key)
        if found is None:
            found = self.agent()[0], self._installation.clock.now()
            store.remember(key, *found)
        return found[0]

    def catalog(self, types: Collection[str]) -> Catalog:
        """Return the catalog of these instance types, at most an hour old."""
        key, now = frozenset(types), self._installation.clock.now()
        known = self._catalogs.get(key) or self._stored(key)
        if known is None or not _fresh(known.at, now, CATALOG_TTL):
            known = self._installation.cloud.catalog(types)
            flat = {_words(offer): price for offer, price in known.prices.items()}
            text = encode(_Remembered(replace(known, prices={}), flat)).decode()
            self._installation.store.remember(_name(key), text, now)
        self._catalogs[key] = known
        return known

    def vcpus(self, types: Collection[str]) -> Mapping[str, int]:
        """Return the vCPUs of those of these instance types that a catalog in memory has."""
        catalogs = list(self._catalogs.values())
        return {name: each.types[name].vcpus for name in types for each in catalogs if name in each.types}

    def catalog_to_check(self, types: Collection[str], at_most: float = CATALOG_TTL) -> Catalog:
        """Return a catalog with which to check a recipe, at most `at_most` seconds old.

        Users may name any types, so this catalog is not stored, and only a bounded number is kept in memory. Threads of
        requests may call this while a pass uses `catalog`.
        """
        key, now = frozenset(types), self._installation.clock.now()
        known = self._checked.get(key) or self._stored(key)
        if known is None or not _fresh(known.at, now, at_most):
            known = self._installation.cloud.catalog(types)
        if len(self._checked) >= MOST_CHECKED:
            self._checked.clear()
        self._checked[key] = known
        return known

    def _stored(self, types: frozenset[str]) -> Catalog | None:
        found = self._installation.store.remembered(_name(types))
        if found is None:
            return None
        known = decode(_Remembered, found[0].encode())
        return replace(known.catalog, prices={_offer(name): price for name, price in known.prices.items()})

    def gpu_types(self) -> tuple[str, ...]:
        """Return the names of the region's GPU types, sorted; the answer may be a day old."""
        return self._known("gpu types", _Names, lambda: _Names(self._installation.cloud.gpu_types())).names

    def sizes(self) -> tuple[Size, ...]:
        """Return the region's GPU types, with the list prices that are cached: reading a price list is slow."""
        catalog = self.catalog(self.gpu_types())
        return tuple(self._size(catalog, kind) for _, kind in sorted(catalog.types.items()))

    def _size(self, catalog: Catalog, kind: InstanceType) -> Size:
        listed = self._installation.store.remembered(_listed(kind.name))
        on_demand = decode(PriceList, listed[0].encode()).machines.get(kind.name) if listed else None
        spot = [price for offer, price in catalog.prices.items() if offer.instance_type == kind.name]
        return Size(kind, on_demand, min(spot, key=lambda price: price.dollars, default=None))

    def price(self, offer: Offer) -> Price | None:
        """Return the offer's last known price, or None."""
        if offer.market is not Market.SPOT:
            return self.price_list(offer.instance_type).machines.get(offer.instance_type)
        # Another thread may add a catalog meanwhile.
        heard = [catalog for catalog in list(self._catalogs.values()) if offer in catalog.prices]
        return max(heard, key=lambda catalog: catalog.at).prices[offer] if heard else None

    def price_list(self, instance_type: str) -> PriceList:
        """Return the price list, about a day old at most; an empty one for UNLISTED_TTL seconds after an error."""
        now = self._installation.clock.elapsed()
        known = self._lists.get(instance_type)
        if known is None or now > known[1]:
            try:
                ask = functools.partial(self._installation.cloud.price_list, [instance_type])
                known = self._known(_listed(instance_type), PriceList, ask), now + CATALOG_TTL
            except CloudError:
                known = PriceList({}), now + UNLISTED_TTL
            self._lists[instance_type] = known
        return known[0]

    def quota(self, code: str) -> int | None:
        """Return the account's quota of vCPUs, an hour old at most; None if it could not be read."""
        store, key, now = self._installation.store, f"quota {code}", self._installation.clock.now()
        found = store.remembered(key)
        if found is None or not _fresh(found[1], now, CATALOG_TTL if found[0] else UNLISTED_TTL):
            try:
                found = str(self._installation.cloud.quota(code)), now
            except CloudError:
                found = "", now
            store.remember(key, *found)
        return int(found[0]) if found[0] else None

    def _known(self, key: str, kind: type[T], ask: Callable[[], T], since: float = 0.0) -> T:
        store, now = self._installation.store, self._installation.clock.now()
        found = store.remembered(key)
        if found and found[1] >= min(since, now) and _fresh(found[1], now, PLACE_TTL):
            return decode(kind, found[0].encode())
        value = ask()
        store.remember(key, encode(value).decode(), now)
        return value

    def _uploaded(self) -> str:
        """Write the agent's archive to the bucket if it is not there; return its sha256."""
        if self._agent_sha256:
            return self._agent_sha256
        store, bucket, key = self._installation.store, self._installation.bucket, f"agent {self._agent.fingerprint}"
        found = store.remembered(key)
        # The archive may have been deleted from the bucket, so look for it once in each process.
        if found is None or not any(bucket.list(agent_key(found[0]))):
            sha256, archive = self.agent()
            bucket.put(agent_key(sha256), archive, if_absent=True)
            store.remember(key, sha256, self._installation.clock.now())
            found = sha256, 0.0
        self._agent_sha256 = found[0]
        return self._agent_sha256


class ReservationLooks:
    """The capacity reservations that recipes name: each is looked up once."""

    def __init__(self, sites: LaunchSites) -> None:
        self._sites = sites
        self._known: dict[str, tuple[Reservation, ...] | CloudError] = {}

    def of(self, spec: Spec, terms: RecipeDefaults) -> tuple[Reservation, ...]:
        """Return the reservations to choose from for the spec's machines; empty if they use none.

        Raises CloudError; NeedsOperator, and not Misconfigured, if the reservation of the settings is wrong or over.
        """
        reference = reservation(spec, terms)
        if not reference:
            return ()
        if reference not in self._known:
            try:
                self._known[reference] = self._sites.reserved(reference)
            except CloudError as error:
                self._known[reference] = error
        found, named = self._known[reference], spec.placement.reserved
        if isinstance(found, CloudError):
            wrong = isinstance(found, Misconfigured) and not named
            raise NeedsOperator(f"{found}; correct `reservation` in the settings", found.code) if wrong else found
        if named:
            return found
        fitting = tuple(each for each in found if each.instance_type in spec.instance_types)
        if fitting and all(each.over for each in fitting):
            raise NeedsOperator(f"{fitting[0]} is {fitting[0].state}: name another `reservation` in the settings")
        return fitting


def _fresh(stored_at: float, now: float, lasts: float) -> bool:
    """Return whether a value is valid: for `lasts` seconds, but not if `stored_at` is over SLACK seconds ahead."""
    return stored_at - SLACK <= now < stored_at + lasts


def _name(types: frozenset[str]) -> str:
    return f"catalog {' '.join(sorted(types))}"


def _listed(instance_type: str) -> str:
    return f"price list {instance_type}"


def _words(offer: Offer) -> str:
    return f"{offer.market}/{offer.instance_type}/{offer.zone}"


def _offer(name: str) -> Offer:
    market, instance_type, zone = name.split("/")
    return Offer(Market(market), instance_type, zone)
