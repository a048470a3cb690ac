"""Deterministic clock, ids, journal and pool for tests."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class StepClock:
    """A clock that stands still: `wait` moves it forward, or blocks until a test calls `step`."""

    def __init__(self, start: float = 1_800_000_000.0, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self._now = start
        #: Seconds by which the clock was set forward; negative if it was set back.
        self._set = 0.0
        self._woken = False
        self._moved = threading.Condition()

    def now(self) -> float:
        with self._moved:
            return self._now + self._set

    def elapsed(self) -> float:
        with self._moved:
            return self._now

    def set(self, ahead: float) -> None:
        """Set the clock to the true time plus `ahead` seconds; `elapsed` does not change."""
        with self._moved:
            self._set = ahead

    def step(self, seconds: float) -> None:
        """Move the clock forward; each `wait` that is due returns."""
        with self._moved:
            self._now += seconds
            self._moved.notify_all()

    def wait(self, seconds: float) -> None:
        with self._moved:
            until = self._now + seconds
            if self.blocking:
                self._moved.wait_for(lambda: self._woken or self._now >= until)
            elif not self._woken:
                self._now = until
            self._woken = False

    def wake(self) -> None:
        with self._moved:
            self._woken = True
            self._moved.notify_all()


class CountingIds:
    """Ids that count up, so that a failing test has the same ids each time."""

    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return f"{self._count:032x}"

    def secret(self) -> str:
        return f"{self.new():->43}"


class ListJournal:
    """A journal that keeps its entries in a list, for tests to read."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, str | int | float]] = []

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        self._keep({"text": text, "at": at, **fields})

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        self._keep({"error": error, "at": at, **fields})

    def _keep(self, line: Mapping[str, str | int | float]) -> None:
        self.told.append({name: value for name, value in line.items() if value})

    def close(self) -> None:
        pass


class InlinePool:
    """A pool that processes one item after the other, in the caller's thread."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R | Exception]:
        return [self._one(function, item) for item in items]

    def _one(self, function: Callable[[T], R], item: T) -> R | Exception:
        try:
            return function(item)
        except Exception as error:  # noqa: BLE001 - as the port promises, an item's exception takes its place
            return error
