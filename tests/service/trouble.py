"""Ports that can be spoiled at every call, and the fates that may befall a call."""

import random
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Call:
    """One call of a port, counted over the whole life of a world."""

    #: `store`, `cloud`, `bucket`: the control plane's; `mailbox`: the bucket as the agents see it.
    port: str
    method: str
    number: int
    at: float


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
    """A port that refuses every call for a while."""

    port: str
    begins: float
    ends: float


class Chance:
    """Fates by chance, each with its rate, and outages; all is well from `peace` on."""

    def __init__(self, dice: random.Random, rates: dict[Fate, float], outages: Sequence[Outage], peace: float) -> None:
        self._dice, self._rates, self._outages, self._peace = dice, rates, outages, peace

    def __call__(self, call: Call) -> Fate:
        if call.at >= self._peace:
            return Fate.NONE
        if any(each.port == call.port and each.begins <= call.at < each.ends for each in self._outages):
            return Fate.REFUSE
        roll = self._dice.random()
        for fate, rate in self._rates.items():
            roll -= rate
            if roll < 0:
                return fate
        return Fate.NONE


class Spoiled:
    """Any port, each call of it handed to `deal` with the deed."""

    def __init__(self, port: object, deal: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._port, self._deal = port, deal

    def __getattr__(self, method: str) -> Callable[..., Any]:
        real = getattr(self._port, method)

        def call(*args: Any, **options: Any) -> Any:
            def deed() -> Any:
                answer = real(*args, **options)
                # A listing is fetched here and not while it is read.
                return iter(list(answer)) if method == "list" else answer

            return self._deal(method, deed)

        return call
