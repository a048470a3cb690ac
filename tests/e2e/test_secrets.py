"""A job that tells its secrets in every way it can: nobody but the job ever has them."""

import base64
import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from provisioner.core.record import Run
from provisioner.core.work import Outcome
from tests.e2e.rig import Rig, rig

TOKEN = "hf_Zq8-n0t-T0-be+read/anywhere="
WILD = 'it\'s "quoted" \\ and é\tof <two> lines,\nthe second one & more'
KEY = (
    "-----BEGIN TEST KEY-----\n"
    + "\n".join(f"{number:02d}" + "bWFkZSBmb3IgYSB0ZXN0" * 3 for number in range(12))
    + "\n"
)
VALUES = (TOKEN, WILD, KEY)

#: Prints each secret in each form, whole, embedded, and in pieces that lie in different chunks of the log.
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


def forms(text: str) -> Iterator[bytes]:
    """What must be nowhere; of a secret of several lines no long line either."""
    for part in {text, *(line for line in text.splitlines() if len(line) > 20)}:
        data = part.encode()
        yield data
        yield from (quote(part).encode(), quote_plus(part).encode(), json.dumps(part)[1:-1].encode())
        yield from (base64.b64encode(data).rstrip(b"="), base64.urlsafe_b64encode(data).rstrip(b"="))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Run]]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "tell.py").write_text(TELL)
    scenario: dict[str, Any] = {
        "parameters": {"/team/token": TOKEN},
        "secrets": {"wild": json.dumps({"value": WILD}), "key": KEY},
    }
    tell = f"{sys.executable} {folder}/tell.py"
    recipe: dict[str, Any] = {
        "start_script": f"{tell} || true",
        "secrets": [
            {"attachment_type": "environment_variable", "location": "TOKEN", "name": "ssm:/team/token"},
            {"type": "environment_variable", "location": "WILD", "name": "secretsmanager:wild#value"},
            {"attachment_type": "file", "location": ".ssh/key", "name": "secretsmanager:key"},
        ],
    }
    with pytest.MonkeyPatch.context() as patch, rig(folder / "rig", patch, **scenario) as whole:
        [run] = whole.done(whole.start(tell, **recipe))
        yield whole, run


def test_the_job_had_them(told: tuple[Rig, Run]) -> None:
    """Both streams were told to their end, and what was told is hidden."""
    whole, run = told
    assert run.verdict is not None
    assert (run.verdict.outcome, run.verdict.exit_code) == (Outcome.FAILED, 5), run.verdict
    for stream in ("setup", "output"):
        log = whole.log(run, stream)
        assert log.endswith(b"told\n")
        assert b"Bearer *** and more\n" in log


@pytest.mark.parametrize("value", VALUES, ids=["token", "wild", "key"])
def test_nobody_else_has_them(told: tuple[Rig, Run], value: str) -> None:
    """Not the bucket, the store, any request of the control plane (user-data and tags are in them), or any console."""
    whole, run = told
    double = whole.double
    places = {f"s3 {key}": data for key, data in double.account.objects(double.bucket).items()}
    places |= {f"file {path.name}": path.read_bytes() for path in whole.folder.glob("store.db*")}
    places |= {f"call {call}": repr(call.parameters).encode() for call in double.calls.every if call.service != "s3"}
    status = whole.service.status(run.id)
    places |= {f"machine {one.id}": repr(one).encode() for one in status.machines}
    places["status"] = repr(status).encode()
    assert len(places) > 20
    found = [(where, form) for where, data in places.items() for form in forms(value) if form in data]
    assert found == []
