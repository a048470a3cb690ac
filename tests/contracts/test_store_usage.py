"""The contract of `ports/store.py` for usage."""

import json
from dataclasses import replace

from provisioner.core.cloud.offers import Price
from provisioner.core.run.records import KnownMachine
from provisioner.core.usage.amounts import Amounts, MachineUsage, Part, PriceRange, PriceUsed, Use
from provisioner.ports.store import Store, UsageFilter
from tests.support.stored import OFFER

EVER = UsageFilter(0, 10**6)
MACHINE = KnownMachine("i-1", "l1", OFFER, 5.0, launch_time=1000.0, ended_at=1300.0, price=Price(1.0, "test", 1.0))


def usage(id: str = "i-1", owner: str = "ann", day: int = 10, dollars: int = 5, **fields: object) -> MachineUsage:
    amounts = Amounts(seconds=100, dollars=dollars, dollars_at_most=dollars + 1)
    made = MachineUsage(
        id=id,
        run="r1",
        job_id="j1",
        job="train",
        owner=owner,
        user="t1",
        tags=(("team", "a'b\n"),),
        instance_type="g5.xlarge",
        market="spot",
        parts=(Part(day, Use.FAILED, amounts), Part(day + 1, Use.SUCCEEDED, amounts)),
        prices=(PriceUsed(False, 0.5, "history", 7.0),),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_usage_is_summed_by_any_dimension(store: Store) -> None:
    store.save([usage(), usage("i-2", owner="bob", dollars=7), usage("i-3", dollars=2**60)])
    by_owner = store.usage(EVER, ["owner"], 9)
    assert by_owner[("ann",)].dollars == 2 * (5 + 2**60)
    assert by_owner[("bob",)] == Amounts(seconds=200, dollars=14, dollars_at_most=16)
    both = store.usage(EVER, ["use", "day"], 9)
    assert both.keys() == {("failed", "10"), ("succeeded", "11")}
    assert store.usage(EVER, ["month", "use"], 9).keys() == {("1970-01", "failed"), ("1970-01", "succeeded")}
    (text,) = store.usage(EVER, ["tags"], 9)
    assert json.loads(text[0]) == {"team": "a'b\n"}
    assert store.usage(EVER, [], 9)[()].seconds == 600


def test_of_many_groups_one_more_than_the_limit_is_returned(store: Store) -> None:
    store.save([usage(f"i-{number}", owner=f"o{number}") for number in range(5)])
    assert [len(store.usage(EVER, ["owner"], most)) for most in (2, 4, 5, 9)] == [3, 5, 5, 5]


def test_only_the_days_and_owners_of_the_filter_count(store: Store) -> None:
    store.save([usage(), usage("i-2", owner="bob")])
    assert store.usage(UsageFilter(11, 11, ("bob",)), ["owner", "day"], 9).keys() == {("bob", "11")}
    assert store.usage(UsageFilter(12, 20), ["owner"], 9) == {}
    assert store.usage(UsageFilter(0, 20, ()), ["owner"], 9) == {}
    assert store.prices_used(UsageFilter(12, 20)) == ()


def test_the_usage_of_a_machine_replaces_its_earlier_usage_in_all_sums(store: Store) -> None:
    """EC2 may list a machine again that was taken for gone: it then costs more, and perhaps on other days."""
    (stored,) = store.save([usage()])
    store.save([usage("i-2")])
    assert store.usages(["i-1", "i-3"]) == (stored,)
    store.save([replace(stored, parts=(Part(12, Use.LOST, Amounts(dollars=9)),))])
    assert {key: amounts.dollars for key, amounts in store.usage(EVER, ["day", "use"], 9).items()} == {
        ("10", "failed"): 5,
        ("11", "succeeded"): 5,
        ("12", "lost"): 9,
    }
    store.save([replace(each, parts=(), version=each.version) for each in store.usages(["i-1", "i-2"])])
    assert store.usage(EVER, ["day"], 9) == {}


def test_ended_machines_without_usage_are_found(store: Store) -> None:
    (first, _) = store.save([MACHINE, replace(MACHINE, id="i-2", ended_at=None)])
    assert store.unaccounted(10) == ("i-1",)
    assert store.unaccounted(10, {"i-1"}) == ()
    store.save([usage()])
    assert store.unaccounted(10) == ()
    # EC2 lists it again, and it ends later.
    (alive,) = store.save([replace(first, ended_at=None)])
    assert store.unaccounted(10) == ()
    store.save([replace(alive, ended_at=2000.0)])
    assert store.unaccounted(10) == ("i-1",)


def test_prices_are_ranges_by_type_market_and_source(store: Store) -> None:
    others = (PriceUsed(False, 0.7, "history", 3.0), PriceUsed(True, 8.0, "list", 4.0))
    store.save([usage(), usage("i-2", prices=others)])
    assert store.prices_used(EVER) == (
        PriceRange(False, "g5.xlarge", "spot", "history", 0.5, 0.7, 3.0, 7.0),
        PriceRange(True, "g5.xlarge", "spot", "list", 8.0, 8.0, 4.0, 4.0),
    )
