"""Every error the system raises, named for what the caller should do about it.

ProvisionError
├── Invalid         the input is wrong: show it, change it
├── NotFound        there is no such job, run or machine
├── Conflict        the same name or key already stands for something else
├── Denied          nobody is let in by this token: get another
├── Forbidden       not for this caller: ask who may
├── TooMany         too many tries: wait `retry_after` seconds
├── LimitReached    the owner has as much as `limit` allows: end some of it, or ask an admin
├── WrongStore      this store does not own the installation: do not act
├── LeaseLost       another process acts now: stop acting
├── Failed          it was tried and did not come about: see what was told on the way
└── CloudError      the cloud said no; `code` is its own word for it
    ├── NoCapacity      nothing free in this offer now: take the next offer
    ├── QuotaExceeded   the account's limit: wait for our own machines, or ask AWS
    ├── Misconfigured   it will never work as it is: show it verbatim
    └── Retryable       the same call may work later
        ├── Throttled       too many calls: back off
        ├── Transient       a passing fault: try again
        ├── NeedsOperator   this computer is at fault: tell its operator, try again
        │   └── ClockWrong      its clock is wrong: decide nothing by it
        └── NoAnswer        the deed may or may not be done: ask before doing it anew
"""

from __future__ import annotations


class ProvisionError(Exception):
    """The root: whatever derives from it is meant for a reader, in one sentence."""


class Invalid(ProvisionError):
    """The input is wrong; the message says where, and what would be right."""


class NotFound(ProvisionError):
    """There is no such job, run or machine."""


class Conflict(ProvisionError):
    """The same name or key already stands for something else."""


class Denied(ProvisionError):
    """Nobody is let in by this token; the message says whether it is unknown, revoked or expired."""


class Forbidden(ProvisionError):
    """Who asks is known, and may not have this."""


class TooMany(ProvisionError):
    """Too many tries; the next one has a chance after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitReached(ProvisionError):
    """The owner already has as much as the setting named by `limit` allows."""

    def __init__(self, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class WrongStore(ProvisionError):
    """The bucket belongs to another store, so this one must not act."""


class LeaseLost(ProvisionError):
    """Another process holds the lease now; whatever was planned here is void."""


class Failed(ProvisionError):
    """It was tried and did not come about; the message says at which step."""


class CloudError(ProvisionError):
    """The cloud refused; `code` is the vendor's own word, shown as it is."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        #: The Unix time in the cloud's error answer, or None.
        self.at: float | None = None


class NoCapacity(CloudError):
    """Nothing is free in this offer now; the next offer may have some."""


class QuotaExceeded(CloudError):
    """The account's limit for this region, family and market is reached."""


class Misconfigured(CloudError):
    """It will never work as it is: rights, parameters, a missing thing."""


class Retryable(CloudError):
    """The same call may work later."""


class Throttled(Retryable):
    """Too many calls; says nothing about capacity."""


class Transient(Retryable):
    """A passing fault on the way or at the other end; nothing was done."""


class NeedsOperator(Retryable):
    """A fault of this computer or this account, not of the cloud; the message says what the operator must do."""


class ClockWrong(NeedsOperator):
    """This computer's clock differs from the cloud's: do not decide by its time, and do not store it."""


class NoAnswer(Retryable):
    """The answer was lost: the deed may or may not be done."""
