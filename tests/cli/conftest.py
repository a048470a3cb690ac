"""The command line in this process, against the double with scripted machines."""

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from provisioner.faces.cli import main
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.script import CommandScript, Script
from provisioner.rehearsal.machines.scripted import ScriptedHost
from provisioner.rehearsal.scenario import parse
from tests.e2e.commands import settings_file
from tests.e2e.elsewhere import served
from tests.e2e.rig import Rig, rig

SCRIPTS = (
    Script(job="bad", command=0.1, exit_code=3),
    Script(command=0.1, output=100, commands=CommandScript(seconds=0.1, fails=frozenset({1, 3}), output=50)),
)
CONDITIONS: dict[str, Any] = {
    "prices": [{"market": "spot", "dollars": 1.0}],
    "capacity": [{"type": "p4d.24xlarge", "machines": 0}, {"type": "g6.xlarge", "machines": 0}],
}


@dataclass(frozen=True)
class Done:
    """The exit code and output of a command."""

    code: int
    out: bytes
    err: str

    @property
    def last_line(self) -> str:
        return self.err.rstrip().rpartition("\n")[2]


Provision = Callable[..., Done]


#: For tests of commands that only the control host has.
HERE = pytest.mark.parametrize("whole", ["here"], indirect=True)


@pytest.fixture(scope="module", params=["here", "elsewhere"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Yield an installation that commands open directly ("here") or through a server ("elsewhere")."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch, host=ScriptedHost(SCRIPTS), **CONDITIONS) as whole:
        if request.param == "elsewhere":
            with served(whole, patch):
                yield whole
        else:
            patch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
            yield whole


@pytest.fixture
def provision(capsysbinary: pytest.CaptureFixture[bytes]) -> Provision:
    def run(*words: str) -> Done:
        code = main.run(list(words))
        out, err = capsysbinary.readouterr()
        return Done(code, out, err.decode())

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a recipe's file and returns its path."""

    def write(name: str, **spec: Any) -> str:
        path = tmp_path / f"{name}.yaml"
        whole = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": "true", **spec}
        path.write_text(yaml.safe_dump({"type": "job", "spec": whole}))
        return str(path)

    return write


BUCKET = "provision-gpu-jobs-123456789012-us-east-2"
STACK = "provision-gpu-jobs"


class Empty:
    """A double with an empty account, and the settings file that `init` has written."""

    def __init__(self, double: Double, path: Path) -> None:
        self.double, self.path = double, path

    def client(self, service: str) -> Any:
        make: Any = boto3.Session().client
        return make(service)

    @property
    def settings(self) -> dict[str, Any]:
        return tomllib.loads(self.path.read_text())

    def put(self, text: str) -> None:
        """Put lines before the table of the rehearsal."""
        self.path.write_text(self.path.read_text().replace("\n[rehearsal]", f"\n{text}\n[rehearsal]"))

    def status(self) -> str:
        [stack] = self.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
        return str(stack["StackStatus"])

    def events(self, status: str) -> set[str]:
        found = self.client("cloudformation").describe_stack_events(StackName=STACK)["StackEvents"]
        return {one["ResourceType"] for one in found if one["ResourceStatus"] == status}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provision: Provision) -> Iterator[Empty]:
    told = {"account": "empty", "boot_delay": "0s", "end_delay": "0s"}
    host = ScriptedHost((Script(job="long", command=600), Script(command=0.1, output=100)))
    with ExitStack() as stack:
        double = stack.enter_context(Double(parse(told), host, installation="gpu-jobs", region="us-east-2"))
        for name, value in double.environment().items():
            monkeypatch.setenv(name, value)
        path = tmp_path / "settings.toml"
        monkeypatch.setenv("PROVISION_SETTINGS", str(path))
        done = provision("init", "--file", str(path), "--region", "us-east-2")
        assert done.last_line == "next: provision setup, then provision check"
        group = {"endpoint": double.url, "busy_interval": 0.05}
        lines = [f"{name} = {json.dumps(value)}" for name, value in group.items()]
        path.write_text("\n".join([path.read_text(), f'store = "{tmp_path}/store.db"', "", "[rehearsal]", *lines, ""]))
        yield Empty(double, path)
