"""Secrets of a job, and a search for them in all data of an installation."""

import base64
import dataclasses
import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from provisioner.core.run.records import Run
from tests.e2e.rig import Rig

TOKEN = "hf_Zq8-n0t-T0-be+read/anywhere="
WILD = 'it\'s "quoted" \\ and é\tof <two> lines,\nthe second one & more'
KEY = (
    "-----BEGIN TEST KEY-----\n"
    + "\n".join(f"{number:02d}" + "bWFkZSBmb3IgYSB0ZXN0" * 3 for number in range(12))
    + "\n"
)
VALUES = (TOKEN, WILD, KEY)


def forms(text: str) -> Iterator[bytes]:
    """Yield each form of the value, and of each long line in it, that must not be found."""
    for part in {text, *(line for line in text.splitlines() if len(line) > 20)}:
        yield from writings(part)


def writings(text: str) -> Iterator[bytes]:
    data = text.encode()
    yield data
    yield from (quote(text).encode(), quote_plus(text).encode(), json.dumps(text)[1:-1].encode())
    yield from (base64.b64encode(data).rstrip(b"="), base64.urlsafe_b64encode(data).rstrip(b"="))


def everything(whole: Rig, *runs: Run) -> dict[str, bytes]:
    """Return the contents of bucket, store, machines and the control plane's requests, by place."""
    double = whole.double
    places = {f"s3 {key}": data for key, data in double.account.objects(double.bucket).items()}
    places |= {f"file {path.name}": path.read_bytes() for path in whole.folder.glob("store.db*")}
    for number, call in enumerate(double.calls.every):
        if call.service != "s3":
            places[f"call {number}: {call}"] = json.dumps(call.parameters, default=repr).encode()
        if call.action == "CreateLaunchTemplate":
            places[f"user-data {number}: {call}"] = base64.b64decode(call.parameters["LaunchTemplateData"]["UserData"])
    for run in runs:
        status = whole.service.runs.status(run.id)
        places[f"status {run.id}"] = json.dumps(dataclasses.asdict(status), default=str).encode()
        for machine in status.machines:
            places[f"console {machine.id}"] = whole.service.installation.cloud.console(machine.id).encode()
    return places


def found(places: Mapping[str, bytes], value: str) -> list[str]:
    return [where for where, data in places.items() if any(form in data for form in forms(value))]
