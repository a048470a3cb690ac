"""Requests of one caller are spread over time."""

import pytest

from provisioner.core.access.pace import Pace


def test_requests_after_a_burst_come_at_the_rate() -> None:
    """The first three are due at once, then two a second; other callers are not delayed."""
    pace = Pace(rate=2.0, burst=3, most=6)
    assert [pace.wait("ann", 100.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert pace.wait("bob", 100.0) == 0


def test_caller_that_pauses_may_send_a_burst_again() -> None:
    """A pause counts like requests that were not made, up to the burst."""
    pace = Pace(rate=2.0, burst=3, most=6)
    for _ in range(3):
        pace.wait("ann", 100.0)
    assert [pace.wait("ann", 100.5) for _ in range(2)] == pytest.approx([0, 0.5])
    assert [pace.wait("ann", 1000.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_wait_is_bounded_for_a_caller_that_gives_up_and_asks_again() -> None:
    """A request that was given up still delays later requests, but no request waits longer than `most` allows."""
    pace = Pace(rate=2.0, burst=3, most=6)
    waits = [pace.wait("ann", 100.0) for _ in range(100)]
    assert waits[-1] == 2.0
