"""Ports that can fail at every call, and the fates of a call."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Crash(BaseException):
    """The control plane is killed here: no later line runs in that process."""


class Fate(StrEnum):
    NONE = "none"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    #: An error before any effect.
    REFUSE = "refuse"
    #: A permanent error of the cloud: a right is missing.
    DENY = "deny"
    #: The call has its effect, but its answer is lost.
    LOSE = "lose the answer"
    #: The call is made twice; the caller gets the second answer.
    TWICE = "do it twice"
    #: The call takes so long that another process takes over, and then has its effect after all.
    HANG = "hang"


_OURS, _ALL = frozenset({"store", "cloud", "bucket"}), frozenset({"cloud", "bucket", "mailbox"})
#: The ports at which each fate has an effect.
FALLS: dict[Fate, frozenset[str]] = {
    Fate.NONE: frozenset(),
    Fate.CRASH_BEFORE: _OURS,
    Fate.CRASH_AFTER: _OURS,
    Fate.HANG: _OURS,
    Fate.DENY: frozenset({"cloud"}),
    Fate.LOSE: _ALL,
    Fate.REFUSE: _ALL,
    Fate.TWICE: _ALL,
}


@dataclass(frozen=True)
class Call:
    """A call of a port, numbered over the whole life of a world."""

    #: `store`, `cloud` and `bucket` are the control plane's; `mailbox` is the bucket as the agents use it.
    port: str
    method: str
    number: int
    at: float
    #: The subject: a key, or the kinds of records, with `run-1` and `machine-1` in place of ids.
    about: str = ""


#: Returns the fate of each call.
Fates = Callable[[Call], Fate]


def calm(_: Call) -> Fate:
    return Fate.NONE


@dataclass(frozen=True)
class At:
    """One fate at the call with this number, and none at other calls."""

    fate: Fate
    number: int

    def __call__(self, call: Call) -> Fate:
        return self.fate if call.number == self.number else Fate.NONE


@dataclass(frozen=True)
class Outage:
    """A period in which a port refuses every call, in seconds since the world's start."""

    port: str
    begins: float
    ends: float


@dataclass(frozen=True)
class Fault:
    """What happens to the `nth` call of a method for one run, machine or launch."""

    fate: Fate
    port: str
    method: str
    about: str
    nth: int


class Aimed:
    """Exactly the given faults, each at its call."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._left = {(each.port, each.method, each.about, each.nth): each for each in faults}
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def __call__(self, call: Call) -> Fate:
        aim = (call.port, call.method, call.about)
        self._seen[aim] += 1
        fault = self._left.pop((*aim, self._seen[aim]), None)
        return fault.fate if fault else Fate.NONE

    @property
    def unfired(self) -> list[Fault]:
        """Return the faults whose call was never made."""
        return list(self._left.values())


class Chance:
    """Random fates at given rates, with other rates for the calls in `at`; from the time `peace` on there are none."""

    def __init__(
        self,
        dice: random.Random,
        rates: dict[Fate, float],
        peace: float,
        at: Collection[tuple[str, str]] = (),
        aimed: dict[Fate, float] | None = None,
    ) -> None:
        """`at` has (port, method); a method may be followed by the last word or part of the call's subject."""
        self._dice, self._rates, self._peace = dice, rates, peace
        self._at, self._aimed = at, aimed or rates

    def __call__(self, call: Call) -> Fate:
        if call.at >= self._peace:
            return Fate.NONE
        roll = self._dice.random()
        *folders, name = call.about.split("/")
        # Batches and chunks of a log are numbered in a folder.
        named = folders[-1] if folders and name.isdecimal() else name.split(" ")[-1]
        words = (call.method, f"{call.method} {named}")
        hits = [(fate, rate) for fate, rate in self._rates.items()]
        if any((call.port, word) in self._at for word in words):
            hits = [(fate, rate) for fate, rate in self._aimed.items() if call.port in FALLS[fate]]
            roll *= max(1.0, sum(rate for _, rate in hits) / 0.5)
        for fate, rate in hits:
            roll -= rate
            if roll < 0:
                return fate
        return Fate.NONE


class Spoiled:
    """A port that passes each call to `deal`."""

    def __init__(self, port: object, deal: Callable[[str, Callable[[], Any], Sequence[Any]], Any]) -> None:
        self._port, self._deal = port, deal

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._port, method)

        def call(*args: Any, **options: Any) -> Any:
            def deed() -> Any:
                answer = real(*args, **options)
                # Read a listing now, not while the caller iterates.
                return iter(list(answer)) if method == "list" else answer

            return self._deal(method, deed, args)

        return call
