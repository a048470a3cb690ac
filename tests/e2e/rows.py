"""Rows of the outcome table: a job and its expected result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.core.logs import archive
from provisioner.core.protocol import codec
from provisioner.core.protocol.messages import Result
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.core.run.states import State
from tests.e2e.rig import Rig


@dataclass(frozen=True)
class Row:
    """A job and its expected result."""

    name: str
    command: str
    outcome: Outcome
    exit_code: int | None
    #: Part of the one-line reason.
    reason: str
    #: The complete output stream of the last attempt.
    output: bytes = b""
    attempts: int = 1
    spec: dict[str, Any] = field(default_factory=dict)
    #: Whether the first machine gets a spot notice once the command executes.
    interrupted: bool = False
    #: Part of the reason for the end of the first attempt.
    before: str = ""


def played(whole: Rig, rows: Sequence[Row], repository: Path) -> dict[str, Run]:
    """Start all rows at once, and return the runs by name when all are done.

    REPOSITORY in a URL is replaced by the repository in that folder.
    """
    runs = {}
    for row in rows:
        spec = dict(row.spec)
        for item in spec.get("git_repositories", ()):
            item["url"] = item["url"].replace("REPOSITORY", f"file://{repository}")
        runs[row.name] = whole.start(row.command, **spec)
    noticed = [runs[row.name] for row in rows if row.interrupted]
    whole.until(lambda: all(whole.service.runs.record(run.id).state is State.RUNNING for run in noticed))
    for run in noticed:
        # Half of the notice's time is the job's.
        whole.double.interrupt(whole.service.installation.store.nodes(run.id)[0].instance_id, notice=22)
    return dict(zip(runs, whole.done(*runs.values()), strict=True))


def again(name: str, instance_type: str, before: str, command: str = "echo sound", **spec: Any) -> Row:
    """Return the row of a run that succeeds in its second attempt, after the first one was lost with this reason."""
    return Row(
        name,
        command,
        Outcome.SUCCEEDED,
        0,
        "0",
        b"sound\n",
        attempts=2,
        spec={"instance_type": instance_type, **spec},
        before=before,
    )


def result_of(whole: Rig, run: Run, attempt: int) -> Result:
    """Return the attempt's result from the archive."""
    objects = whole.double.account.objects(whole.double.bucket)
    return codec.decode(Result, objects[archive.kept_result_key(run.id, attempt, 0)])


def check(whole: Rig, run: Run, row: Row) -> None:
    """Assert that the run has the row's result."""
    assert run.verdict is not None
    assert (run.verdict.outcome, run.verdict.exit_code) == (row.outcome, row.exit_code), run.verdict
    assert row.reason in run.verdict.reason
    assert "\n" not in run.verdict.reason
    assert run.attempt == row.attempts
    if row.attempts:
        assert whole.log(run, attempt=run.attempt) == row.output
    if row.before:
        assert row.before in result_of(whole, run, 1).reason
