"""What a list would take and cost."""

from typing import Any

import pytest

from provisioner.core.cloud.caps.budget import NO_CAPS, Caps
from provisioner.core.cloud.offers import Catalog, InstanceType, Market, Offer, Price
from provisioner.core.cost.estimate import Dollars, estimate, hourly, price_notes
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


NOON = 20_000.5 * 86400.0
SPOT = {"use_spot_instance": True}


@pytest.mark.parametrize(
    ("spec", "caps", "note"),
    [
        ({}, NO_CAPS, ""),
        # With the default limits, a machine may live for 26.3 hours: 12 of them are today.
        ({}, Caps(28.7), ""),
        ({}, Caps(26.4), "a run waits, as prices and settings are now: a machine at $2.00 an hour may cost $28.68"),
        ({}, Caps(26.3), "a run is refused, as prices and settings are now: a machine at $2.00 an hour may"),
        ({"limits": {"runtime": "1h"}}, Caps(26.4), ""),
        ({"scale": 2}, Caps(26.6), "a run is refused, as prices and settings are now: 2 machines at $2.00 an hour"),
        ({"scale": 9, "command": ["a", "b"]}, Caps(28.7), ""),
        (SPOT, Caps(7.2), ""),
        ({"placement": {"max_price": "2"}}, NO_CAPS, ""),
        (
            {"placement": {"max_price": "1.9"}},
            NO_CAPS,
            "a run is refused, as prices and settings are now: placement.max",
        ),
        (
            {**SPOT, "placement": {"max_price": "0.4"}},
            NO_CAPS,
            "a run waits, as prices and settings are now: placement",
        ),
        (
            {"limits": {"cost": "0.05"}},
            NO_CAPS,
            "a run is refused, as prices and settings are now: limits.cost of $0.05",
        ),
        (
            {"instance_type": "g6.metal"},
            Caps(500.0),
            "a run waits, as prices and settings are now: the price of on-demand",
        ),
        ({"instance_type": "g6.metal"}, Caps(500.0, unknown_prices=True), ""),
    ],
)
def test_apply_says_if_no_run_of_the_recipe_can_be_launched(spec: dict[str, Any], caps: Caps, note: str) -> None:
    """The user learns it from `apply`, not from a run that waits."""
    listed = {name: found for name, found in LISTED.items() if name != "g6.metal"}
    (*notes,) = price_notes(recipe(**spec).spec, CATALOG, listed, caps, NOON)
    assert [each[: len(note)] for each in notes] == ([note] if note else [])
