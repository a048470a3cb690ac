"""Queries to AWS's price list, and the parts of its answers that are used."""

import json
from typing import Any

from botocore.session import get_session
from botocore.validate import ParamValidator

from provisioner.adapters.ec2 import pricelist
from provisioner.core.cloud.prices import PriceList


def product(attributes: dict[str, str], *prices: tuple[str, dict[str, str]]) -> str:
    """Return a product in GetProducts' form, with one price dimension for each unit and price."""
    dimensions = {f"rate{n}": {"unit": unit, "pricePerUnit": price} for n, (unit, price) in enumerate(prices)}
    terms = {"OnDemand": {"term": {"priceDimensions": dimensions}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


def machine(*prices: tuple[str, dict[str, str]], name: str = "g5.xlarge") -> str:
    return product({"instanceType": name}, *prices)


def test_queries_are_valid_for_botocores_model() -> None:
    """botocore's model accepts every parameter. One type is a TERM_MATCH filter, several are an ANY_OF filter."""
    shape = get_session().get_service_model("pricing").operation_model("GetProducts").input_shape
    assert shape is not None
    for query in (pricelist.machines("eu-west-1", ["b", "a"]), pricelist.disks("eu-west-1")):
        assert not ParamValidator().validate(query, shape).has_errors()
    assert kinds(pricelist.machines("eu-west-1", ["b", "a"]))["instanceType"] == ("ANY_OF", "a,b")
    assert kinds(pricelist.machines("eu-west-1", ["a"]))["instanceType"] == ("TERM_MATCH", "a")
    assert kinds(pricelist.disks("eu-west-1"))["regionCode"] == ("TERM_MATCH", "eu-west-1")


def kinds(query: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["Field"]: (item["Type"], item["Value"]) for item in query["Filters"]}


def test_ambiguous_products_give_no_price() -> None:
    """No price results from two prices, another currency or unit, a price of 0, or a product without terms."""
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


def test_zero_price_and_equal_duplicate_do_not_hide_a_price() -> None:
    """An idle reservation's price of 0 is ignored, and a second product may have the same price."""
    known = pricelist.price_list(
        [machine(("Hrs", {"USD": "1.0060000000"})), machine(("Hrs", {"USD": "0"})), machine(("Hrs", {"USD": "1.006"}))],
        [product({"volumeApiName": "gp3"}, ("GB-Mo", {"USD": "0.08"}), ("GiBps-mo", {"USD": "40.96"}))],
        7.0,
    )
    assert [(price.dollars, price.source, price.at) for price in known.machines.values()] == [
        (1.006, "AWS Price List", 7.0)
    ]
    # AWS sells throughput by the GiB/s; a recipe requests it by the MiB/s.
    assert known.throughput is not None
    assert known.throughput.dollars == 0.04
    assert known.iops is None
