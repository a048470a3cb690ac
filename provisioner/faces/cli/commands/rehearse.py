"""Command that runs the whole system against the EC2 double, on this computer and without cost: rehearse."""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioner.core.views.codec import to_json
from provisioner.core.views.log import data_view
from provisioner.faces.cli import background, exits, session
from provisioner.faces.cli.interrupts import ASKING, interruptible
from provisioner.faces.cli.terminal import log, outcomes, screen, streams
from provisioner.faces.cli.terminal.waiting import wait_for
from provisioner.ports.control.control import Control

#: A bucket beside those of the scenario: jobs may use it, and its objects are shown at the end.
CHECKPOINTS = "rehearsal-checkpoints"


class Sandbox(StrEnum):
    """How a rehearsed job is isolated from this computer's files."""

    FOLDER = "folder"
    MISSING = "missing"
    UNWANTED = "unwanted"
    CONTAINER = "container"
    MACHINE = "machine"
    WORDS = "words"


#: The first line of a rehearsal. Users need it, because the sandbox, and so the behaviour of a recipe, may differ
#: between computers.
WRITES = {
    Sandbox.FOLDER: "sandbox (bubblewrap): jobs can read this computer's files, and write only in the machine's folder",
    Sandbox.MISSING: "no sandbox: jobs can write every file that you can write; install bubblewrap to prevent that",
    Sandbox.UNWANTED: "no sandbox (--no-sandbox): jobs can write every file that you can write",
    Sandbox.CONTAINER: "containers: jobs can write only in their container and their machine's folder",
    Sandbox.MACHINE: "virtual machines: jobs can neither read nor write this computer's files",
    Sandbox.WORDS: "scripted machines: no job is executed",
}

#: The default scenario: prices in dollars per hour, and per GiB of disk and month. With these prices, receipts have a
#: sum.
PRICES = {
    "prices": [{"market": "spot", "dollars": 0.50}, {"market": "on-demand", "dollars": 1.20}],
    "disk": {"gib": 0.08},
}

SETTINGS = """\
# Made by `provision rehearse`: the double is this installation's cloud.
installation = "{installation}"
region = "{region}"
{made}store = {store}
owner = "rehearsal"
checkpoint_url = "s3://{checkpoints}/"

[rehearsal]
endpoint = "{url}"
machine_endpoint = "{machine_url}"
engine = "{engine}"

[ssh]
open = {open}
port = {ssh_port}
"""


def rehearse(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Recipe in YAML or JSON; - reads standard input.")
    ] = None,
    env: session.Env = None,
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="What the double holds and does: `provision docs scenarios`.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the double up for other commands, until Ctrl-C.")
    ] = False,
    in_background: Annotated[
        bool, typer.Option("--background", help='Keep the double up as long as this shell: eval "$(…)".')
    ] = False,
    end: Annotated[bool, typer.Option("--end", help="End the double that this shell uses.")] = False,
    detached: Annotated[bool, typer.Option("--in-background", hidden=True)] = False,
    machine: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="light (processes), qemu (virtual machines) or scripted (no job is executed).",
        ),
    ] = None,
    docker: Annotated[
        bool, typer.Option("--docker", help="Run jobs of light machines in containers, on the engine at DOCKER_HOST.")
    ] = False,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="Let jobs of light machines write every file that you can write.")
    ] = False,
    shared_network: Annotated[
        bool,
        typer.Option("--shared-network", help="Let light machines of one run share this computer's network and ports."),
    ] = False,
    as_json: session.Json = False,
) -> int:
    """Run a recipe on this computer, without AWS.

    This starts the double, applies the recipe, starts a run, prints its log and its receipt, and stops the double. The
    first line shows which files the job can write: with bubblewrap installed, only those in its machine's folder.

    The exit code is the process's own, also after a stop or a limit; it is 0 only if the run succeeded.
    """
    if [recipe is not None, serve, in_background, end].count(True) != 1:
        raise typer.BadParameter("give one of RECIPE, --serve, --background and --end")
    if env and recipe is None:
        raise typer.BadParameter(
            "is only for a RECIPE: a run started with `provision start` has its own", param_hint="--env"
        )
    if as_json and (in_background or end):
        raise typer.BadParameter("cannot be combined with --background or --end", param_hint="--json")
    if end:
        return background.end()
    if in_background:
        options = _options(scenario, machine, docker=docker, no_sandbox=no_sandbox, shared_network=shared_network)
        return background.begin(options)
    text = session.read_file(recipe) if recipe else ""
    variables = session.variables(env)
    try:
        cloud = _cloud(scenario, machine, docker, no_sandbox, shared_network)
        with interruptible(), cloud as (double, folder, sandbox):
            streams.say(WRITES[sandbox])
            if not serve:
                os.environ.update(double.environment())
                return _run(double, folder, sandbox, text, recipe or "", variables, as_json=as_json)
            _serve(double, folder, sandbox, as_json=as_json, in_background=detached)
            code = 0
    except KeyboardInterrupt:
        code = 0 if serve else exits.DETACHED
    streams.say("the double is down, and nothing of it is left")
    return code


