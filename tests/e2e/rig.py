"""A complete installation against the double: light machines, the real agent, the real adapters."""

import contextlib
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest
import yaml

from provisioner import wiring
from provisioner.core.run.records import Run
from provisioner.ports.control.logs import LogPiece, LogQuery
from provisioner.rehearsal import scenario
from provisioner.rehearsal.aws.account import PROFILE
from provisioner.rehearsal.double import Double
from provisioner.rehearsal.machines.host import Guest, MachineHost
from provisioner.rehearsal.machines.light import LightHost
from provisioner.rehearsal.machines.virtual.qemu import GATEWAY, QemuHost
from provisioner.service.control import Service
from provisioner.settings import Rehearsal, Settings


class Named(Protocol):
    """A record or a view of a run."""

    @property
    def id(self) -> str: ...


class Rig:
    """A double and an installation that uses it as AWS."""

    #: Seconds until a wait fails; None for no limit.
    patience: float | None = None
    #: Seconds between two checks of a condition, which may read a whole log.
    pace: float = 0.0

    def __init__(self, double: Double, host: MachineHost, folder: Path, settings: Settings) -> None:
        self.double = double
        self.host = host
        self.folder = folder
        self.settings = settings
        self.service: Service = wiring.service(settings)

    def start(self, command: str | list[str], *, env: Mapping[str, str] | None = None, **spec: Any) -> Run:
        """Apply a new job with this command, or list of commands, start it and return its run."""
        name = spec.pop("name", f"job-{len(self.service.jobs.all())}")
        whole = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": command, **spec}
        self.service.jobs.apply(yaml.safe_dump({"type": "job", "spec": whole}), "the test's recipe")
        job = f"{spec['owner']}/{name}" if "owner" in spec else name
        return self.service.runs.record(self.service.runs.start(job, env or {}).id)

    def administrator(self) -> Any:
        """Return a client of EC2 that may change the account's network."""
        given = self.double.administrator_environment()
        keys = given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"]
        return boto3.Session(*keys, region_name=self.double.region).client("ec2", endpoint_url=self.double.url)

    def until(self, condition: Callable[[], bool]) -> None:
        """Run passes until the condition is true."""
        end = time.monotonic() + (self.patience or math.inf)
        due, holds = 0.0, False

        def met() -> bool:
            nonlocal due, holds
            if not holds and (now := time.monotonic()) >= due:
                due = now + self.pace
                self.double.check()
                assert now < end, f"not within {self.patience} s"
                holds = condition()
            return holds

        self.service.operator.drive(met)

    def done(self, *runs: Named) -> list[Run]:
        """Run passes until the runs are done: machines terminated and logs archived. Return the runs."""
        self.until(lambda: all(self.service.runs.record(run.id).done_at is not None for run in runs))
        return [self.service.runs.record(run.id) for run in runs]

    def log(self, run: Named, stream: str = "output", attempt: int | None = None, rank: int | None = None) -> bytes:
        pieces = self.service.logs.read(run.id, LogQuery((stream,), attempt, rank=rank))
        return b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece))


@contextlib.contextmanager
def rig(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    host: MachineHost | None = None,
    rehearsal: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    ailing: Callable[[Guest], Mapping[str, str]] = lambda _: {},
    disk: Callable[[Guest], int | None] = lambda _: None,
    own_networks: bool = True,
    **conditions: Any,
) -> Iterator[Rig]:
    """Yield a Rig.

    `conditions` are the fields of a scenario file; `ailing`, `disk` and `own_networks` are arguments of LightHost.
    """
    told = scenario.parse({"boot_delay": "0s", "end_delay": "0s", **conditions})
    folder.mkdir(parents=True, exist_ok=True)
    host = host or LightHost(
        folder / "machines",
        gpus=lambda name: double.gpus(name),
        environment=lambda guest: {"PROVISION_NOTICE_INTERVAL": "0.2", **ailing(guest)},
        disk=disk,
        own_networks=own_networks,
    )
    # Each profile of the settings exists in the account.
    profiles = dict.fromkeys((PROFILE, *(settings or {}).get("profiles", {}).values()))
    with Double(told, host, installation="test", profiles=tuple(profiles)) as double:
        for name, value in double.environment().items():
            monkeypatch.setenv(name, value)
        virtual: dict[str, Any] = {}
        if isinstance(host, QemuHost):
            url = double.url.replace("127.0.0.1", GATEWAY)
            # An emulated guest needs the processor more than the control loop.
            virtual = {"machine_endpoint": url, "engine": "container", "busy_interval": 0.5}
            if host.ssh_port:
                settings = {"ssh": {"port": host.ssh_port}, **(settings or {})}
        known = Settings(
            installation=double.installation,
            region=double.region,
            bucket=double.bucket,
            subnets=tuple(double.account.subnets),
            store=folder / "store.db",
            owner="tester",
            rehearsal=Rehearsal(endpoint=double.url, **{"busy_interval": 0.1, **virtual, **(rehearsal or {})}),
            **(settings or {}),
        )
        whole = Rig(double, host, folder, known)
        try:
            yield whole
        finally:
            whole.service.close()


def make_repository(folder: Path, *, large: int = 0) -> Path:
    """Make a git repository with one file, a branch `side` and a tag `v1`; `large` adds a file of random bytes."""
    folder.mkdir()

    def git(*words: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)

    git("init", "--initial-branch=main")
    (folder / "greet.py").write_text("print('hello from the repository')\n")
    if large:
        (folder / "large").write_bytes(os.urandom(large))
    git("add", "--all")
    git("commit", "--message", "first")
    git("tag", "v1")
    git("branch", "side")
    return folder
