"""Answer AWS's GetProducts (Price List API) for EC2's machines and disks, with the scenario's prices.

The structure is that of the offer files (AWS Price List User Guide, "Reading the service price list file").
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.aws.calls import NotPlayed
from provisioner.rehearsal.ec2.model import Model

#: The fields of a query for machines, with the values that select one product for each instance type.
_MACHINES = {
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "tenancy": "Shared",
}
_UNITS = ("GB-Mo", "IOPS-Mo", "GiBps-mo")


def products(model: Model, region: str, said: Mapping[str, Any], now: float) -> list[str]:
    """Return the products that fit the query as JSON texts with AWS's structure; raises NotPlayed for other queries."""
    asked = {item["Field"]: item["Value"] for item in said.get("Filters", [])}
    service, place = said.get("ServiceCode"), asked.pop("regionCode", "")
    if service != "AmazonEC2" or place != region:
        raise NotPlayed(f"GetProducts of service {service!r} in region {place!r}; it has only AmazonEC2 in {region}")
    if asked == {"volumeApiName": "gp3"}:
        gib, iops, throughput = model.conditions.disk or (0.0, 0.0, 0.0)
        priced = zip(_UNITS, (gib, iops, throughput * 1024), strict=True)
        return [_product({"volumeApiName": "gp3"}, unit, dollars) for unit, dollars in priced if dollars]
    types = asked.pop("instanceType", "").split(",")
    if asked != _MACHINES:
        raise NotPlayed(f"GetProducts with filters {asked}")
    return [
        _product({**_MACHINES, "instanceType": name}, "Hrs", dollars) for name, dollars in _on_demand(model, types, now)
    ]


def _on_demand(model: Model, types: Iterable[str], now: float) -> Iterator[tuple[str, float]]:
    """Yield each priced type and its price in the first zone; a price list has no zones."""
    zone = min(model.subnets.values())
    for name in types:
        if (dollars := model.price(Offer(Market.ON_DEMAND, name, zone), now)) is not None:
            yield name, dollars


def _product(attributes: Mapping[str, str], unit: str, dollars: float) -> str:
    price = {"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": f"{dollars:.10f}"}}
    terms = {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": price}}}}
    return json.dumps({"serviceCode": "AmazonEC2", "product": {"attributes": dict(attributes)}, "terms": terms})
