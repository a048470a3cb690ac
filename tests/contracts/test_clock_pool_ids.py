"""The contracts of `ports/clock.py`, `ports/pool.py` and `ports/ids.py`, for the real implementations and the fakes."""

import re
import threading

import pytest

from provisioner.adapters.system import RandomIds, SystemClock, ThreadPool
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.pool import Pool
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, StepClock

#: Longer than any test may take: a test that waits this long fails.
FOR_EVER = 86_400.0


@pytest.fixture(params=[SystemClock, StepClock, lambda: StepClock(blocking=True)], ids=["system", "step", "blocking"])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


@pytest.fixture(params=[ThreadPool, InlinePool])
def pool(request: pytest.FixtureRequest) -> Pool:
    made: Pool = request.param()
    return made


@pytest.fixture(params=[RandomIds, CountingIds])
def ids(request: pytest.FixtureRequest) -> Ids:
    made: Ids = request.param()
    return made


def in_thread(function: object) -> threading.Thread:
    """Start a daemon thread, so that a failing test can end."""
    assert callable(function)
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_now_never_goes_back_while_waiting(clock: Clock) -> None:
    """A wait of zero or less returns, and time does not go back."""
    before = clock.now()
    clock.wait(0)
    clock.wait(-1) if isinstance(clock, SystemClock) else None
    assert clock.now() >= before


def test_a_wake_ends_the_next_wait(clock: Clock) -> None:
    """A wake before the wait is not lost."""
    clock.wake()
    waiter = in_thread(lambda: clock.wait(FOR_EVER))
    waiter.join(timeout=30)
    assert not waiter.is_alive()


def test_a_wake_ends_a_wait_of_another_thread(clock: Clock) -> None:
    """A wake from any thread ends the wait, whether the wait has begun or not."""
    waiter = in_thread(lambda: clock.wait(FOR_EVER))
    clock.wake()
    waiter.join(timeout=30)
    assert not waiter.is_alive()


@pytest.mark.parametrize("make", [SystemClock, StepClock])
def test_a_wake_is_spent_once(make: type[SystemClock] | type[StepClock]) -> None:
    """A wake ends one wait only; several wakes before a wait count as one."""
    clock = make()
    clock.wake()
    clock.wake()
    clock.wait(FOR_EVER)
    before = clock.now()
    clock.wait(0.05)
    # Less than 0.05 s, because the wall clock may be adjusted meanwhile.
    assert clock.now() - before > 0.04


def test_results_are_in_the_items_order(pool: Pool) -> None:
    """The results are in the order of the items."""
    assert pool.map(lambda number: number * 2, range(50)) == [number * 2 for number in range(50)]
    assert pool.map(str, []) == []
    assert pool.map(str, iter([7])) == ["7"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_takes_its_items_place(pool: Pool, count: int) -> None:
    """An item's exception is its result; the other items have their results."""

    def invert(number: int) -> float:
        return 1 / number

    *others, last = pool.map(invert, [*range(1, count), 0])
    assert others == [1 / number for number in range(1, count)]
    assert isinstance(last, ZeroDivisionError)


@pytest.mark.parametrize("count", [1, 3])
def test_keyboard_interrupt_leaves_map(pool: Pool, count: int) -> None:
    """KeyboardInterrupt ends the process and must not become an item's result."""

    def interrupt(number: int) -> None:
        if number == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.map(interrupt, range(1, count + 1))


def test_a_map_may_call_a_map(pool: Pool) -> None:
    """An inner map must not wait for the thread that its caller holds."""

    def inner(number: int) -> list[int | Exception]:
        return pool.map(lambda other: number * other, range(3))

    outer = pool.map(inner, range(40))
    assert outer == [[number * other for other in range(3)] for number in range(40)]


def test_ids_are_never_given_twice(ids: Ids) -> None:
    """Each id is new and has 32 lower-case hexadecimal digits."""
    given = [ids.new() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in given)


def test_secrets_are_never_given_twice(ids: Ids) -> None:
    """Each secret is new and has 43 characters that need no quoting in a URL or a shell."""
    given = [ids.secret() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert all(re.fullmatch(r"[\w-]{43}", one, re.ASCII) for one in given)
