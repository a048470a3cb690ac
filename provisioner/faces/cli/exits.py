"""Exit codes: the job's own where it has one; ours, 64 and above, only where it has none."""

from collections.abc import Sequence

from provisioner.core import errors
from provisioner.core.record import Run
from provisioner.core.work import Outcome

INVALID = 64
NOT_FOUND = 66
CLOUD = 69
BUG = 70
CONFLICT = 73
RETRY = 75
NOT_ALLOWED = 77
#: A run that ended without a process's exit code.
WITHOUT_EXIT_CODE = {
    Outcome.FAILED: 80,
    Outcome.CANCELLED: 81,
    Outcome.TIMED_OUT: 82,
    Outcome.INTERRUPTED: 83,
    Outcome.LOST: 84,
    Outcome.REFUSED: 85,
}
#: Ctrl-C, as the shell has it (128 + SIGINT).
DETACHED = 130
#: The reader of our output went away (128 + SIGPIPE).
UNREAD = 141

#: What each means, for `provision --help`.
MEANING = {
    INVALID: "wrong usage, settings or recipe",
    NOT_FOUND: "no such job or run",
    CLOUD: "the cloud refused",
    BUG: "a fault of ours; --debug shows where",
    CONFLICT: "it clashes with what is there already",
    RETRY: "a passing fault; try again",
    NOT_ALLOWED: "not allowed: by the token, or because the bucket belongs to another store",
    **{code: f"the run's outcome is {outcome}" for outcome, code in WITHOUT_EXIT_CODE.items()},
    DETACHED: "Ctrl-C; the runs go on",
    UNREAD: "nobody reads the output any more",
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


def of_run(run: Run) -> int:
    """The exit code that stands for an ended run."""
    assert run.verdict is not None, "only an ended run has an exit code"
    if run.verdict.exit_code is not None:
        return run.verdict.exit_code
    return WITHOUT_EXIT_CODE.get(run.verdict.outcome, 0)


def of_runs(runs: Sequence[Run]) -> int:
    """The first that is not 0, in the order given."""
    return next((code for run in runs if (code := of_run(run))), 0)


def last_lines(runs: Sequence[Run]) -> list[str]:
    """What became of each; the last line says whose the exit code is."""
    lines = [_last_line(run) for run in runs]
    code = of_runs(runs)
    if len(runs) > 1:
        first = next((run.id[:12] for run in runs if of_run(run)), "")
        lines.append(f"exit code {code}: {f'from {first}, the first that is not 0' if first else 'of all of them'}")
    return lines


def _last_line(run: Run) -> str:
    assert run.verdict is not None, "only an ended run has an outcome"
    code = run.verdict.exit_code
    whose = f" (exit code {code})" if code is not None else f" (the job has no exit code; {of_run(run)} is ours)"
    told = f"{run.id[:12]} {run.verdict.outcome}: {run.verdict.reason}"
    return told if told.endswith(whose) else told + whose
