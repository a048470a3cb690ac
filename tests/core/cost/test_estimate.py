"""What a list would take and cost."""

from typing import Any

import pytest

from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer, Price
from provisioner.core.cost.estimate import Dollars, estimate, hourly
from tests.support.samples import recipe

PRICE = Dollars(0.5, 2.0)
A, B = "us-east-1a", "us-east-1b"


@pytest.mark.parametrize(
    ("commands", "scale", "machines", "seconds"),
    [
        (1, 4, 1, 10.0),
        (8, 4, 1, 10.0),
        (9, 4, 2, 10.0),
        (32, 4, 4, 10.0),
        (33, 4, 4, 20.0),
        (32, 1, 1, 40.0),
    ],
)
def test_estimate_fills_the_slots_of_all_machines(commands: int, scale: int, machines: int, seconds: float) -> None:
    found = estimate(commands, scale, 8, PRICE, 10.0)
    assert (found.machines, found.seconds) == (machines, seconds)
    assert found.hourly == Dollars(0.5 * machines, 2.0 * machines)
    assert found.dollars == Dollars(0.5 * machines * seconds / 3600, 2.0 * machines * seconds / 3600)


def test_what_is_unknown_is_not_guessed() -> None:
    found = estimate(100, 2, 8, None, 10.0)
    assert (found.hourly, found.seconds, found.dollars) == (None, 70.0, None)
    found = estimate(100, 2, 8, PRICE, None)
    assert (found.hourly, found.seconds, found.dollars) == (Dollars(1.0, 4.0), None, None)


def kind(name: str, **fields: Any) -> InstanceType:
    return InstanceType(name, "x86_64", 1, 4, 16384, (A, B), **{"spot": True, **fields})


def price(dollars: float) -> Price:
    return Price(dollars, "test", 0.0)


CATALOG = Catalog(
    {each.name: each for each in (kind("g5.xlarge"), kind("g6.xlarge"), kind("g6.metal", spot=False))},
    {A: "subnet-a", B: "subnet-b"},
    {
        Offer(Market.SPOT, "g5.xlarge", A): price(0.5),
        Offer(Market.SPOT, "g5.xlarge", B): price(0.7),
        Offer(Market.SPOT, "g6.xlarge", B): price(0.4),
    },
    0.0,
)
LISTED = {"g5.xlarge": price(2.0), "g6.xlarge": price(3.0), "g6.metal": price(9.0)}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({}, Dollars(2.0, 2.0)),
        ({"placement": {"instance_types": ["g6.xlarge"]}}, Dollars(2.0, 3.0)),
        ({"use_spot_instance": True}, Dollars(0.5, 0.7)),
        ({"use_spot_instance": True, "placement": {"zones": [A]}}, Dollars(0.5, 0.5)),
        ({"use_spot_instance": True, "placement": {"subnets": ["subnet-b"]}}, Dollars(0.7, 0.7)),
        ({"use_spot_instance": True, "placement": {"spot_fallback": True}}, Dollars(0.5, 2.0)),
        ({"use_spot_instance": True, "placement": {"instance_types": ["g6.xlarge"]}}, Dollars(0.4, 0.7)),
        ({"use_spot_instance": True, "placement": {"instance_types": ["g6.metal"]}}, Dollars(0.5, 0.7)),
        # No price of g6.xlarge is known in this zone.
        ({"use_spot_instance": True, "placement": {"instance_types": ["g6.xlarge"], "zones": [A]}}, None),
        ({"instance_type": "g6.12xlarge"}, None),
    ],
)
def test_price_is_that_of_every_offer_which_the_recipe_allows(spec: dict[str, Any], found: Dollars | None) -> None:
    assert hourly(recipe(**spec).spec, CATALOG, LISTED) == found


def test_price_of_an_unlisted_type_is_unknown() -> None:
    assert hourly(recipe().spec, CATALOG, {"g5.xlarge": None}) is None
    assert hourly(recipe().spec, CATALOG, {}) is None
