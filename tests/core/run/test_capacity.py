"""Droughts: offers without capacity, and their durations."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.run.capacity import FIRST, FORGET, LONGEST, after_refusals, dry_until
from provisioner.core.run.records import Drought
from tests.support.samples import NOW, SPOT_A

SPOT_B, SPOT_C = replace(SPOT_A, zone="b"), replace(SPOT_A, zone="c")
CODE = "InsufficientInstanceCapacity"
Known = dict[str, Drought]


def refuse(known: Known, now: float, *offers: Offer, given: tuple[Offer, ...] = (), zones: str = "abc") -> Known:
    """Return the droughts that are known after these offers were refused."""
    stored = after_refusals([(offer, CODE) for offer in offers], given, known, set(zones), now)
    # The versions match those in the store.
    assert all(each.version == (known[each.id].version if each.id in known else 0) for each in stored)
    return known | {each.id: replace(each, version=each.version + 1) for each in stored}


def test_a_refused_offer_is_dry_for_a_while_and_alone() -> None:
    """The drought lasts three minutes and does not affect another zone, market or type."""
    known = refuse({}, NOW, SPOT_A)
    assert dry_until(SPOT_A, known, NOW) == NOW + FIRST
    assert dry_until(SPOT_A, known, NOW + FIRST) is None
    others = (SPOT_B, replace(SPOT_A, market=Market.ON_DEMAND), replace(SPOT_A, instance_type="g6.xlarge"))
    assert [dry_until(other, known, NOW) for other in others] == [None, None, None]
    assert known["spot/g5.xlarge/a"].code == CODE


def test_each_refusal_that_soon_follows_doubles_the_drought() -> None:
    """The drought grows to at most an hour; a month of refusals does not overflow."""
    known, now, lengths = Known(), NOW, []
    for _ in range(1500):
        known = refuse(known, now, SPOT_A)
        until = dry_until(SPOT_A, known, now)
        assert until
        lengths.append(until - now)
        now = until + 1
    assert lengths[:6] == [180, 360, 720, 1440, 2880, 3600]
    assert set(lengths[5:]) == {LONGEST}


def test_a_drought_long_over_is_forgotten() -> None:
    """If an offer is refused long after its drought ended, the next drought is as short as the first one."""
    known = refuse({}, NOW, SPOT_A)
    known = refuse(known, NOW + FIRST + FORGET - 1, SPOT_A)
    assert known["spot/g5.xlarge/a"].strikes == 2
    known = refuse(known, known["spot/g5.xlarge/a"].until + FORGET, SPOT_A)
    assert (known["spot/g5.xlarge/a"].strikes, known["spot/g5.xlarge/a"].version) == (1, 3)


def test_refusals_at_the_same_time_are_one() -> None:
    """Simultaneous launches that fail together count as one refusal."""
    known = refuse({}, NOW, SPOT_A, SPOT_A)
    again = refuse(known, NOW + 5, SPOT_A)
    assert again == known
    assert known["spot/g5.xlarge/a"].strikes == 1


def test_on_repeats_in_several_zones_the_whole_type_is_dry() -> None:
    """During a shortage many runs must not try every zone in turn.

    Single refusals do not make the whole type dry, nor do refusals in all zones.
    """
    once = refuse({}, NOW, SPOT_A, SPOT_B)
    assert dry_until(SPOT_C, once, NOW) is None
    twice = refuse(once, NOW + FIRST + 1, SPOT_A, SPOT_B)
    assert dry_until(SPOT_C, twice, NOW + FIRST + 1) == NOW + FIRST + 1 + FIRST
    assert dry_until(replace(SPOT_C, market=Market.ON_DEMAND), twice, NOW + FIRST + 1) is None
    assert dry_until(SPOT_C, refuse(once, NOW + FIRST + 1, SPOT_A, SPOT_B, zones="ab"), NOW + FIRST + 1) is None


def test_a_type_that_was_just_given_is_not_dry() -> None:
    """A machine from one zone proves that only the other zones are dry."""
    once = refuse({}, NOW, SPOT_A, SPOT_B, given=(SPOT_C,))
    twice = refuse(once, NOW + FIRST + 1, SPOT_A, SPOT_B, given=(SPOT_C,))
    assert dry_until(SPOT_C, twice, NOW + FIRST + 1) is None
    assert dry_until(SPOT_A, twice, NOW + FIRST + 1) == NOW + FIRST + 1 + 2 * FIRST


@given(st.lists(st.tuples(st.sampled_from([SPOT_A, SPOT_B, SPOT_C]), st.floats(0, 5000)), max_size=30))
def test_no_drought_is_shorter_than_it_was_or_longer_than_the_longest(story: list[tuple[Offer, float]]) -> None:
    """Each refused offer is dry now, and for at most an hour."""
    known, now = Known(), NOW
    for offer, later in story:
        now += later
        before = dry_until(offer, known, now)
        known = refuse(known, now, offer)
        after = dry_until(offer, known, now)
        assert after is not None
        assert max(before or 0.0, now) <= after <= now + LONGEST
