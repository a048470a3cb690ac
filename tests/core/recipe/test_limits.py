"""Limits, retries, sizes and other numbers of a recipe."""

from typing import Any

import pytest

from provisioner.core.recipe.parts import Limits, Retry
from provisioner.core.recipe.recipe import Recipe
from tests.support.recipes import problem, recipe


def test_limits_add_up_to_a_lifetime() -> None:
    """The lifetime is the sum of all limits and ten minutes."""
    assert Limits().lifetime == 600 + 3600 + 3600 + 86400 + 30 + 600
    limits = recipe(limits={"runtime": "1h", "queue_time": "5m", "boot": "20m", "stop_grace": "90s"}).spec.limits
    assert (limits.runtime, limits.queue_time, limits.lifetime) == (3600, 300, 1200 + 3600 + 3600 + 3600 + 90 + 600)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runtime", 0),
        ("runtime", -1),
        ("runtime", "1.5"),
        ("runtime", True),
        ("runtime", "999999999999h"),
        ("runtime", "never"),
        ("boot", "21m"),
        ("runtime", "31d"),
        ("setup", None),
        ("queue_time", "0s"),
        ("silence", "1m"),
    ],
)
def test_limit_that_is_no_duration_is_refused(name: str, value: Any) -> None:
    """`never` is allowed only for limits of time that costs nothing."""
    assert problem(limits={name: value}).startswith(f"limits.{name}: found ")


@pytest.mark.parametrize("value", ["1h30m", "1.5h", 5400, "5400", "1h 30m"])
def test_limit_is_read_in_every_writing_of_a_duration(value: Any) -> None:
    """Every field with a duration accepts all forms."""
    found = recipe(limits={"runtime": value, "queue_time": value, "silence": value}, retry={"backoff": value}).spec
    assert (found.limits.runtime, found.limits.queue_time, found.limits.silence) == (5400, 5400, 5400)
    assert found.retry.backoff == 5400
    assert recipe(retry={"backoff": 0}).spec.retry.backoff == 0


def test_queue_time_accepts_never() -> None:
    """`never` is the default of queue_time and may be written."""
    assert recipe(limits={"queue_time": "never"}).spec.limits.queue_time is None


def test_retry_depends_on_exit_code_pause_and_rerun() -> None:
    """Retries may depend on the exit code, have a pause, and exclude commands that must not begin twice."""
    retry = recipe(retry={"on": [1, "137"], "backoff": "5m", "rerun": "before_start"}).spec.retry
    assert (retry.on, retry.backoff, retry.rerun) == ((1, 137), 300, "before_start")
    assert (Retry().on, Retry().backoff, Retry().rerun) == ((), 0, "always")
    for name, value in (("on", [0]), ("on", [256]), ("on", 1), ("backoff", -5), ("backoff", "never"), ("rerun", "no")):
        assert problem(retry={name: value}).startswith(f"retry.{name}")


def test_exit_codes_that_requeue_a_run() -> None:
    """Only codes of failures are allowed. A code that is also in `on` is refused: its effect would be unclear."""
    retry = recipe(retry={"on": [1], "requeue_on": [75, "99"]}).spec.retry
    assert (retry.requeue_on, Retry().requeue_on) == ((75, 99), ())
    for value in ([0], [256], [-1], ["x"], [None], [True], 75, "75"):
        assert problem(retry={"requeue_on": value}).startswith("retry.requeue_on")
    assert problem(retry={"on": [1, 75], "requeue_on": [99, 75]}).startswith("retry.requeue_on[1]")
    assert recipe(retry={"requeue_on": [75]}).dump() == Recipe.load(recipe(retry={"requeue_on": [75]}).dump()).dump()


def test_disks_and_shared_memory_have_sizes_with_their_unit() -> None:
    """Sizes are in powers of two, as for EC2 and Docker, within EBS's limits."""
    spec = recipe(shm_size="16Gi", placement={"disk_size": "2Ti", "disk_throughput": 500}).spec
    assert (spec.shm_size, spec.placement.disk_size, spec.placement.disk_throughput) == (16 << 30, 2 << 40, 500)
    wrong: list[Any] = ["16", "16GB", "0Gi", "7Gi", "17Ti", 200, []]
    for size in wrong:
        assert problem(placement={"disk_size": size}).startswith("placement.disk_size: found ")
    for throughput in (124, 1001, "fast"):
        assert "125 to 1000" in problem(placement={"disk_throughput": throughput})


def test_a_time_zone_is_one_that_exists() -> None:
    """A wrong name would silently mean UTC."""
    assert recipe(timezone="Europe/Berlin").spec.timezone == "Europe/Berlin"
    for name in ("Europe/Berln", "../etc/passwd", "Europe", "", "+1"):
        assert "IANA" in problem(timezone=name)


def test_whole_numbers_are_whole() -> None:
    """The number of retries is an integer."""
    assert recipe(retries="3").spec.retries == 3
    wrong: list[Any] = [-1, 1.5, "many", True, [], None]
    for value in wrong:
        assert problem(retries=value).startswith("retries: found ")
