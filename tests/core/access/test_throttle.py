"""The throttle of addresses with repeated failed logins."""

from provisioner.core.access.throttle import FORGOTTEN, FREE, LONGEST, MOST, Denials

NOW = 1_800_000_000.0
HERE = "192.0.2.1"


def denied(times: int, source: str = HERE) -> Denials:
    made = Denials()
    for _ in range(times):
        made.add(source, NOW)
    return made


def test_a_few_slips_cost_nothing() -> None:
    """A few mistyped tokens cause no wait."""
    assert denied(FREE - 1).wait(HERE, NOW) == 0
    assert denied(0).wait(HERE, NOW) == 0


def test_each_further_one_doubles_the_wait_up_to_a_minute() -> None:
    """The wait counts from the last failure."""
    waits = [denied(FREE + more).wait(HERE, NOW) for more in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]
    assert denied(FREE + 2).wait(HERE, NOW + 3.5) == 0.5
    assert denied(FREE + 2).wait(HERE, NOW + 4) == 0
    assert denied(10_000).wait(HERE, NOW) == LONGEST


def test_failures_are_forgotten_after_15_minutes() -> None:
    """Failures are forgotten after a quarter of an hour, or if the clock was set back."""
    assert denied(20).wait(HERE, NOW + FORGOTTEN) == 0
    assert denied(20).wait(HERE, NOW - 1) == 0
    again = denied(20)
    again.add(HERE, NOW + FORGOTTEN)
    assert again.wait(HERE, NOW + FORGOTTEN) == 0


def test_other_addresses_are_not_throttled() -> None:
    """Other addresses are not throttled. All addresses of an IPv6 /64 network count as one."""
    assert denied(20).wait("192.0.2.2", NOW) == 0
    six = denied(20, "2001:db8::1")
    assert six.wait("2001:db8::ffff", NOW) == LONGEST
    assert six.wait("2001:db8:0:1::1", NOW) == 0
    assert denied(20, f"::ffff:{HERE}").wait(HERE, NOW) == LONGEST
    assert denied(20, "a proxy's own word").wait("a proxy's own word", NOW) == LONGEST


def test_number_of_stored_addresses_is_bounded() -> None:
    """The number of stored addresses is bounded; the latest are kept."""
    many = denied(20)
    for number in range(MOST):
        many.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", NOW)
    assert len(many) == MOST
    assert many.wait(HERE, NOW) == 0
