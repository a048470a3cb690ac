"""Offers: the ways to get a machine, and their prices.

Prices are in US dollars an hour; names of sizes contain the unit.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"
    #: Capacity that the account has reserved, and pays for whether machines use it or not.
    RESERVED = "reserved"


#: The markets in which the cloud sells machines to everybody.
OPEN_MARKETS = (Market.SPOT, Market.ON_DEMAND)


@dataclass(frozen=True)
class Offer:
    """One way to get a machine."""

    market: Market
    instance_type: str
    zone: str

    def __str__(self) -> str:
        return f"{self.market} {self.instance_type} in {self.zone}"


@dataclass(frozen=True)
class Price:
    """A known price: US dollars for an hour of a machine, or for a month of a disk."""

    dollars: float
    #: The source of the price, and the Unix time at which the price was valid.
    source: str
    at: float


@dataclass(frozen=True)
class InstanceType:
    """An instance type as the cloud describes it."""

    name: str
    #: `x86_64` or `arm64`, as the cloud names it.
    architecture: str
    gpus: int
    vcpus: int
    memory_mib: int
    #: The zones of the region that offer it and in which the installation has a subnet.
    zones: tuple[str, ...]
    spot: bool
    #: Whether its machines may be in a cluster placement group; EC2 decides if an earlier version stored the catalog.
    cluster: bool = True

    def is_driven(self, families: Collection[str] | None) -> bool:
        """Return whether a driver for these families (None: unknown) supports its GPUs, if it has any."""
        return families is None or not self.gpus or self.name.partition(".")[0] in families


@dataclass(frozen=True)
class Catalog:
    """What this installation can launch: instance types by name, and the known prices of offers."""

    types: Mapping[str, InstanceType]
    #: Subnet ids by zone, one each: a fleet cannot span two subnets of a zone.
    subnets: Mapping[str, str]
    prices: Mapping[Offer, Price]
    at: float
    #: The ids of subnets whose route leads to an internet gateway, but which assign no public address: without one, a
    #: machine there has no way out.
    address_wanted: tuple[str, ...] = ()


def wants_address(offer: Offer, catalog: Catalog) -> bool:
    """Return whether a launch in the offer's subnet must request a public address."""
    return catalog.subnets[offer.zone] in catalog.address_wanted


def alike(offers: Sequence[Offer], catalog: Catalog) -> tuple[Offer, ...]:
    """Return the offers whose subnets have the first one's need for a public address: a template decides it for all."""
    return tuple(each for each in offers if wants_address(each, catalog) == wants_address(offers[0], catalog))


@dataclass(frozen=True)
class Size:
    """An instance type that a recipe may name, and the price of an hour; None if the price is unknown."""

    type: InstanceType
    on_demand: Price | None
    #: The cheapest price in the installation's zones.
    spot: Price | None
