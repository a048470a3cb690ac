"""Exit codes of ended runs, and the last lines of a command that has waited for them."""

from collections.abc import Callable, Sequence

from provisioner.core.protocol.words import Outcome
from provisioner.core.views.run import Run
from provisioner.faces.cli.exits import WITHOUT_EXIT_CODE


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

    A rehearsal must show how the command ends on SIGTERM.
    """
    assert run.outcome is not None, "only an ended run has an exit code"
    code = run.exit_code
    return code if code is not None and 0 < code < 256 else of_run(run)


def of_runs(runs: Sequence[Run], of: Callable[[Run], int] = of_run) -> int:
    """Return the first exit code that is not 0, in the order of the runs, else 0."""
    return next((code for run in runs if (code := of(run))), 0)


def last_lines(runs: Sequence[Run], of: Callable[[Run], int] = of_run) -> list[str]:
    """Return a line with each run's outcome and, for several runs, a last line about the exit code."""
    lines = [_last_line(run, of(run)) for run in runs]
    if len(runs) > 1:
        first = next((run for run in runs if of(run)), None)
        lines.append(
            f"exit code {of(first)}: that of run {first.id[:12]}, the first that did not succeed"
            if first
            else f"all {len(runs)} runs succeeded"
        )
    return lines


def _last_line(run: Run, code: int) -> str:
    assert run.outcome is not None, "only an ended run has an outcome"
    # An exit code that is not the process's own is the code of `provision` for the outcome.
    whose = f" (exit code {code})" if run.exit_code == code else f" (exit code {code}: {run.outcome})"
    told = f"{run.id[:12]} {run.outcome}: {run.reason}"
    return told if told.endswith(whose) else told + whose
