"""Estimate what a list takes and costs before it is started, and whether the caps allow a recipe's machines."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from provisioner.core.cloud.caps.affording import affordable
from provisioner.core.cloud.caps.budget import Budget, Caps
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer, Price
from provisioner.core.recipe.defaults import allows
from provisioner.core.recipe.recipe import Spec
from provisioner.core.run.machines.costs import terms_of


@dataclass(frozen=True)
class Dollars:
    """The least and the greatest of the possible costs."""

    least: float
    most: float

    def times(self, factor: float) -> Self:
        return type(self)(self.least * factor, self.most * factor)


@dataclass(frozen=True)
class Estimate:
    """What a list needs. Neither the start of machines nor machines that are lost are counted."""

    #: Number of machines that can have work.
    machines: int
    #: Dollars an hour of all of them; None if a price is unknown.
    hourly: Dollars | None
    #: Seconds and dollars of the whole list; None if the time of a command, or a price, is unknown.
    seconds: float | None
    dollars: Dollars | None


def estimate(commands: int, scale: int, slots: int, price: Dollars | None, command_seconds: float | None) -> Estimate:
    """Return the estimate for a number of commands on at most `scale` machines with `slots` commands at once.

    `price` is that of an hour of one machine; `command_seconds` is how long a command of the same job took.
    """
    machines = max(1, min(scale, math.ceil(commands / slots)))
    hourly = price.times(machines) if price else None
    if command_seconds is None:
        return Estimate(machines, hourly, None, None)
    # Each slot executes its commands one after the other.
    seconds = math.ceil(commands / (machines * slots)) * command_seconds
    return Estimate(machines, hourly, seconds, hourly.times(seconds / 3600) if hourly else None)


def hourly(spec: Spec, catalog: Catalog, on_demand: Mapping[str, Price | None]) -> Dollars | None:
    """Return what an hour of one machine costs, in any of the offers that the recipe allows; None if it is unknown.

    `on_demand` has the list prices by instance type.
    """
    found = list[Price]()
    for kind in filter(None, map(catalog.types.get, spec.instance_types)):
        for market in spec.markets:
            if market is Market.ON_DEMAND:
                known = [price for price in [on_demand.get(kind.name)] if price]
            else:
                offers = list(_offers(spec, kind, market, catalog))
                known = [catalog.prices[offer] for offer in offers if offer in catalog.prices]
                if not offers:
                    continue
            if not known:
                return None
            found += known
    prices = [price.dollars for price in found]
    return Dollars(min(prices), max(prices)) if prices else None


def price_notes(
    spec: Spec, catalog: Catalog, on_demand: Mapping[str, Price | None], caps: Caps, now: float
) -> Iterator[str]:
    """Yield why no run of the recipe can be launched at present prices, even on a day without other runs."""

    def price_of(offer: Offer) -> float | None:
        known = on_demand.get(offer.instance_type) if offer.market is Market.ON_DEMAND else catalog.prices.get(offer)
        return known.dollars if known else None

    kinds = [catalog.types[name] for name in spec.instance_types if name in catalog.types]
    possible = [offer for market in spec.markets for kind in kinds for offer in _offers(spec, kind, market, catalog)]
    budget = None if caps.dollars_a_day is None else Budget(caps.dollars_a_day, now)
    terms = terms_of(spec, spec.together)
    found = affordable(possible, price_of, terms, budget, now, unknown_prices=caps.unknown_prices)
    if possible and not found.offers:
        what = "is refused" if found.next_try_at is None else "waits"
        yield f"a run {what}, as prices and settings are now: {'; '.join(found.skipped)}"


def _offers(spec: Spec, kind: InstanceType, market: Market, catalog: Catalog) -> Iterator[Offer]:
    if market is Market.ON_DEMAND or kind.spot:
        yield from (Offer(market, kind.name, zone) for zone in kind.zones if allows(spec, zone, catalog))
