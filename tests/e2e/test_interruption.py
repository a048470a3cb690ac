"""An interrupted trainer runs again until it is done; until then no exit code claims success."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.rehearsal.machines.host import Guest
from tests.e2e.commands import Command, settings_file
from tests.e2e.elsewhere import served
from tests.e2e.rig import Rig, rig

#: A trainer with support for preemption: it is cut off in the fifth of 20 epochs, saves, and exits.
TRAINER = """
import os, signal, sys, time
import boto3

# On a busy computer the double's answer takes longer than boto3's one second.
os.environ.update(AWS_METADATA_SERVICE_TIMEOUT="30", AWS_METADATA_SERVICE_NUM_ATTEMPTS="3")
bucket, _, prefix = os.environ["PROVISION_CHECKPOINT"].removeprefix("s3://").partition("/")
key, s3 = prefix + "epoch", boto3.client("s3")
try:
    epoch = int(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
except s3.exceptions.ClientError:
    epoch = 0

def save(*_):
    time.sleep(0.5)
    s3.put_object(Bucket=bucket, Key=key, Body=str(epoch).encode())
    print("saved epoch", epoch, flush=True)
    if "done" in sys.argv:
        open(os.environ["PROVISION_DONE_FILE"], "w").close()
    sys.exit(int(os.environ.get("SAVED", "0")))

signal.signal(signal.SIGTERM, save)
while epoch < 20:
    if epoch == 4 and os.environ["PROVISION_ATTEMPT"] == "1":
        if "SAVED" in os.environ and "notice" not in sys.argv:
            save()
        print("in the fifth epoch", flush=True)
        while True:
            time.sleep(0.05)
    epoch += 1
print("finished", flush=True)
"""


@dataclass(frozen=True)
class Row:
    """How the trainer is started, and the expected result of its run."""

    name: str
    command: str
    #: The shell that is `sh` in the image.
    shell: str = "dash"
    spec: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the first machine gets a spot notice; otherwise the trainer exits by itself.
    noticed: bool = True
    attempts: int = 2
    outcome: Outcome = Outcome.SUCCEEDED
    #: The outcome of the first attempt.
    first: Outcome = Outcome.INTERRUPTED
    code: int = 0


RESUMED = [
    Row(f"{form}-{shell}", command, shell)
    for form, command in (
        ("plain", "TRAINER"),
        ("exec", "exec TRAINER"),
        ("followed", "TRAINER\necho after >&2"),
    )
    for shell in ("dash", "bash")
]
ENDED = [
    Row("done-file", "exec TRAINER done", attempts=1, first=Outcome.SUCCEEDED),
    Row(
        "own-code",
        "exec TRAINER notice",
        spec={"environment_variables": {"SAVED": 75}, "retry": {"requeue_on": [75]}},
        code=75,
    ),
    Row(
        "requeued",
        "exec TRAINER",
        spec={"environment_variables": {"SAVED": 75}, "retry": {"requeue_on": [75]}},
        noticed=False,
        first=Outcome.FAILED,
        code=75,
    ),
    Row(
        "not-again",
        "exec TRAINER",
        spec={"retry": {"rerun": "before_start"}},
        attempts=1,
        outcome=Outcome.INTERRUPTED,
    ),
]
ROWS = [*RESUMED, *ENDED]
#: Each row has its own instance type, by which its machines are recognised.
TYPES = (
    *("g4dn.xlarge", "g4dn.2xlarge", "g4dn.4xlarge", "g5.xlarge", "g5.2xlarge", "g5.4xlarge"),
    *("g5.8xlarge", "g5.16xlarge", "g6.xlarge", "g6.2xlarge"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[str, Run]]]:
    """Run all rows at once to the end; rows with a notice get it in the fifth epoch of attempt 1."""
    folder = tmp_path_factory.mktemp("trained")
    types = dict(zip((row.name for row in ROWS), TYPES, strict=True))
    shells = {types[row.name]: row.shell for row in ROWS}
    (folder / "trainer.py").write_text(TRAINER)

    def shell(guest: Guest) -> dict[str, str]:
        (folder / "rig/machines" / guest.instance_id / "bin/sh").symlink_to(f"/bin/{shells[guest.instance_type]}")
        return {}

    settings = {"checkpoint_url": "s3://states/runs/"}
    with (
        pytest.MonkeyPatch.context() as patch,
        rig(folder / "rig", patch, ailing=shell, settings=settings, buckets={"states": {}}) as whole,
    ):
        trainer = f"{sys.executable} {folder}/trainer.py"
        runs = {}
        for row in ROWS:
            spec = {"instance_type": types[row.name], "use_spot_instance": True, "checkpoint": True, **row.spec}
            runs[row.name] = whole.start(row.command.replace("TRAINER", trainer), name=row.name, **spec)
        waiting = [row for row in ROWS if row.noticed]

        def noticed() -> bool:
            for row in list(waiting):
                if b"in the fifth epoch" in whole.log(runs[row.name]):
                    [node] = whole.service.installation.store.nodes(runs[row.name].id)
                    whole.double.interrupt(node.instance_id, notice=24)
                    waiting.remove(row)
            return not waiting

        whole.pace = 0.5
        whole.until(noticed)
        yield whole, dict(zip(runs, whole.done(*runs.values()), strict=True))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_trainer_that_is_cut_off_runs_again_until_it_is_done(trained: tuple[Rig, dict[str, Run]], row: Row) -> None:
    """Without the done file, no exit code ends an interrupted run. No retry is used, and no epoch is trained twice."""
    whole, runs = trained
    run = runs[row.name]
    assert run.verdict is not None
    assert (run.verdict.outcome, run.attempt, run.retries_used) == (row.outcome, row.attempts, 0), run.verdict
    first = whole.service.installation.store.nodes(run.id)[0].verdict
    assert first is not None
    assert first.outcome is row.first, first
    assert first.exit_code == (None if row.first is Outcome.INTERRUPTED else row.code)
    if "exec" in row.command:
        assert first.process_exit_code == row.code
    assert b"saved epoch 4" in whole.log(run, attempt=1)
    if row.attempts == 2:
        assert whole.log(run, attempt=2).splitlines()[0] == b"finished"
    receipt = whole.service.runs.receipt(run.id)
    assert len(receipt.machines) == row.attempts
    assert (receipt.exit_code, receipt.process_exit_code) == (run.verdict.exit_code, run.verdict.process_exit_code)


def test_the_exit_code_of_wait_is_0_for_success_alone(
    trained: tuple[Rig, dict[str, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is the same locally and for a client of a server; --json also has the process's own code."""
    whole, runs = trained
    codes = {"not-again": 83, "done-file": 0, "exec-dash": 0}

    def waited() -> None:
        for name, code in codes.items():
            with Command(tmp_path / "out", "wait", runs[name].id, "--json") as command:
                assert command.ended() == code, command.err
            shown = json.loads(command.out)
            assert (shown["exit_code"], shown["process_exit_code"]) == (None if code else 0, 0)

    monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
    waited()
    with served(whole, monkeypatch):
        waited()


@pytest.mark.parametrize(("how", "code"), [("limit", 82), ("stop", 81)])
def test_start_exits_81_or_82_for_a_stopped_or_timed_out_job(
    trained: tuple[Rig, dict[str, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int
) -> None:
    """The job exits with 0 after SIGTERM; the code is kept, but is no success."""
    whole, _ = trained
    limits = {"limits": {"runtime": "1s"}} if how == "limit" else {}
    command = "trap 'exit 0' TERM; echo up; sleep 600 & wait"
    spec = {"name": how, "image": "any", "instance_type": "g5.xlarge", "command": command, **limits}
    whole.service.jobs.apply(yaml.safe_dump({"type": "job", "spec": spec}), "the test's recipe")
    monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
    with Command(tmp_path / "out", "start", how, "--wait") as start:
        start.until(lambda: start.out.endswith(b"\n"))
        run = whole.service.runs.record(start.out.decode().strip())
        if how == "stop":
            start.until(lambda: whole.log(run) == b"up\n")
            whole.service.runs.stop(run.id)
        assert start.ended() == code, start.err
    verdict = whole.service.runs.record(run.id).verdict
    assert verdict is not None
    assert (verdict.exit_code, verdict.process_exit_code) == (0, 0)
