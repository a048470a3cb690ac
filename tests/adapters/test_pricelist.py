"""What is asked of AWS's price list, and what is believed of its answers."""

import json
from typing import Any

from botocore.session import get_session
from botocore.validate import ParamValidator

from provisioner.adapters.ec2 import pricelist
from provisioner.core.cloud.prices import PriceList


def product(attributes: dict[str, str], *prices: tuple[str, dict[str, str]]) -> str:
    """A product as GetProducts tells it, with a price dimension for each unit and price."""
    dimensions = {f"rate{n}": {"unit": unit, "pricePerUnit": price} for n, (unit, price) in enumerate(prices)}
    terms = {"OnDemand": {"term": {"priceDimensions": dimensions}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


def machine(*prices: tuple[str, dict[str, str]], name: str = "g5.xlarge") -> str:
    return product({"instanceType": name}, *prices)


def test_the_queries_are_the_services_own() -> None:
    """botocore's model of the service knows every parameter; one type is matched, several are any of them."""
    shape = get_session().get_service_model("pricing").operation_model("GetProducts").input_shape
    assert shape is not None
    for query in (pricelist.machines("eu-west-1", ["b", "a"]), pricelist.disks("eu-west-1")):
        assert not ParamValidator().validate(query, shape).has_errors()
    assert kinds(pricelist.machines("eu-west-1", ["b", "a"]))["instanceType"] == ("ANY_OF", "a,b")
    assert kinds(pricelist.machines("eu-west-1", ["a"]))["instanceType"] == ("TERM_MATCH", "a")
    assert kinds(pricelist.disks("eu-west-1"))["regionCode"] == ("TERM_MATCH", "eu-west-1")


def kinds(query: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["Field"]: (item["Type"], item["Value"]) for item in query["Filters"]}


def test_what_is_not_certain_is_unknown() -> None:
    """Two prices, another currency, another unit, a price of nothing, a product without terms: no price is told."""
    unsure: tuple[list[str], ...] = (
        [machine(("Hrs", {"USD": "1.0"})), machine(("Hrs", {"USD": "2.0"}))],
        [machine(("Hrs", {"CNY": "6.0"}))],
        [machine(("Quantity", {"USD": "1.0"}))],
        [machine(("Hrs", {"USD": "0.0000000000"}))],
        [json.dumps({"product": {"attributes": {"instanceType": "g5.xlarge"}}, "terms": {}})],
        [],
    )
    for products in unsure:
        assert pricelist.price_list(products, [], 0.0) == PriceList({})


def test_a_price_stands_beside_what_says_nothing() -> None:
    """The price of a reservation that lies idle is 0, and a second product may tell the same price."""
    known = pricelist.price_list(
        [machine(("Hrs", {"USD": "1.0060000000"})), machine(("Hrs", {"USD": "0"})), machine(("Hrs", {"USD": "1.006"}))],
        [product({"volumeApiName": "gp3"}, ("GB-Mo", {"USD": "0.08"}), ("GiBps-mo", {"USD": "40.96"}))],
        7.0,
    )
    assert [(price.dollars, price.source, price.at) for price in known.machines.values()] == [
        (1.006, "AWS Price List", 7.0)
    ]
    # Sold by the GiB/s, asked for by the MiB/s.
    assert known.throughput is not None
    assert known.throughput.dollars == 0.04
    assert known.iops is None
