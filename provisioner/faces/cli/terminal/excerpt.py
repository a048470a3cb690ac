"""Show the last lines of a failed run's log."""

from collections.abc import Iterator

from provisioner.core.errors import ProvisionError
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.run import Run
from provisioner.ports.control.control import Control
from provisioner.ports.control.logs import LogPiece, LogQuery

#: The streams that are shown by default: those of programs. The system stream is about the machine.
STREAMS = ("setup", "output")
#: How many of the last lines of a log are shown.
LINES = 10


def excerpt(service: Control, run: Run) -> Iterator[str]:
    """Yield the last lines of a failed run's log and the command that prints the whole log; nothing for other outcomes.

    For a list of which commands failed, yield how to find these commands and their outputs.

    If the log cannot be read, a line says so and nothing is raised, because the run's outcome is more important.
    """
    if run.outcome is not Outcome.FAILED:
        return
    if run.commands and run.commands.failed + run.commands.lost:
        yield f"the commands that failed: provision commands {run.id[:12]} --failed"
        yield f"the output of one of them: provision logs {run.id[:12]} --command INDEX"
        return
    try:
        pieces = list(service.logs.read(run.id, LogQuery(STREAMS, run.attempt, LINES, _failed_rank(service, run))))
    except ProvisionError as error:
        yield f"the log cannot be read now: {error}"
        return
    written = b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece))
    if written:
        yield f"the last lines of the log of {run.id[:12]}:"
        for line in written.decode(errors="replace").splitlines()[-LINES:]:
            yield f"  {line}"
    yield f"the whole log: provision logs {run.id[:12]}"


def _failed_rank(service: Control, run: Run) -> int | None:
    """Return the first rank that failed with the run's exit code; None for a run with one rank."""
    if run.scale == 1:
        return None
    last = [each for each in service.runs.status(run.id).attempts if each.attempt == run.attempt]
    found = [each.rank for each in last if (each.outcome, each.exit_code) == (run.outcome, run.exit_code)]
    return min(found, default=0)
