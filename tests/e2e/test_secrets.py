"""A job that prints its secrets in every form: they are found nowhere outside the job."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters import agent_package
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.records import Run
from tests.e2e.commands import Command, settings_file
from tests.e2e.echo import echo
from tests.e2e.processes import Watch
from tests.e2e.rig import Rig, rig
from tests.support.secrets import KEY, TOKEN, VALUES, WILD, everything, found, writings

#: Prints each secret in each form: whole, embedded, and in pieces that lie in different chunks of the log.
TELL = """
import base64, json, os, subprocess, sys, time
from urllib.parse import quote, quote_plus

secrets = [os.environ["TOKEN"], os.environ["WILD"], open(os.path.expanduser("~/.ssh/key")).read()]
for text in secrets:
    data = text.encode()
    for form in (
        text, quote(text), quote(text, safe=""), quote_plus(text), f"Bearer {text} and more",
        json.dumps(text), json.dumps(text, ensure_ascii=False),
        base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(),
        base64.b64encode(b"user:" + data).decode(), base64.b64encode(b"me:" + data + b"@host").decode(),
    ):
        print(form, flush=True)
    subprocess.run(["base64"], input=data)
    subprocess.run(["sh", "-c", "cat >&2"], input=data)
for text in secrets:
    half = len(text.encode()) // 2
    os.write(1, text.encode()[:half])
    time.sleep(1.5)
    os.write(1, text.encode()[half:] + b"\\n")
print("told")
sys.exit(5)
"""


@dataclass(frozen=True)
class Told:
    #: The run that prints all secrets, in its start script and its command.
    job: Run
    #: The run whose git server answers with all secrets, so that they reach the system stream.
    refused: Run
    #: The streams of these runs.
    setup: bytes
    output: bytes
    system: bytes
    #: All other data to search, by name.
    places: Mapping[str, bytes]


def start(whole: Rig, folder: Path, server: str) -> tuple[Run, Run]:
    """Start both runs."""
    tell = f"{sys.executable} {folder}/tell.py"
    secrets = [
        {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/team/token"},
        {"type": "environment_variable", "location": "WILD", "name": "secretsmanager:wild#value"},
        {"attachment_type": "file", "location": ".ssh/key", "name": "secretsmanager:key"},
    ]
    job = whole.start(tell, secrets=secrets, start_script=f"{tell} || true")
    return job, whole.start("true", secrets=secrets, git_repositories=[{"url": f"{server}/repository"}])


SCENARIO: dict[str, Any] = {
    "parameters": {"/team/token": TOKEN},
    "secrets": {"wild": json.dumps({"value": WILD}), "key": KEY},
}


@pytest.fixture(scope="module")
def tale(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return the folder of tell.py, and all that it prints."""
    folder = tmp_path_factory.mktemp("tale")
    (folder / "tell.py").write_text(TELL)
    (folder / ".ssh").mkdir()
    (folder / ".ssh/key").write_text(KEY)
    environment = {**os.environ, "HOME": str(folder), "TOKEN": TOKEN, "WILD": WILD}
    done = subprocess.run(
        [sys.executable, folder / "tell.py"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 5
    return folder, done.stdout + f"so it is {TOKEN}\n".encode()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tale: tuple[Path, bytes]) -> Told:
    """Run both jobs with a daemon; collect all data while they run and afterwards."""
    folder, (where, text) = tmp_path_factory.mktemp("secrets"), tale
    with pytest.MonkeyPatch.context() as patch, echo(text) as server, rig(folder / "rig", patch, **SCENARIO) as whole:
        environment = {"PROVISION_SETTINGS": str(settings_file(whole))}
        places: dict[str, bytes] = {}
        with Command(folder / "daemon", "daemon", environment=environment) as daemon, Watch() as watch:
            daemon.until(whole.service.operator.served)
            runs = start(whole, where, server)
            while not all(whole.service.runs.record(run.id).done_at for run in runs):
                # Collect data that is deleted at the end; it may change while it is read.
                with contextlib.suppress(RuntimeError):
                    places |= {f"before {name}": data for name, data in everything(whole).items()}
                threading.Event().wait(0.1)
            daemon.signal(signal.SIGTERM)
            daemon.ended()
            places |= {"daemon out": daemon.out, "daemon log": daemon.err.encode()}
        places |= {f"process {number}": line for number, line in enumerate(watch.lines)} | everything(whole, *runs)
        job, refused = (whole.service.runs.record(run.id) for run in runs)
        return Told(job, refused, whole.log(job, "setup"), whole.log(job), whole.log(refused, "system"), places)


def test_job_printed_its_masked_secrets(told: Told) -> None:
    """All three streams were written to their end, and the secrets in them are masked."""
    verdict = told.job.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.exit_code) == (Outcome.FAILED, 5), verdict
    for stream in (told.setup, told.output):
        assert stream.endswith(b"told\n")
        assert b"Bearer *** and more\n" in stream
    verdict = told.refused.verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.step) == (Outcome.REFUSED, Step.CLONE), verdict
    assert b"Bearer *** and more\n" in told.system


@pytest.mark.parametrize("value", VALUES, ids=["token", "wild", "key"])
def test_secrets_are_found_nowhere_outside_the_job(told: Told, value: str) -> None:
    """Searches bucket, store, requests (with tags), user-data, console, process arguments and the daemon's log."""
    kinds = {name.split()[0] for name in told.places}
    assert kinds == {"s3", "file", "call", "user-data", "status", "console", "before", "daemon", "process"}
    # The job's command line was among the observed ones.
    assert any(b"tell.py" in line for line in told.places.values())
    assert any("/work" in name for name in told.places)
    assert found(told.places, value) == []


@pytest.mark.parametrize("value", VALUES, ids=["token", "wild", "key"])
def test_job_prints_every_form_that_the_search_looks_for(tale: tuple[Path, bytes], value: str) -> None:
    """The job prints every form that the search looks for."""
    _, text = tale
    assert [form for form in writings(value) if form not in text] == []


def test_search_finds_secrets_of_an_agent_without_a_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tale: tuple[Path, bytes]
) -> None:
    """Without the mask, the search finds the secrets in bucket, store and status, so it works."""
    where, text = tale
    build = agent_package.build

    def unmasked() -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(build())) as old, zipfile.ZipFile(made, "w") as new:
            for name in old.namelist():
                more = b"\n\nMask.add = lambda *_: None\n" if name.endswith("agent/logs/mask.py") else b""
                new.writestr(name, old.read(name) + more)
        return made.getvalue()

    monkeypatch.setattr(agent_package, "build", unmasked)
    with echo(text) as server, rig(tmp_path / "rig", monkeypatch, **SCENARIO) as whole:
        runs = whole.done(*start(whole, where, server))
        places = everything(whole, *runs)
        for value in VALUES:
            streams = {name.split("/")[-2] for name in found(places, value) if "/log/" in name}
            assert streams == {"system", "setup", "output"}
        # The reason ends with git's last message.
        assert {name.split()[0] for name in found(places, TOKEN)} >= {"file", "status"}
