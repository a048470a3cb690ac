"""Ports that can be spoiled at every call, and the fates that may befall a call."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Crash(BaseException):
    """The control plane is killed here: nothing after this line runs in that process."""


class Fate(StrEnum):
    NONE = "none"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    #: An error before anything was done.
    REFUSE = "refuse"
    #: The cloud says that it will never be done: a right is missing.
    DENY = "deny"
    #: Done, but the caller does not hear of it.
    LOSE = "lose the answer"
    #: Done twice; the caller hears the second answer.
    TWICE = "do it twice"
    #: The call takes so long that another process takes over, and then is done after all.
    HANG = "hang"


_OURS, _ALL = frozenset({"store", "cloud", "bucket"}), frozenset({"cloud", "bucket", "mailbox"})
#: At which ports each fate changes anything.
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
    """One call of a port, counted over the whole life of a world."""

    #: `store`, `cloud`, `bucket`: the control plane's; `mailbox`: the bucket as the agents see it.
    port: str
    method: str
    number: int
    at: float
    #: What it is about: a key, or the kinds of records, with `run-1` and `machine-1` for ids.
    about: str = ""


#: Decides what befalls each call.
Fates = Callable[[Call], Fate]


def calm(_: Call) -> Fate:
    return Fate.NONE


@dataclass(frozen=True)
class At:
    """One fate at the call of that number, and peace before and after."""

    fate: Fate
    number: int

    def __call__(self, call: Call) -> Fate:
        return self.fate if call.number == self.number else Fate.NONE


@dataclass(frozen=True)
class Outage:
    """A port that refuses every call for a while, in seconds since the world began."""

    port: str
    begins: float
    ends: float


@dataclass(frozen=True)
class Fault:
    """One fate of the `nth` call of a method about one thing."""

    fate: Fate
    port: str
    method: str
    about: str
    nth: int


class Aimed:
    """The given faults, each at its own call, and no other."""

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
        """The faults whose call was never made."""
        return list(self._left.values())


class Chance:
    """Fates by chance, each with its rate, those of the calls `at` with a rate of their own; none from `peace` on."""

    def __init__(
        self,
        dice: random.Random,
        rates: dict[Fate, float],
        peace: float,
        at: Collection[tuple[str, str]] = (),
        aimed: dict[Fate, float] | None = None,
    ) -> None:
        """`at` are ports and methods, or a method and the last word or part of what the call is about."""
        self._dice, self._rates, self._peace = dice, rates, peace
        self._at, self._aimed = at, aimed or rates

    def __call__(self, call: Call) -> Fate:
        if call.at >= self._peace:
            return Fate.NONE
        roll = self._dice.random()
        words = (call.method, f"{call.method} {call.about.rpartition('/')[2].split(' ')[-1]}")
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
    """Any port, each call of it handed to `deal` with the deed."""

    def __init__(self, port: object, deal: Callable[[str, Callable[[], Any], Sequence[Any]], Any]) -> None:
        self._port, self._deal = port, deal

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._port, method)

        def call(*args: Any, **options: Any) -> Any:
            def deed() -> Any:
                answer = real(*args, **options)
                # A listing is fetched here and not while it is read.
                return iter(list(answer)) if method == "list" else answer

            return self._deal(method, deed, args)

        return call
