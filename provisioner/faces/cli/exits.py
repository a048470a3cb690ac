"""Exit codes: the job's own if the run succeeded or failed; else one of ours, 64 and above."""

from provisioner.core import errors
from provisioner.core.protocol.words import Outcome

INVALID = 64
NOT_FOUND = 66
CLOUD = 69
BUG = 70
CONFLICT = 73
RETRY = 75
NOT_ALLOWED = 77
#: Exit codes for outcomes that do not use the process's exit code. FAILED uses the process's exit code if that is from
#: 1 to 255.
WITHOUT_EXIT_CODE = {
    Outcome.FAILED: 80,
    Outcome.CANCELLED: 81,
    Outcome.TIMED_OUT: 82,
    Outcome.INTERRUPTED: 83,
    Outcome.LOST: 84,
    Outcome.REFUSED: 85,
}
#: Ctrl-C, as in the shell (128 + SIGINT).
DETACHED = 130
#: Standard output has no reader any more (128 + SIGPIPE).
UNREAD = 141

#: The meaning of each exit code, for `provision --help`.
MEANING = {
    INVALID: "wrong usage, settings or recipe",
    NOT_FOUND: "no such job or run",
    CLOUD: "AWS rejected the request",
    BUG: "a bug in provision; --debug prints the traceback",
    CONFLICT: "conflict with what exists already",
    RETRY: "a temporary error; try again",
    NOT_ALLOWED: "not allowed, or the bucket belongs to another store",
    **{code: f"the run's outcome is {outcome}" for outcome, code in WITHOUT_EXIT_CODE.items()},
    DETACHED: "Ctrl-C; runs continue",
    UNREAD: "the reader of standard output is gone",
}

_OF_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (errors.Invalid, INVALID),
    (errors.NotFound, NOT_FOUND),
    (errors.Conflict, CONFLICT),
    (errors.WrongStore, NOT_ALLOWED),
    (errors.Denied, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.TooMany, RETRY),
    (errors.LimitReached, RETRY),
    (errors.Retryable, RETRY),
    (errors.LeaseLost, RETRY),
    (errors.Failed, WITHOUT_EXIT_CODE[Outcome.FAILED]),
    (errors.CloudError, CLOUD),
)


def of_error(error: Exception) -> int:
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), BUG)
