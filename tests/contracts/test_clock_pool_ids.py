"""The contracts of `ports/clock.py`, `ports/pool.py` and `ports/ids.py`, kept by the real and the stepped ones."""

import re
import threading

import pytest

from provisioner.adapters.system import RandomIds, SystemClock, ThreadPool
from provisioner.ports.clock import Clock
from provisioner.ports.ids import Ids
from provisioner.ports.pool import Pool
from provisioner.rehearsal.fakes.clock import CountingIds, InlinePool, StepClock

#: Longer than any test may take: who waits for it to pass, fails.
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
    """A thread that cannot keep a failing test from ending."""
    assert callable(function)
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_now_never_goes_back_while_waiting(clock: Clock) -> None:
    """Waiting for no time, or less, returns and takes no time back."""
    before = clock.now()
    clock.wait(0)
    clock.wait(-1) if isinstance(clock, SystemClock) else None
    assert clock.now() >= before


def test_a_wake_ends_the_next_wait(clock: Clock) -> None:
    """A wake that comes before the wait is not lost."""
    clock.wake()
    waiter = in_thread(lambda: clock.wait(FOR_EVER))
    waiter.join(timeout=30)
    assert not waiter.is_alive()


def test_a_wake_ends_a_wait_of_another_thread(clock: Clock) -> None:
    """A wake from any thread ends the wait, whether it has begun or not."""
    waiter = in_thread(lambda: clock.wait(FOR_EVER))
    clock.wake()
    waiter.join(timeout=30)
    assert not waiter.is_alive()


@pytest.mark.parametrize("make", [SystemClock, StepClock])
def test_a_wake_is_spent_once(make: type[SystemClock] | type[StepClock]) -> None:
    """After the wait that it ended, time has to pass again; several wakes before one wait are one."""
    clock = make()
    clock.wake()
    clock.wake()
    clock.wait(FOR_EVER)
    before = clock.now()
    clock.wait(0.05)
    # Not all 0.05 s: the wall clock may be set while we wait.
    assert clock.now() - before > 0.04


def test_results_are_in_the_items_order(pool: Pool) -> None:
    """Each result stands where its item stood."""
    assert pool.map(lambda number: number * 2, range(50)) == [number * 2 for number in range(50)]
    assert pool.map(str, []) == []
    assert pool.map(str, iter([7])) == ["7"]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_takes_its_items_place(pool: Pool, count: int) -> None:
    """One item's exception is its result; the others have theirs."""

    def invert(number: int) -> float:
        return 1 / number

    *others, last = pool.map(invert, [*range(1, count), 0])
    assert others == [1 / number for number in range(1, count)]
    assert isinstance(last, ZeroDivisionError)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_no_exception_is_raised(pool: Pool, count: int) -> None:
    """A process that is told to end does not go on as if an item had failed."""

    def interrupt(number: int) -> None:
        if number == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.map(interrupt, range(1, count + 1))


def test_a_map_may_call_a_map(pool: Pool) -> None:
    """No item waits for a thread that its own caller holds."""

    def inner(number: int) -> list[int | Exception]:
        return pool.map(lambda other: number * other, range(3))

    outer = pool.map(inner, range(40))
    assert outer == [[number * other for other in range(3)] for number in range(40)]


def test_ids_are_never_given_twice(ids: Ids) -> None:
    """Each is new, and 32 lower-case hexadecimal digits."""
    given = [ids.new() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in given)


def test_secrets_are_never_given_twice(ids: Ids) -> None:
    """Each is new, and 43 characters that need no quoting in a URL or a shell."""
    given = [ids.secret() for _ in range(1000)]
    assert len(set(given)) == 1000
    assert all(re.fullmatch(r"[\w-]{43}", one, re.ASCII) for one in given)