@contextlib.contextmanager
def _cloud(
    scenario: str | None, machine: str | None, docker: bool, no_sandbox: bool, shared_network: bool
) -> Iterator[tuple[Any, Path, Sandbox]]:
    with session.extra("rehearsal"):
        from provisioner.rehearsal import scenario as scenarios
        from provisioner.rehearsal.double import Double
        from provisioner.rehearsal.machines.life import Life
        from provisioner.rehearsal.machines.virtual.qemu import GATEWAY
    # A signal between mkdtemp and `try`, or during the removal, would leave the folder behind.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    folder = Path(tempfile.mkdtemp(prefix="provision-rehearsal."))
    # This process removes the folder even if the rehearsal is killed.
    held = Life(folder, (), {}, lambda: None)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        told = scenarios.load(Path(scenario)) if scenario else scenarios.parse(PRICES)
        told = dataclasses.replace(told, buckets={CHECKPOINTS: {}, **told.buckets})
        kind = _kind(machine, told, docker)
        ssh_port = _free_port()
        for option, given in (("--no-sandbox", no_sandbox), ("--shared-network", shared_network)):
            if given and kind != "light":
                raise typer.BadParameter(f"{option} is only for light machines, and these are {kind}")
        host = _host(
            kind,
            told,
            folder / "machines",
            docker,
            gpus=lambda name: double.gpus(name),
            ssh_port=ssh_port,
            sandbox=not no_sandbox,
            own_networks=not shared_network,
        )
        with Double(told, host) as double:
            bucket = f"{double.bucket}/{double.prefix}".rstrip("/")
            text = SETTINGS.format(
                installation=double.installation,
                region=double.region,
                # `provision setup` adds these lines if the account is empty. A JSON string or list is TOML as well.
                made=""
                if told.empty
                else f'bucket = "{bucket}"\nsubnets = {json.dumps(list(double.account.subnets))}\n',
                store=json.dumps(str(folder / "store.db")),
                checkpoints=CHECKPOINTS,
                url=double.url,
                machine_url=double.url.replace("127.0.0.1", GATEWAY) if kind == "qemu" else "",
                engine="container" if docker or kind == "qemu" else "process",
                # The other kinds of machines have no sshd.
                open=json.dumps(kind == "qemu"),
                ssh_port=ssh_port,
            )
            (folder / "settings.toml").write_text(text)
            yield double, folder, Sandbox.CONTAINER if docker else _sandbox(kind, host, no_sandbox)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
        held.end()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kind(machine: str | None, told: Any, docker: bool) -> str:
    from provisioner.rehearsal.scenario import Kind

    try:
        kind = Kind(machine) if machine else told.machine
    except ValueError as error:
        raise typer.BadParameter(
            f"{machine!r} is not a kind of machine: use {', '.join(Kind)}", param_hint="--machine"
        ) from error
    if docker and kind is not Kind.LIGHT:
        raise typer.BadParameter(f"--docker is only for light machines, and these are {kind}")
    return str(kind)


