"""What goes wrong on the way to the doubled cloud or back, by rule.

A rule acts before the deed, which then is not done, or after it, so that only the answer is lost.
"""

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from provisioner.rehearsal.aws.calls import CONTROL, Call


class When(StrEnum):
    BEFORE = "before"
    AFTER = "after"


class Effect(StrEnum):
    #: Answer with `code` and `status`.
    ERROR = "error"
    #: Wait `seconds`, then go on as if nothing had happened.
    DELAY = "delay"
    #: Break the connection: before the deed a call that never came, after it an answer lost.
    RESET = "reset"
    #: Answer 200 without content (assumed: a broken proxy may do that).
    EMPTY = "empty"
    #: Say nothing for `seconds`, then break the connection.
    HANG = "hang"


@dataclass(frozen=True)
class Rule:
    """Patterns are matched with `*`, `?` and `[…]`; of several rules that fit, the first acts."""

    effect: Effect
    when: When = When.BEFORE
    service: str = "*"
    action: str = "*"
    #: Matched against `bucket/key`, or the ids and names in the parameters.
    resource: str = "*"
    #: `control`, `machine`, or a pattern over `<role id>:<instance id>`.
    principal: str = "*"
    code: str = "InternalError"
    message: str = "made up by a rule of the rehearsal"
    status: int = 500
    seconds: float = 0.0
    #: Let so many calls that fit pass first.
    skip: int = 0
    #: How many calls it spoils after that; None is all.
    times: int | None = None

    def fits(self, call: Call) -> bool:
        who = "machine" if self.principal == "machine" and call.principal != CONTROL else call.principal
        pairs = (
            (call.service, self.service),
            (call.action, self.action),
            (call.resource, self.resource),
            (who, self.principal),
        )
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)


@dataclass
class Faults:
    """The rules in force; tests add and clear them while the double runs."""

    _rules: list[Rule] = field(default_factory=list)
    _seen: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append(rule)
            self._seen.append(0)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def unfired(self) -> list[Rule]:
        """Return the rules that were not applied to a call yet."""
        with self._lock:
            return [rule for rule, seen in zip(self._rules, self._seen, strict=True) if seen <= rule.skip]

    def on(self, call: Call) -> Rule | None:
        """The rule that spoils this call, counted as used."""
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.fits(call):
                    self._seen[place] += 1
                    used = self._seen[place] - rule.skip
                    if used > 0 and (rule.times is None or used <= rule.times):
                        return rule
        return None
