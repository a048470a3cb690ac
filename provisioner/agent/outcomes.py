"""Reasons to end the work early, the outcome of each, and the outcome that a failure's error message implies."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.protocol.words import Outcome, SignalCause, Step

#: The reason text of an interruption after a spot notice.
TAKEN = "AWS takes the spot machine back"

#: A reason is one line, so it names at most this many items of a kind.
NAMED = 3

#: Why SIGTERM was sent, by the cause's outcome. Causes with another outcome are stop orders.
SIGNAL_CAUSES = {Outcome.INTERRUPTED: SignalCause.NOTICE, Outcome.TIMED_OUT: SignalCause.LIMIT}


class Ended(Exception):
    """Raised by a step when the work is over; has the outcome, the step that decided it, and the reason."""

    def __init__(
        self,
        outcome: Outcome,
        step: Step,
        reason: str,
        exit_code: int | None = None,
        signal_cause: SignalCause = SignalCause.NONE,
        *,
        unresolved_host: str = "",
        unfit: bool = False,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.step = step
        self.reason = reason
        self.exit_code = exit_code
        #: The host name that could not be resolved, if that ended the work; otherwise empty.
        self.unresolved_host = unresolved_host
        self.signal_cause = signal_cause
        #: Whether the machine itself cannot work, so that other machines of its template probably cannot either.
        self.unfit = unfit


@dataclass(frozen=True)
class Cause:
    """A cause to end the work early: the outcome, the reason as one line of text, and the Unix time of SIGKILL."""

    outcome: Outcome
    reason: str
    kill_at: float
    #: Why SIGTERM was sent, if that was for an earlier cause; None if it was for this cause.
    first: SignalCause | None = None

    @property
    def signal_cause(self) -> SignalCause:
        return self.first or SIGNAL_CAUSES.get(self.outcome, SignalCause.STOP)


def broken(found: Sequence[object]) -> str:
    """Return the reason of an attempt that a broken GPU ended; `found` are the Xids."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"a GPU is broken: {', '.join(map(str, found[:NAMED]))}{more}"


class Halt:
    """The cause to end the work early, if there is one. Any thread may add a cause; the steps check for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: Cause | None = None

    @property
    def cause(self) -> Cause | None:
        return self._cause

    def ask(self, cause: Cause) -> None:
        """Add a cause. The first cause sets the outcome, but a stop or a limit replaces a notice and a broken GPU."""
        with self._lock:
            known = self._cause
            if known is None:
                self._cause = cause
                return
            named = cause if known.outcome in (Outcome.INTERRUPTED, Outcome.LOST) else known
            kill_at = min(cause.kill_at, known.kill_at)
            self._cause = Cause(named.outcome, named.reason, kill_at, known.signal_cause)

    def check(self, step: Step) -> None:
        """Raise Ended if there is a cause."""
        if self._cause is not None:
            raise Ended(self._cause.outcome, step, self._cause.reason)


def judge(code: int, words: str, cause: Cause | None, *, done: bool) -> Ended:
    """Return the outcome of a command that ended. `words` describe its end; `cause` is why it got SIGTERM, or None.

    A command that got SIGTERM for a spot notice is interrupted even if it exits 0, and one that got it because a GPU
    broke is lost: many trainers exit 0 after saving half of their work. Only PROVISION_DONE_FILE (`done`) shows that
    the work is finished.
    """
    if cause is None:
        return Ended(Outcome.FAILED if code else Outcome.SUCCEEDED, Step.COMMAND, words, code)
    if cause.outcome in (Outcome.INTERRUPTED, Outcome.LOST) and code == 0:
        if done:
            words = f"{words}, and has made its PROVISION_DONE_FILE; {cause.reason}"
            return Ended(Outcome.SUCCEEDED, Step.COMMAND, words, code, cause.signal_cause)
        words = f"{words}, and has not made its PROVISION_DONE_FILE"
    return Ended(cause.outcome, Step.COMMAND, f"{cause.reason}; {words}", code, cause.signal_cause)


#: Error messages of temporary failures. They take precedence over WRONG: a registry's 429 or 5xx may mention a denial.
PASSING = re.compile(
    r"\b429\b|toomanyrequests|too many requests|rate limit|\b50[0234]\b|internal server error|bad gateway"
    r"|service unavailable|gateway time-?out|timeout|timed out|no space left|no such host|could not resolve"
    r"|connection refused|connection reset|network is unreachable|unexpected eof|early eof"
    # Docker cannot give the GPUs to a container: the fault is the machine's.
    r"|unresolvable cdi device|could not select device driver"
    r"|nvidia-container-cli: (initialization|detection|device|mount) error",
    re.IGNORECASE,
)


#: Error messages of failures that no retry fixes.
WRONG = re.compile(
    r"manifest unknown|not found|does not exist|denied|unauthorized|forbidden|no basic auth|invalid reference format"
    r"|no matching manifest|authentication|could not read username|couldn't find remote ref|not our ref"
    r"|does not appear to be a git repository|did not match any|unable to read tree|not a tree|not a commit"
    r"|invalid refspec|not a valid (ref|object name)|not allowed|error: 40[134]|unable to find remote helper"
    r"|strange pathname|host key verification failed|executable file not found|exec format error"
    r"|authorization error|over its data quota"
    # The image needs a newer driver than the AMI has.
    r"|unsatisfied condition",
    re.IGNORECASE,
)


#: Error messages of libcurl, ssh, git's own transport and Go (Docker, git-lfs) for a host name that does not resolve.
UNRESOLVED = re.compile(
    r"could not resolve (?:host|hostname):? '?([\w.-]+)|unable to look up ([\w.-]+)"
    r"|\blookup ([\w.-]+)[^;\n]*: (?:no such host|server misbehaving|temporary failure in name resolution)",
    re.IGNORECASE,
)


def outcome_of(text: str) -> Outcome:
    """Return REFUSED for the message of an error that no retry fixes; else LOST, so that another machine is tried."""
    return Outcome.REFUSED if WRONG.search(text) and not PASSING.search(text) else Outcome.LOST


def unresolved_host(text: str) -> str:
    """Return the host name that a tool's error message says it could not resolve; empty if there is none."""
    found = UNRESOLVED.search(text)
    return next(filter(None, found.groups()), "").rstrip(".").lower() if found else ""


def told(code: int) -> str:
    """Return an exit code in words."""
    if code > 128:
        try:
            return f"died of {signal.Signals(code - 128).name} (exit code {code})"
        except ValueError:
            pass
    return f"exited with {code}"
