"""Estimate what a list takes and costs, before it is started."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from provisioner.core.cloud.offers import Catalog, Market, Offer, Price
from provisioner.core.recipe.recipe import Spec


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
        zones = [zone for zone in kind.zones if _allowed(spec, zone, catalog)]
        for market in spec.markets:
            if market is Market.ON_DEMAND:
                known = [price for price in [on_demand.get(kind.name)] if price]
            else:
                offers = [Offer(market, kind.name, zone) for zone in zones] if kind.spot else []
                known = [catalog.prices[offer] for offer in offers if offer in catalog.prices]
                if not offers:
                    continue
            if not known:
                return None
            found += known
    prices = [price.dollars for price in found]
    return Dollars(min(prices), max(prices)) if prices else None


def _allowed(spec: Spec, zone: str, catalog: Catalog) -> bool:
    subnets, zones = spec.placement.subnets, spec.placement.zones
    return (not zones or zone in zones) and (not subnets or catalog.subnets.get(zone) in subnets)
