"""Choose the offers whose price the recipe and the caps allow, and say why the others are skipped.

A recipe may have a highest price (`placement.max_price`) and a limit of a run's cost (`limits.cost`); an installation
may have a cap (`max_dollars_a_day`). Under each of them, an offer of unknown price is skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.cloud.caps.budget import SETTING, Budget, Use, clock, date, dollars
from provisioner.core.cloud.offers import Market, Offer

#: A run that waits because of a price is tried again after this many seconds: spot prices change slowly.
PRICES_EVERY = 600.0


@dataclass(frozen=True)
class Terms:
    """What the machines of a run may cost, and for how long they may be used; in US dollars and seconds."""

    #: Number of machines that each run needs now.
    count: int
    #: Longest time that a machine may exist.
    lifetime: float
    #: For an hour of a machine, and for the whole run; None for any amount.
    max_price: float | None = None
    cost: float | None = None
    #: `cost` must pay for at least this time, or the run would end before its command can begin.
    least: float = 0.0


@dataclass(frozen=True)
class Affordable:
    """The offers that may be launched now, and why others may not."""

    offers: Sequence[Offer]
    #: The known prices of an hour, in US dollars.
    prices: Mapping[Offer, float]
    #: A line for each reason for which offers are skipped.
    skipped: Sequence[str] = ()
    #: When the skipped offers are tried again; None if they can never be launched.
    next_try_at: float | None = None

    def hourly(self, offers: Sequence[Offer]) -> float | None:
        """Return the most that an hour of one machine of these offers costs; None if no price is known."""
        return max((self.prices[offer] for offer in offers if offer in self.prices), default=None)


def affordable(
    possible: Sequence[Offer],
    price_of: Callable[[Offer], float | None],
    terms: Terms,
    budget: Budget | None,
    now: float,
    *,
    unknown_prices: bool = False,
) -> Affordable:
    """Return which of the possible offers the recipe and the caps allow at `now`.

    `budget` is None if the installation has no cap. With `unknown_prices`, an offer of unknown price counts as free,
    except for `max_price`.
    """
    if budget is None and terms.cost is None and terms.max_price is None:
        return Affordable(possible, {})
    prices = {offer: price for offer in possible if (price := price_of(offer)) is not None}
    left, skipped, tries = list(possible), list[str](), list[float]()

    def skip(offers: Sequence[Offer], text: str, again: float | None) -> None:
        left[:] = [offer for offer in left if offer not in offers]
        skipped.append(text)
        tries.extend([] if again is None else [again])

    def use(offer: Offer) -> Use:
        return Use(now, now + terms.lifetime, prices.get(offer, 0.0) * terms.count)

    unknown = [offer for offer in left if offer not in prices]
    if unknown and (terms.max_price is not None or not unknown_prices):
        skip(unknown, _unknown(unknown, terms, budget), now + PRICES_EVERY)
    if terms.max_price is not None and (dear := [offer for offer in left if prices[offer] > terms.max_price]):
        text = f"placement.max_price of {dollars(terms.max_price)} an hour excludes {_types(dear)}"
        # List prices do not change while a run waits.
        again = now + PRICES_EVERY if any(offer.market is Market.SPOT for offer in dear) else None
        skip(dear, f"{text}: {_cheapest(dear, prices)}", again)
    if terms.cost is not None:
        pays = terms.cost * 3600 / terms.least if terms.least else None
        if dear := [offer for offer in left if pays is not None and use(offer).hourly > pays]:
            text = f"limits.cost of {dollars(terms.cost)} does not pay for {terms.least:.0f} s of {_machines(terms)}"
            skip(dear, f"{text}: {_cheapest(dear, prices)}", None)
    if budget is not None and (dear := [offer for offer in left if not budget.fits(use(offer))]):
        least = min(map(use, dear), key=lambda each: each.hourly)
        at = budget.fits_at(least)
        skip(dear, over_cap(budget, least, terms), None if at is None else budget.next_try_at)
    return Affordable(left, prices, skipped, min(tries, default=None))


def over_cap(budget: Budget, use: Use, terms: Terms) -> str:
    """Return why a launch does not fit into the budget, when it will, and what to do; `use` is the launch's."""
    day, at = budget.tight(use), budget.fits_at(use)
    spent, committed = budget.spent_on(day), budget.committed.get(day, 0.0)
    text = (
        f"{_machines(terms)} at {dollars(use.hourly / terms.count)} an hour may cost {dollars(use.on(day))} on "
        f"{date(day)} UTC: with {dollars(spent)} spent and {dollars(committed)} committed, that is over the "
        f"{dollars(budget.most)} of {SETTING}"
    )
    if at is None:
        return f"{text}, on every day; shorten limits.runtime, or raise {SETTING} in the settings"
    return f"{text}; it fits at {clock(at)} UTC, or when machines end before"


def _unknown(offers: Sequence[Offer], terms: Terms, budget: Budget | None) -> str:
    needed = SETTING if budget else "limits.cost"
    needed = needed if terms.max_price is None else "placement.max_price"
    allowed = ", or set allow_unknown_price in the settings" if terms.max_price is None else ""
    return (
        f"the price of {_types(offers)} is unknown, and {needed} needs it: give the control plane's role "
        f"pricing:GetProducts and ec2:DescribeSpotPriceHistory{allowed}"
    )


def _types(offers: Sequence[Offer]) -> str:
    return " and ".join(dict.fromkeys(f"{offer.market} {offer.instance_type}" for offer in offers))


def _cheapest(offers: Sequence[Offer], prices: Mapping[Offer, float]) -> str:
    offer = min(offers, key=lambda each: prices.get(each, 0.0))
    return f"the cheapest is {offer} at {dollars(prices.get(offer, 0.0))} an hour"


def _machines(terms: Terms) -> str:
    return "a machine" if terms.count == 1 else f"{terms.count} machines"
