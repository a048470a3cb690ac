"""Which offers are known to be dry, and for how long: our own memory, shared by all runs.

An offer is dry for three minutes after a refusal, doubling with each one that follows soon
after (to an hour). When two zones of a type are dry at once, so is the type as a whole: a storm
must not ask every zone in turn.
"""

from collections.abc import Collection, Iterable, Mapping

from provisioner.core.cloud.offers import Offer
from provisioner.core.run.records import Drought

#: Karpenter's block of a refused offering is three minutes as well; shorter ones met the same refusal.
FIRST = 180.0
LONGEST = 3600.0
#: A refusal this long after the last drought's end starts counting anew.
FORGET = 900.0
WIDEN_AT = 2


def _id(offer: Offer, zone: str) -> str:
    return f"{offer.market}/{offer.instance_type}/{zone}"


def dry_until(offer: Offer, droughts: Mapping[str, Drought], now: float) -> float | None:
    """When the offer may be tried again, or None when it may be now."""
    known = (droughts.get(_id(offer, zone)) for zone in (offer.zone, ""))
    until = max((drought.until for drought in known if drought), default=0.0)
    return until if until > now else None


def after_refusals(
    refused: Iterable[tuple[Offer, str]],
    given: Collection[Offer],
    droughts: Mapping[str, Drought],
    zones: Collection[str],
    now: float,
) -> list[Drought]:
    """The droughts to store, after an answer that refused some offers (with the cloud's codes) and gave others.

    `zones` are those that were asked: a type of which all of them are dry is not "wider". What is dry
    already stays as it is: launches that were under way together are one refusal, not several.
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
    # The exponent is bounded too: a drought of weeks must not overflow.
    until = now + min(LONGEST, FIRST * 2 ** min(strikes - 1, 10))
    return Drought(offer.market, offer.instance_type, zone, until, strikes, code, version)
