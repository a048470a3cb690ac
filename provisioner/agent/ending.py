"""Why the work ends before its own end, and how a failure's own words name an outcome."""

from __future__ import annotations

import re
import signal
import threading
from dataclasses import dataclass

from provisioner.core.work import Outcome, Step


class Ended(Exception):
    """The work is over: the one way out of the steps."""

    def __init__(
        self, outcome: Outcome, step: Step, reason: str, exit_code: int | None = None, *, unresolved_host: str = ""
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.step = step
        self.reason = reason
        self.exit_code = exit_code
        #: As in Result.
        self.unresolved_host = unresolved_host


@dataclass(frozen=True)
class Cause:
    """Somebody wants the work to end: as what, why, and when patience with it ends."""

    outcome: Outcome
    reason: str
    kill_at: float


class Halt:
    """What may end the work early; any thread asks, the steps look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: Cause | None = None

    @property
    def cause(self) -> Cause | None:
        return self._cause

    def ask(self, cause: Cause) -> None:
        """The first cause names the outcome, but a person's stop says more than an interruption."""
        with self._lock:
            if self._cause is None:
                self._cause = cause
                return
            first = cause if self._cause.outcome is Outcome.INTERRUPTED else self._cause
            self._cause = Cause(first.outcome, first.reason, min(cause.kill_at, self._cause.kill_at))

    def check(self, step: Step) -> None:
        """Raises Ended when somebody has asked."""
        if self._cause is not None:
            raise Ended(self._cause.outcome, step, self._cause.reason)


#: What passes by itself: looked for first, since a registry's 429 and 5xx may speak of denial too.
PASSING = re.compile(
    r"\b429\b|toomanyrequests|too many requests|rate limit|\b50[0234]\b|internal server error|bad gateway"
    r"|service unavailable|gateway time-?out|timeout|timed out|no space left|no such host|could not resolve"
    r"|connection refused|connection reset|network is unreachable|unexpected eof|early eof",
    re.IGNORECASE,
)

#: What stays wrong however often it is tried.
WRONG = re.compile(
    r"manifest unknown|not found|does not exist|denied|unauthorized|forbidden|no basic auth|invalid reference format"
    r"|no matching manifest|authentication|could not read username|couldn't find remote ref|not our ref"
    r"|does not appear to be a git repository|did not match any|unable to read tree|not a tree|not a commit"
    r"|invalid refspec|not a valid (ref|object name)|not allowed|error: 40[134]|unable to find remote helper"
    r"|strange pathname|host key verification failed|executable file not found|exec format error"
    r"|authorization error|over its data quota",
    re.IGNORECASE,
)

#: The words of libcurl, ssh, git's own transport and Go (Docker, git-lfs) for a name that does not resolve.
UNRESOLVED = re.compile(
    r"could not resolve (?:host|hostname):? '?([\w.-]+)|unable to look up ([\w.-]+)"
    r"|\blookup ([\w.-]+)[^;\n]*: (?:no such host|server misbehaving|temporary failure in name resolution)",
    re.IGNORECASE,
)


def outcome_of(text: str) -> Outcome:
    """Refused for what stays wrong; lost, and so tried again elsewhere, for all else."""
    return Outcome.REFUSED if WRONG.search(text) and not PASSING.search(text) else Outcome.LOST


def unresolved_host(text: str) -> str:
    """Return the host whose name a tool could not resolve, by the tool's own words; empty if it says no such thing."""
    found = UNRESOLVED.search(text)
    return next(filter(None, found.groups()), "").rstrip(".").lower() if found else ""


def told(code: int) -> str:
    """An exit code in words."""
    if code > 128:
        try:
            return f"died of {signal.Signals(code - 128).name} (exit code {code})"
        except ValueError:
            pass
    return f"exited with {code}"
