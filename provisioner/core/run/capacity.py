"""Compute which offers have no capacity (are dry), and until when, from the refusals that all runs got.

An offer is dry for three minutes after a refusal. Each refusal that follows soon after doubles this time, up to an
hour. If two or more zones of a type, but not all, are dry at once after repeated refusals, the whole type is dry:
during a shortage the runs must not request machines in every zone in turn.
"""

from collections.abc import Collection, Iterable, Mapping

from provisioner.core.cloud.offers import Offer
from provisioner.core.run.records import Drought

#: Seconds of the first drought. Karpenter, too, blocks a refused offering for three minutes; launches after shorter
#: times got the same refusal again.
FIRST = 180.0
LONGEST = 3600.0
#: A refusal that comes more than this many seconds after a drought's end counts as the first one again.
FORGET = 900.0
WIDEN_AT = 2


def _id(offer: Offer, zone: str) -> str:
    return f"{offer.market}/{offer.instance_type}/{zone}"


def dry_until(offer: Offer, droughts: Mapping[str, Drought], now: float) -> float | None:
    """Return the Unix time from which the offer may be tried again, or None if it may be tried now."""
    known = (droughts.get(_id(offer, zone)) for zone in (offer.zone, ""))
    until = max((drought.until for drought in known if drought), default=0.0)
    return until if until > now else None


def open_offers(
    possible: Iterable[Offer], droughts: Mapping[str, Drought], now: float
) -> tuple[tuple[Offer, ...], float]:
    """Return the offers of the first market that are not dry, and when the first dry offer may be tried again."""
    until = {offer: dry_until(offer, droughts, now) for offer in possible}
    offers = [offer for offer, dry in until.items() if dry is None]
    opens_at = min((dry for dry in until.values() if dry is not None), default=now)
    return tuple(offer for offer in offers if offer.market is offers[0].market), opens_at


def after_refusals(
    refused: Iterable[tuple[Offer, str]],
    given: Collection[Offer],
    droughts: Mapping[str, Drought],
    zones: Collection[str],
    now: float,
) -> list[Drought]:
    """Return the droughts to store after an answer that refused some offers and gave machines of others.

    `refused` has the cloud's code for each offer. `zones` are the requested zones: if all of them are dry, no drought
    of the whole type is added. Offers that are already dry do not change: refusals of concurrent launches count once.
    """
    changed: dict[str, Drought] = {}
    plenty = {(offer.market, offer.instance_type) for offer in given}
    for offer, code in refused:
        if dry_until(offer, droughts, now) is not None:
            continue
        changed[_id(offer, offer.zone)] = _struck(offer, offer.zone, code, droughts, now)
        if (offer.market, offer.instance_type) in plenty:
            continue
        both = {**droughts, **changed}
        dry_zones = [zone for zone in zones if (known := both.get(_id(offer, zone))) and known.until > now]
        if WIDEN_AT <= len(dry_zones) < len(zones) and all(both[_id(offer, zone)].strikes > 1 for zone in dry_zones):
            changed[_id(offer, "")] = _struck(offer, "", code, droughts, now)
    return list(changed.values())


def _struck(offer: Offer, zone: str, code: str, droughts: Mapping[str, Drought], now: float) -> Drought:
    known = droughts.get(_id(offer, zone))
    strikes = known.strikes + 1 if known and now < known.until + FORGET else 1
    version = known.version if known else 0
    # The exponent is limited, so that a drought of weeks does not overflow.
    until = now + min(LONGEST, FIRST * 2 ** min(strikes - 1, 10))
    return Drought(offer.market, offer.instance_type, zone, until, strikes, code, version)
