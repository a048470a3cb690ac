"""Test which offers the recipe's limits and the installation's cap allow, and the reasons given for the others."""

from collections.abc import Mapping
from typing import Any

import pytest

from provisioner.core.cloud.caps.affording import PRICES_EVERY, Affordable, Terms, affordable
from provisioner.core.cloud.caps.budget import DAY, LATER, SOON, Budget, day_of
from provisioner.core.cloud.offers import Market, Offer

NOW = 20_000 * DAY + DAY / 2
SPOT, LISTED = Offer(Market.SPOT, "g5.xlarge", "a"), Offer(Market.ON_DEMAND, "g5.xlarge", "a")
LARGE = Offer(Market.ON_DEMAND, "p5.48xlarge", "a")
PRICES = {SPOT: 0.4, LISTED: 1.0, LARGE: 98.0}
HOUR = Terms(1, 3600.0)


def chosen(
    terms: Terms = HOUR, budget: Budget | None = None, prices: Mapping[Offer, float] = PRICES, **more: Any
) -> Affordable:
    return affordable([SPOT, LISTED, LARGE], prices.get, terms, budget, NOW, **more)


def test_without_a_cap_no_price_is_read() -> None:
    """Reading list prices is slow, and a launch must not wait for what it does not need."""

    def price_of(_: Offer) -> float:
        raise AssertionError("a price was read")

    assert affordable([SPOT], price_of, HOUR, None, NOW) == Affordable([SPOT], {})


@pytest.mark.parametrize(
    ("most", "offers"), [(0.39, []), (0.4, [SPOT]), (1.0, [SPOT, LISTED]), (99, [SPOT, LISTED, LARGE])]
)
def test_offers_above_max_price_are_skipped(most: float, offers: list[Offer]) -> None:
    assert chosen(Terms(1, 3600.0, max_price=most)).offers == offers


def test_skipped_offers_are_named_with_the_cheapest_of_them() -> None:
    found = chosen(Terms(1, 3600.0, max_price=0.5))
    (text,) = found.skipped
    assert text == (
        "placement.max_price of $0.50 an hour excludes on-demand g5.xlarge and on-demand p5.48xlarge: "
        "the cheapest is on-demand g5.xlarge in a at $1.00 an hour"
    )


def test_a_spot_price_above_max_price_is_looked_at_again_and_a_list_price_is_not() -> None:
    assert chosen(Terms(1, 3600.0, max_price=0.3)).next_try_at == NOW + PRICES_EVERY
    assert affordable([LISTED], PRICES.get, Terms(1, 3600.0, max_price=0.3), None, NOW).next_try_at is None


@pytest.mark.parametrize(
    ("terms", "budget"),
    [
        (Terms(1, 3600.0, max_price=5.0), None),
        (Terms(1, 3600.0, cost=5.0, least=60.0), None),
        (HOUR, Budget(500.0, NOW)),
    ],
)
def test_an_offer_of_unknown_price_is_skipped_under_every_cap(terms: Terms, budget: Budget | None) -> None:
    """Its cost would be a guess."""
    found = chosen(terms, budget, {SPOT: 0.4})
    assert found.offers == [SPOT]
    assert "the price of on-demand g5.xlarge and on-demand p5.48xlarge is unknown" in found.skipped[0]
    assert "pricing:GetProducts" in found.skipped[0]
    assert found.next_try_at == NOW + PRICES_EVERY


def test_unknown_prices_may_be_allowed_but_never_satisfy_max_price() -> None:
    found = chosen(HOUR, Budget(500.0, NOW), {SPOT: 0.4}, unknown_prices=True)
    assert (found.offers, found.hourly([LISTED])) == ([SPOT, LISTED, LARGE], None)
    assert chosen(Terms(1, 3600.0, max_price=5.0), None, {SPOT: 0.4}, unknown_prices=True).offers == [SPOT]


@pytest.mark.parametrize(("cost", "offers"), [(0.03, []), (0.04, [SPOT]), (0.11, [SPOT, LISTED])])
def test_limits_cost_must_pay_for_the_shortest_run(cost: float, offers: list[Offer]) -> None:
    """360 s of the spot machine cost 4 cents."""
    found = chosen(Terms(1, 3600.0, cost=cost, least=360.0))
    assert (found.offers, found.next_try_at) == (offers, None)


def test_offers_that_do_not_fit_into_the_day_are_skipped_and_the_others_are_not() -> None:
    """A dear alternative must not keep a run from the cheap machine that it prefers."""
    found = chosen(HOUR, Budget(50.0, NOW))
    assert found.offers == [SPOT, LISTED]
    assert found.hourly(found.offers) == 1.0


def test_a_run_that_waits_for_the_cap_is_told_the_amounts_and_when_it_fits() -> None:
    full = Budget(2.0, NOW, 1.5, {day_of(NOW): 0.3})
    found = affordable([LISTED], PRICES.get, HOUR, full, NOW)
    (text,) = found.skipped
    assert text == (
        "a machine at $1.00 an hour may cost $1.00 on 2024-10-04 UTC: with $1.50 spent and $0.30 committed, that is "
        "over the $2.00 of max_dollars_a_day; it fits at 2024-10-04 23:48 UTC, or when machines end before"
    )
    assert found.next_try_at == NOW + SOON


def test_a_run_that_waits_for_midnight_is_tried_each_minute() -> None:
    """No machine is alive, so none can end early; but the operator may raise the cap."""
    assert affordable([LISTED], PRICES.get, HOUR, Budget(2.0, NOW, 1.5), NOW).next_try_at == NOW + LATER


def test_a_run_that_can_never_fit_is_told_what_to_change() -> None:
    long = Terms(2, 48 * 3600.0)
    found = affordable([LISTED], PRICES.get, long, Budget(40.0, NOW), NOW)
    assert found.next_try_at is None
    assert found.skipped[0].endswith("on every day; shorten limits.runtime, or raise max_dollars_a_day in the settings")
