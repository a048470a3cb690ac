"""Offers: the ways to get a machine, and their prices.

Prices are US dollars an hour, sizes as their names say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Market(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True)
class Offer:
    """One way to have a machine."""

    market: Market
    instance_type: str
    zone: str

    def __str__(self) -> str:
        return f"{self.market} {self.instance_type} in {self.zone}"


@dataclass(frozen=True)
class Price:
    """Dollars an hour of a machine, or a month of a disk; there is no Price where it is not known."""

    dollars: float
    #: Where the figure comes from, and when it was true.
    source: str
    at: float


@dataclass(frozen=True)
class InstanceType:
    """What the cloud says of a type."""

    name: str
    #: As the cloud names it: `x86_64`, `arm64`.
    architecture: str
    gpus: int
    vcpus: int
    memory_mib: int
    #: The zones of the region that offer it and in which the installation has a subnet.
    zones: tuple[str, ...]
    spot: bool


@dataclass(frozen=True)
class Catalog:
    """What can be launched here: types by name, and a price for each offer that has a known one."""

    types: Mapping[str, InstanceType]
    #: One subnet for each zone: a fleet cannot span two subnets of a zone.
    subnets: Mapping[str, str]
    prices: Mapping[Offer, Price]
    at: float
