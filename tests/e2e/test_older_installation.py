"""A store and a bucket that an older version wrote, with a machine that runs that version's agent.

`older_installation.json` was written by the version of 28 November 2026. It has the store as SQL, the bucket's objects,
and the objects that the agent of run `live` wrote after the older control plane had stopped. Later versions must be
able to read all of it, so never regenerate the file.
"""

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from provisioner import wiring
from provisioner.adapters.aws import Session
from provisioner.adapters.ec2.cloud import Ec2
from provisioner.core.cloud.launches import LaunchRequest
from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from tests.e2e.rig import Rig, rig

FIXTURE = Path(__file__).with_name("older_installation.json")


def test_an_installation_of_an_older_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old jobs, ended runs, logs and tokens are readable; the machine's messages are read; the queued run runs."""
    with rig(tmp_path, monkeypatch) as whole:
        whole.service.close()
        old = _moved(whole)
        _fill(whole, old["bucket"])
        for file in tmp_path.glob("store.db*"):
            file.unlink()
        with contextlib.closing(sqlite3.connect(whole.settings.store_path)) as store:
            store.executescript("\n".join(old["store"]))
        whole.service = wiring.service(whole.settings)
        service, runs = whole.service, old["runs"]

        assert {job.name for job in service.jobs.all()} == {"good", "bad", "live", "late", "nightly"}
        assert [each.job for each in service.schedules.all()] == ["tester/nightly"]
        assert [token.note for token in service.tokens.all()] == ["old"]
        assert service.runs.record(runs["live"]).state is State.RUNNING
        for name, outcome, code, line in (
            ("good", Outcome.SUCCEEDED, 0, b"done well\n"),
            ("bad", Outcome.FAILED, 3, b""),
        ):
            status = service.runs.status(runs[name])
            assert (status.run.outcome, status.run.exit_code) == (outcome, code)
            assert service.runs.receipt(runs[name]).outcome is outcome
            assert whole.log(status.run).startswith(line)

        service.operator.step()
        _fill(whole, old["later"], machine=old["machine"])
        live, late = whole.done(*(service.runs.record(runs[name]) for name in ("live", "late")))
        for run, printed in ((live, b"begun\nended\n"), (late, b"late\n")):
            assert run.verdict is not None
            assert (run.verdict.outcome, run.attempt) == (Outcome.SUCCEEDED, 1)
            assert whole.log(run) == printed
        # The machine of `live` and the machine of `late`.
        assert len(whole.double.history()) == 2
        assert not whole.double.alive()


def _moved(whole: Rig) -> dict[str, Any]:
    """Launch the file's machine; return the file with this account's ids and with its times moved to now."""
    text = FIXTURE.read_text()
    old = json.loads(text)
    ids = {old["role"]: whole.double.account.role_id, old["image"]: whole.double.account.image_id}
    subnets = {zone: subnet for subnet, zone in whole.double.account.subnets.items()}
    ids |= {subnet: subnets[zone] for zone, subnet in old["subnets"].items()}
    for known, new in ids.items():
        text = text.replace(known, new)
    request = decode(LaunchRequest, json.dumps(json.loads(text)["launch"]).encode())
    session = Session(whole.double.region, whole.double.url)
    with contextlib.closing(Ec2(whole.settings.installation, session, whole.settings.subnets)) as cloud:
        answer = cloud.launch(request)
    text = text.replace(old["machine"], answer.machines[0].instance_id)
    now = time.time()

    def later(number: re.Match[str]) -> str:
        at = float(number[0])
        return repr(at - old["at"] + now) if abs(at - old["at"]) < 3600 else number[0]

    moved: dict[str, Any] = json.loads(re.sub(r"\b1\.7\d+e\+09|\b17\d{8}(\.\d+)?\b", later, text))
    return moved


def _fill(whole: Rig, objects: dict[str, str], machine: str = "") -> None:
    """Put the objects into the bucket, with the machine's credentials if one is given."""
    keys = whole.double.machine_environment(machine) if machine else whole.double.environment()
    s3 = boto3.client(
        "s3",
        endpoint_url=whole.double.url,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys.get("AWS_SESSION_TOKEN"),
    )
    for key, text in objects.items():
        s3.put_object(Bucket=whole.settings.bucket, Key=key, Body=text.encode())
    s3.close()
