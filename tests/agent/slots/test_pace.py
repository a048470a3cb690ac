"""How seldom a machine of a list makes requests."""

import pytest

from provisioner.agent.slots.pace import BRISK, INTERVAL, Pace


def test_a_machine_with_long_commands_makes_requests_as_often_as_usual() -> None:
    pace = Pace(100.0)
    assert pace.ahead(100.0 + INTERVAL, int(BRISK * INTERVAL) - 1, 10_000) == 0.0


@pytest.mark.parametrize(("waiting", "ahead"), [(10_000, 100.0), (100, 1.0), (0, 0.0)])
def test_a_machine_with_short_commands_is_slower_the_more_of_them_wait(waiting: int, ahead: float) -> None:
    pace = Pace(100.0)
    assert pace.ahead(100.0 + INTERVAL, int(100 * INTERVAL), waiting) == ahead


def test_the_rate_is_that_of_the_last_seconds() -> None:
    pace = Pace(0.0)
    pace.ahead(INTERVAL, int(100 * INTERVAL), 1000)
    assert pace.ahead(INTERVAL + 1, int(100 * INTERVAL), 1000) == 10.0, "the rate of the last interval holds"
    assert pace.ahead(2 * INTERVAL, int(100 * INTERVAL), 1000) == 0.0, "no command has ended meanwhile"


def test_a_fast_machine_is_found_before_the_interval_is_over() -> None:
    """Otherwise each machine makes many requests at its beginning."""
    pace = Pace(100.0)
    assert pace.ahead(100.5, int(BRISK * INTERVAL) - 1, 1000) == 0.0
    assert pace.ahead(100.5, 100, 1000) == 5.0
