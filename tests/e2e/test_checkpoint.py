"""A spot interruption in the middle of the work: saved work is not repeated."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from tests.e2e.commands import Command
from tests.e2e.rig import rig

#: The README's recipe of a longer job.
TRAINING = Path(__file__).parents[2] / "config/jobs/training.yaml"

#: Counts to forty, one step a second. On SIGTERM it saves its step and exits with 75: work is left.
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
    """After notice, SIGTERM and save, the next machine resumes and exits with 0.

    The receipt has both machines, and no retry is used.
    """
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
        receipt = whole.service.runs.receipt(run.id)
        assert [bill.attempt for bill in receipt.machines] == [1, 2]
        assert len({bill.instance_id for bill in receipt.machines}) == 2
        assert {phase.attempt for phase in receipt.phases if phase.name == "command"} == {1, 2}
        assert whole.double.alive() == []


def test_rehearsal_shows_saved_checkpoint_objects(tmp_path: Path) -> None:
    """`provision rehearse` accepts a recipe with `checkpoint`, and shows the saved objects."""
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


#: A package `train` for the recipe's command: `python -m train --resume latest --out "$PROVISION_CHECKPOINT"`.
TRAIN = """
import argparse, os, signal, sys, time
import boto3

words = argparse.ArgumentParser()
words.add_argument("--resume", choices=["latest"])
words.add_argument("--out")
out = words.parse_args().out
bucket, _, prefix = out.removeprefix("s3://").partition("/")
s3, epoch = boto3.client("s3"), 0
try:
    epoch = int(s3.get_object(Bucket=bucket, Key=prefix + "latest")["Body"].read())
    print("resumed after epoch", epoch, flush=True)
except s3.exceptions.ClientError:
    pass

def save(*_):
    s3.put_object(Bucket=bucket, Key=prefix + "latest", Body=str(epoch).encode())
    print("saved epoch", epoch, flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
while epoch < int(os.environ["EPOCHS"]):
    time.sleep(0.5)
    epoch += 1
    print("epoch", epoch, flush=True)
print("trained", flush=True)
"""


def test_the_training_job_of_the_examples_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs config/jobs/training.yaml, with its command, variables, retries and limits, on two machines in turn."""
    package = tmp_path / "train"
    (package / "train").mkdir(parents=True)
    (package / "train/__init__.py").write_text("")
    (package / "train/__main__.py").write_text(TRAIN)
    (package / "setup.cfg").write_text("")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"], ["tag", "v1.4.0"]):
        subprocess.run(["git", "-C", str(package), *identity, *words], check=True, capture_output=True)
    spec = yaml.safe_load(TRAINING.read_text())["spec"]
    # Remove fields that need the network or a real machine; the job itself stays unchanged.
    for name in ("owner", "git", "registry", "secrets", "extra_packages", "placement", "start_script", "schedule"):
        del spec[name]
    code = {"url": f"file://{package}", "reference": "v1.4.0", "reference_type": "tag", "path": "."}
    command = spec.pop("command")
    settings = {"checkpoint_url": "s3://states/runs/"}
    with rig(tmp_path / "rig", monkeypatch, settings=settings, buckets={"states": {}}) as whole:
        run = whole.start(command, **{**spec, "git_repositories": [code]})
        whole.until(lambda: b"epoch 2\n" in whole.log(run))
        whole.double.interrupt(whole.service.installation.store.nodes(run.id)[0].instance_id, notice=24)
        [done] = whole.done(run)
        assert done.verdict is not None
        assert (done.verdict.outcome, done.attempt, done.retries_used) == (Outcome.SUCCEEDED, 2, 0), done.verdict
        first, second = (whole.log(run, attempt=attempt).decode().splitlines() for attempt in (1, 2))
        assert first[-1].startswith("saved epoch ")
        saved = int(first[-1].removeprefix("saved epoch "))
        assert second == [
            f"resumed after epoch {saved}",
            *(f"epoch {epoch}" for epoch in range(saved + 1, int(spec["environment_variables"]["EPOCHS"]) + 1)),
            "trained",
        ]
