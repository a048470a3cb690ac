"""The contract of `ports/store.py` for what machines have cost."""

from dataclasses import replace

from provisioner.core.cloud.offers import Price
from provisioner.core.run.records import KnownMachine
from provisioner.ports.store import Store
from tests.support.stored import OFFER


def test_ended_machines_cost_what_was_used_of_them_in_the_period(store: Store) -> None:
    """The cap on a day counts machines that have ended, each for at least a minute, from its launch to its end."""
    price = Price(3600.0, "test", 1.0)
    priced = KnownMachine("i-1", "l1", OFFER, 5.0, launch_time=1000.0, price=price)
    ended = [
        replace(priced, ending_at=1300.0, ended_at=1400.0),
        replace(priced, id="i-2", launch_time=None, bound_at=1900.0, ended_at=1901.0),
        # Its price is unknown, but not the most that it can be.
        replace(priced, id="i-3", price=None, hourly_at_most=7200.0, ended_at=1100.0),
        replace(priced, id="i-4", price=None, ended_at=1100.0),
    ]
    alive = replace(priced, id="i-5")
    stored = store.save([*ended, alive])
    assert store.spent(0.0, 5000.0) == 300.0 + 60.0 + 2 * 100.0
    assert store.spent(1200.0, 1910.0) == 100.0 + 10.0
    assert store.spent(2000.0, 5000.0) == 0.0
    # EC2 lists the first machine again: it is alive.
    store.save([replace(stored[0], ending_at=None, ended_at=None)])
    assert store.spent(0.0, 5000.0) == 60.0 + 2 * 100.0
