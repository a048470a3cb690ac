"""The cap of a day and the highest price, with prices that the adapters read from AWS's services."""

from pathlib import Path

import pytest

from provisioner.core.cloud.offers import Market
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State, Waiting
from tests.e2e.rig import rig

PRICES = [{"market": "on-demand", "dollars": 3.0}, {"market": "spot", "dollars": 1.0}]
#: With these limits a machine lives for 1,800 s at most: $1.50 on-demand, $0.50 spot.
LIMITS = {"boot": "5m", "pull": "5m", "setup": "5m", "runtime": "4m50s", "stop_grace": "10s"}


def test_the_second_run_waits_until_the_first_machine_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list price comes from the Price List service."""
    with rig(tmp_path, monkeypatch, prices=PRICES, settings={"max_dollars_a_day": 2.0}) as whole:
        first = whole.start("sleep 280", limits=LIMITS)
        whole.until(lambda: whole.service.runs.record(first.id).state is State.RUNNING)
        second = whole.start("true", limits=LIMITS)
        whole.until(lambda: whole.service.runs.record(second.id).waiting is not None)
        waits = whole.service.runs.record(second.id)
        assert waits.waiting is Waiting.LIMIT
        assert "a machine at $3.00 an hour may cost $1.50 on " in waits.waiting_for
        assert "that is over the $2.00 of max_dollars_a_day" in waits.waiting_for
        day = whole.service.runs.overview(9).budget
        assert day
        assert (round(day.spent + day.committed, 1), day.most) == (1.5, 2.0)
        whole.service.runs.stop(first.id)
        ended = whole.done(first, second)
        assert [run.verdict and run.verdict.outcome for run in ended] == [Outcome.CANCELLED, Outcome.SUCCEEDED]


def test_spot_below_max_price_is_launched_and_on_demand_above_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spot price comes from EC2's price history."""
    fallback = {"spot_fallback": True, "max_price": "2.50"}
    with rig(tmp_path, monkeypatch, prices=PRICES, settings={"max_dollars_a_day": 1.0}) as whole:
        run = whole.start("true", limits=LIMITS, use_spot_instance=True, placement=fallback)
        (ended,) = whole.done(run)
        assert ended.offer
        assert ended.offer.market is Market.SPOT
        warnings = whole.service.jobs.apply(
            '{"type": "job", "spec": {"name": "dear", "image": "i", "instance_type": "g5.xlarge", "command": "true",'
            ' "placement": {"max_price": 2.5}}}',
            "the test's recipe",
        ).warnings
        assert any("a run is refused, as prices and settings are now" in each for each in warnings)
