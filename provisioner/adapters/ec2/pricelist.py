"""Read list prices from AWS's Price List service (AWS Billing User Guide, "Finding services and products")."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from provisioner.core.cloud.offers import Price
from provisioner.core.cloud.prices import PriceList

#: One of the few regions with an endpoint of the Price List service, which returns the prices of all regions (AWS
#: Billing User Guide, "Price List Query API endpoints").
REGION = "us-east-1"

SOURCE = "AWS Price List"

#: For each part of a gp3 disk: the unit of AWS's price, and how many GiB, IOPS or MiB/s that unit is.
DISK = {"gib": ("GB-Mo", 1), "iops": ("IOPS-Mo", 1), "throughput": ("GiBps-mo", 1024)}


def machines(region: str, instance_types: Iterable[str]) -> dict[str, Any]:
    """Return GetProducts' parameters for Linux on shared hardware, without reservation or preinstalled software."""
    return _query(
        region,
        capacitystatus="Used",
        instanceType=",".join(sorted(instance_types)),
        marketoption="OnDemand",
        operatingSystem="Linux",
        preInstalledSw="NA",
        tenancy="Shared",
    )


def disks(region: str) -> dict[str, Any]:
    """Return GetProducts' parameters for the type of disk that our machines have."""
    return _query(region, volumeApiName="gp3")


def _query(region: str, **fields: str) -> dict[str, Any]:
    filters = [
        {"Type": "ANY_OF" if "," in value else "TERM_MATCH", "Field": field, "Value": value}
        for field, value in {**fields, "regionCode": region}.items()
    ]
    return {"ServiceCode": "AmazonEC2", "Filters": filters}


def price_list(machines: Iterable[str], disks: Iterable[str], at: float) -> PriceList:
    """Return the prices in the products, each a JSON text; a type or a part with several prices is left out."""
    by_type: dict[str, set[float]] = {}
    for name, unit, dollars in _prices(machines, "instanceType"):
        if unit == "Hrs":
            by_type.setdefault(name, set()).add(dollars)
    by_unit: dict[str, set[float]] = {}
    for _, unit, dollars in _prices(disks, "volumeApiName"):
        by_unit.setdefault(unit, set()).add(dollars)
    parts = {part: _price(by_unit.get(unit, set()), at, size) for part, (unit, size) in DISK.items()}
    known = {name: price for name, found in by_type.items() if (price := _price(found, at))}
    return PriceList(known, **parts)


def _price(found: set[float], at: float, size: int = 1) -> Price | None:
    return Price(next(iter(found)) / size, SOURCE, at) if len(found) == 1 else None


def _prices(products: Iterable[str], attribute: str) -> Iterator[tuple[str, str, float]]:
    """Yield the attribute, the unit and the dollars of each price that is not 0."""
    for text in products:
        product: Mapping[str, Any] = json.loads(text)
        name = product["product"]["attributes"].get(attribute, "")
        for term in product.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                dollars = float(dimension["pricePerUnit"].get("USD", 0))
                if dollars:
                    yield name, dimension["unit"], dollars
