"""The errors that the system raises, named for what the caller should do.

ProvisionError
├── Invalid         the input is wrong: show the message, correct the input
├── NotFound        the named job, run, machine or other thing does not exist
├── Conflict        the name or key is already in use, or another process has changed the record
├── Denied          the token is unknown, revoked or expired: get another one
├── Forbidden       this caller lacks the right: ask an admin
├── TooMany         too many requests of this kind: wait `retry_after` seconds
├── LimitReached    the owner has reached the setting `limit`: end runs, delete jobs, or ask an admin
├── WrongStore      this store does not own the installation: do not act
├── LeaseLost       another process holds the lease: stop making passes
├── Failed          the operation began and failed: read its log
└── CloudError      the cloud rejected the call; `code` is the cloud's error code
    ├── NoCapacity      this offer has no free capacity now: take the next offer
    ├── QuotaExceeded   the account's limit is reached: wait for our own machines to end, or ask AWS for more
    ├── Misconfigured   the call cannot succeed unchanged: show the message verbatim
    └── Retryable       the same call may succeed later
        ├── Throttled       too many calls: back off
        ├── Transient       a temporary fault; the call had no effect: retry
        ├── NeedsOperator   a fault of this computer or account: show it to the operator, retry
        │   └── ClockWrong      this computer's clock is wrong: do not use its time
        └── NoAnswer        the call may have taken effect: find out whether it has before you call again
"""

from __future__ import annotations


class ProvisionError(Exception):
    """The base class of these errors; the message is one sentence for a user."""


class Invalid(ProvisionError):
    """The input is wrong. The message names the place in the input and the value that is expected there."""


class NotFound(ProvisionError):
    """The named job, run, machine or other thing does not exist."""


class Conflict(ProvisionError):
    """The name or key is already in use, or another process has changed the record."""


class Denied(ProvisionError):
    """The access token is rejected; the message says whether it is unknown, revoked or expired."""


class Forbidden(ProvisionError):
    """The caller is known, but lacks the right to do this."""


class TooMany(ProvisionError):
    """Too many requests of this kind; retry after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitReached(ProvisionError):
    """The owner already has as much as the setting named by `limit` allows."""

    def __init__(self, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class WrongStore(ProvisionError):
    """The bucket belongs to another store, so this store must not act."""


class LeaseLost(ProvisionError):
    """Another process holds the lease now; discard this process's plans."""


class Failed(ProvisionError):
    """The operation began and failed; the message names the step."""


class CloudError(ProvisionError):
    """The cloud rejected the call; `code` is the vendor's error code, shown unchanged."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        #: The Unix time in the cloud's error answer, or None.
        self.at: float | None = None


class NoCapacity(CloudError):
    """The offer has no free capacity now; the next offer may have some."""


class QuotaExceeded(CloudError):
    """The account's limit for this region, family and market is reached.

    `vcpus` or `machines` is the limit, if the cloud has named it: more than that can never be launched at once.
    """

    def __init__(self, message: str, code: str = "", *, vcpus: int | None = None, machines: int | None = None) -> None:
        super().__init__(message, code)
        self.vcpus = vcpus
        self.machines = machines


class Misconfigured(CloudError):
    """The call cannot succeed unchanged: missing rights, wrong parameters, or a missing resource."""


class Retryable(CloudError):
    """The same call may succeed later."""


class Throttled(Retryable):
    """Too many calls were made; a throttled launch proves nothing about capacity."""


class Transient(Retryable):
    """A temporary fault of the network or the server; the call had no effect."""


class NeedsOperator(Retryable):
    """A fault of this computer or this account, not of the cloud; the message names what the operator must do.

    Only a person can end it, so an immediate retry is useless: runs wait, and are tried again every few minutes.
    """


class ClockWrong(NeedsOperator):
    """This computer's clock differs from the cloud's: make no decision by its time, and do not store its time."""


class NoAnswer(Retryable):
    """The answer was lost: the call may or may not have taken effect."""
