"""A spot machine is taken away in the middle of the work: what was saved is not done again."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.core.work import Outcome
from tests.e2e.commands import Command
from tests.e2e.rig import rig

#: Counts to forty, a step at a time; told to stop, it saves where it is and says by its exit code that it is not done.
PROGRAM = """
import os, signal, sys, time
import boto3

bucket, _, prefix = os.environ["PROVISION_CHECKPOINT"].removeprefix("s3://").partition("/")
key, s3 = prefix + "step", boto3.client("s3")
try:
    step = int(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    print(f"resumed after step {step}", flush=True)
except s3.exceptions.ClientError:
    step = 0

def save(*_):
    s3.put_object(Bucket=bucket, Key=key, Body=str(step).encode())
    print(f"saved step {step}", flush=True)
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
while step < 40:
    time.sleep(1)
    step += 1
print("all forty", flush=True)
"""


def test_the_next_attempt_goes_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice, SIGTERM, save; the next machine reads it and ends 0; the receipt has both, and retries are untouched."""
    (tmp_path / "count.py").write_text(PROGRAM)
    scenario: dict[str, Any] = {
        "buckets": {"states": {}},
        "interruptions": [{"market": "spot", "at": "15s", "notice": "30s"}],
    }
    settings = {"checkpoint_url": "s3://states/runs/"}
    with rig(tmp_path / "rig", monkeypatch, settings=settings, **scenario) as whole:
        command = f"{sys.executable} {tmp_path}/count.py"
        [run] = whole.done(whole.start(command, use_spot_instance=True, checkpoint=True))
        assert run.verdict is not None
        assert (run.verdict.outcome, run.verdict.exit_code, run.attempt) == (Outcome.SUCCEEDED, 0, 2)
        assert run.retries_used == 0
        first, second = (whole.log(run, attempt=attempt).decode().split("\n") for attempt in (1, 2))
        saved = int(first[0].removeprefix("saved step "))
        assert saved > 0
        assert second == [f"resumed after step {saved}", "all forty", ""]
        receipt = whole.service.receipt(run.id)
        assert [bill.attempt for bill in receipt.machines] == [1, 2]
        assert len({bill.instance_id for bill in receipt.machines}) == 2
        assert {phase.attempt for phase in receipt.phases if phase.name == "command"} == {1, 2}
        assert whole.double.alive() == []


def test_a_rehearsal_has_a_place_for_them(tmp_path: Path) -> None:
    """`provision rehearse` takes a recipe that keeps its state, and shows what it has kept."""
    save = "import boto3, os; b, _, k = os.environ['PROVISION_CHECKPOINT'][5:].partition('/')\n"
    save += "boto3.client('s3').put_object(Bucket=b, Key=k + 'step', Body=b'40')\n"
    spec = {"name": "kept", "image": "any", "instance_type": "g5.xlarge", "command": "python save.py"}
    files = {"workspace/save.py": {"content": save}}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"type": "job", "spec": {**spec, "config_files": files, "checkpoint": True}}))
    with Command(tmp_path / "out", "rehearse", str(recipe), "--json") as command:
        assert command.ended() == 0, command.err
    said = json.loads(command.out)
    assert said["objects"] == {f"s3://rehearsal-checkpoints/{said['run']['id']}/step": {"text": "40"}}
