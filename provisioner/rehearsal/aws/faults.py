"""Fault rules, which make calls to the double fail, delay them, or lose their answers.

A BEFORE rule acts before the call is carried out, and prevents the call, unless the rule is a delay. An AFTER rule acts
when the call has had its effect, and changes only the answer.
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
    #: Wait `seconds`, then continue normally.
    DELAY = "delay"
    #: Break the connection: `before` loses the request, `after` loses the answer.
    RESET = "reset"
    #: Answer 200 without content (assumed: a broken proxy may do that).
    EMPTY = "empty"
    #: Send nothing for `seconds`, then break the connection.
    HANG = "hang"


@dataclass(frozen=True)
class Rule:
    """A rule for the calls that fit all its patterns, with `*`, `?` and `[…]`.

    If several rules fit and are not used up, the first one acts.
    """

    effect: Effect
    when: When = When.BEFORE
    service: str = "*"
    action: str = "*"
    #: Matched against `bucket/key`, or the ids and names in the parameters.
    resource: str = "*"
    #: `control`, `machine`, or a pattern over `<role id>:<instance id>`.
    principal: str = "*"
    code: str = "InternalError"
    message: str = "error injected by a fault rule of the EC2 double"
    status: int = 500
    seconds: float = 0.0
    #: Number of fitting calls that pass before the rule acts for the first time.
    skip: int = 0
    #: Number of fitting calls after those on which the rule acts; None: all.
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
        """Return the rule that acts on this call, or None. Every fitting rule up to that one counts the call."""
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.fits(call):
                    self._seen[place] += 1
                    used = self._seen[place] - rule.skip
                    if used > 0 and (rule.times is None or used <= rule.times):
                        return rule
        return None
