"""Exit codes: the job's own if the run succeeded or failed; else one of ours, 64 and above."""

from collections.abc import Callable, Sequence

from provisioner.core import errors
from provisioner.core.protocol.messages import Outcome
from provisioner.core.views.run import Run

INVALID = 64
NOT_FOUND = 66
CLOUD = 69
BUG = 70
CONFLICT = 73
RETRY = 75
NOT_ALLOWED = 77
#: Exit codes for outcomes that do not use the process's exit code; a failure only if no process ended.
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
    """Return the exit code of `wait` for an ended run: 0 only if it succeeded, whatever its process exited with."""
    assert run.outcome is not None, "only an ended run has an exit code"
    outcome, code = run.outcome, run.exit_code
    if outcome is Outcome.SUCCEEDED:
        return 0
    # The shell gets only the lowest eight bits: a reported code of 256 must not turn a failure into a success.
    if outcome is Outcome.FAILED and code is not None and 0 < code < 256:
        return code
    return WITHOUT_EXIT_CODE[outcome]


def of_rehearsal(run: Run) -> int:
    """Return the exit code of `rehearse`: the process's own, also after a stop or a limit, unless it is 0.

    A rehearsal is to show how the command ends on SIGTERM.
    """
    assert run.outcome is not None, "only an ended run has an exit code"
    code = run.exit_code
    return code if code is not None and 0 < code < 256 else of_run(run)


def of_runs(runs: Sequence[Run], of: Callable[[Run], int] = of_run) -> int:
    """The first that is not 0, in the order given."""
    return next((code for run in runs if (code := of(run))), 0)


def last_lines(runs: Sequence[Run], of: Callable[[Run], int] = of_run) -> list[str]:
    """What became of each; the last line says whose the exit code is."""
    lines = [_last_line(run, of(run)) for run in runs]
    code = of_runs(runs, of)
    if len(runs) > 1:
        first = next((run.id[:12] for run in runs if of(run)), "")
        lines.append(f"exit code {code}: {f'from {first}, the first that is not 0' if first else 'of all of them'}")
    return lines


def _last_line(run: Run, code: int) -> str:
    assert run.outcome is not None, "only an ended run has an outcome"
    whose = f" (exit code {code})"
    if run.process_exit_code is None:
        whose = f" (the job has no exit code; {code} is ours)"
    elif run.exit_code != code:
        whose = f" (exit code {code} stands for the outcome)"
    told = f"{run.id[:12]} {run.outcome}: {run.reason}"
    return told if told.endswith(whose) else told + whose