def _sandbox(kind: str, host: Any, no_sandbox: bool) -> Sandbox:
    if kind != "light":
        return Sandbox.MACHINE if kind == "qemu" else Sandbox.WORDS
    if no_sandbox:
        return Sandbox.UNWANTED
    return Sandbox.FOLDER if host.sandboxed else Sandbox.MISSING


def _free_port() -> int:
    """Return a port at which no program of this computer listens, on any of its loopback addresses."""
    with socket.create_server(("", 0)) as free:
        return int(free.getsockname()[1])


def _host(
    kind: str,
    told: Any,
    folder: Path,
    docker: bool,
    gpus: Callable[[str], int],
    ssh_port: int,
    sandbox: bool,
    own_networks: bool,
) -> Any:
    if kind == "qemu":
        from provisioner.rehearsal.machines.virtual.image import image
        from provisioner.rehearsal.machines.virtual.qemu import QemuHost

        return QemuHost(folder, image(streams.say), gpus=gpus, ssh_port=ssh_port)
    if kind == "scripted":
        from provisioner.rehearsal.machines.scripted import ScriptedHost

        return ScriptedHost(told.scripts)
    from provisioner.rehearsal.machines.light import LightHost

    return LightHost(folder, docker=docker, gpus=gpus, sandbox=sandbox, own_networks=own_networks)


def _run(
    double: Any, folder: Path, sandbox: Sandbox, text: str, source: str, env: Mapping[str, str], *, as_json: bool
) -> int:
    from provisioner import wiring
    from provisioner.settings import load

    service = wiring.service(load(str(folder / "settings.toml")))
    try:
        job = service.jobs.apply(text, source)
        streams.say(f"rehearsing {job.owner}/{job.name} on a double of EC2: nothing is bought")
        run = service.runs.start(f"{job.owner}/{job.name}", env)
        with streams.going_on("the rehearsal continues"):
            log.follow(service, run.id, aside=as_json)
        # The receipt is final once the machine is listed as terminated.
        service.operator.drive(lambda: service.runs.get(run.id).done_at is not None)
        with streams.going_on("the exit code is correct"):
            _tell(service, double, run.id, sandbox, as_json=as_json)
        return wait_for(service, [run.id], followed=True, exit_code=outcomes.of_rehearsal)
    finally:
        service.close()


def _tell(service: Control, double: Any, run: str, sandbox: Sandbox, *, as_json: bool) -> None:
    written, receipt = double.written(), service.runs.receipt(run)
    alive = [one.id for one in double.alive()]
    if as_json:
        objects = {key: to_json(data_view(data)) for key, data in written.items()}
        shown = {"run": to_json(service.runs.get(run)), "receipt": to_json(receipt)}
        streams.put_json({**shown, "objects": objects, "alive": alive, "sandbox": sandbox})
        return
    for key, data in written.items():
        streams.put()
        streams.put(f"{key}:")
        streams.put_text(data[:2000])
    streams.put()
    screen.receipt(receipt)
    streams.put()
    streams.put(f"machines alive: {', '.join(alive) or 'none'}")


def _options(
    scenario: str | None, machine: str | None, *, docker: bool, no_sandbox: bool, shared_network: bool
) -> list[str]:
    return [
        *(("--scenario", scenario) if scenario else ()),
        *(("--machine", machine) if machine else ()),
        *(("--docker",) if docker else ()),
        *(("--no-sandbox",) if no_sandbox else ()),
        *(("--shared-network",) if shared_network else ()),
    ]


def _serve(double: Any, folder: Path, sandbox: Sandbox, *, as_json: bool, in_background: bool) -> None:
    environment = {**double.environment(), "PROVISION_SETTINGS": str(folder / "settings.toml")}
    held = background.Held(folder, environment)
    if as_json:
        streams.put_json({"environment": environment, "sandbox": sandbox})
    else:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
    if in_background:
        # The parent process reads standard output until its end, so close it.
        streams.discard_output()
    else:
        streams.say("the double is up; paste these lines into another terminal. Ctrl-C ends it")
    held.wait(in_background=in_background)
