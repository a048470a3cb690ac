"""Long logs from many jobs at once, through every trouble of the bucket: the archive equals the output."""

import hashlib
import subprocess
from functools import partial
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.ports.control.logs import LogPiece, LogQuery
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from tests.e2e.rig import Rig, rig

JOBS = 20
BYTES = 50_000_000
#: Seconds during which S3 refuses writes.
REFUSAL = 60.0


def printing(job: int) -> str:
    """Return a shell command that prints text without repetition, in this job or across jobs."""
    return f"seq -f 'job {job} line %.0f' 1000000000 | head -c {BYTES}"


def digest_of(whole: Rig, run: Run) -> str:
    """Return the digest of the archived output; a gap fails the test."""
    found = hashlib.sha256()
    for piece in whole.service.logs.read(run.id, LogQuery(("output",))):
        assert isinstance(piece, LogPiece)
        found.update(piece.data)
    return found.hexdigest()


@pytest.mark.load
def test_the_archive_is_what_was_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While S3 is slow, loses answers, and refuses writes for a minute, no byte is lost, duplicated or changed."""
    with rig(tmp_path, monkeypatch) as whole:
        rule = partial(Rule, service="s3", action="PutObject", principal="machine", resource="*/log/*")
        faults = whole.double.faults
        faults.add(rule(Effect.RESET, When.AFTER, skip=20, times=30))
        faults.add(rule(Effect.ERROR, When.AFTER, skip=20, times=30))
        faults.add(rule(Effect.DELAY, seconds=2.0))
        runs = [whole.start(printing(job), name=f"job-{job}") for job in range(JOBS)]

        def chunks() -> int:
            return sum(call.principal != "control" for call in whole.double.calls.of("s3", "PutObject"))

        whole.until(lambda: chunks() > 10 * JOBS)
        faults.clear()
        faults.add(rule(Effect.ERROR, code="SlowDown", status=503))
        over = whole.service.operator.now() + REFUSAL
        whole.until(lambda: whole.service.operator.now() > over)
        faults.clear()
        done = whole.done(*runs)
        assert [run.verdict and run.verdict.outcome for run in done] == [Outcome.SUCCEEDED] * JOBS
        assert all(run.attempt == 1 for run in done)
        for job, run in enumerate(done):
            wanted = subprocess.run(f"{printing(job)} | sha256sum", shell=True, capture_output=True, check=True)
            assert digest_of(whole, run) == wanted.stdout.decode().split()[0]
        assert whole.double.alive() == []
