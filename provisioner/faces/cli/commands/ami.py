"""Commands for the installation's own AMIs: ami bake, ami list, ami use, ami delete."""

from typing import Annotated, Any

import typer

from provisioner.core.views.codec import to_json
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.interrupts import interruptible
from provisioner.faces.cli.terminal import screen, streams
from provisioner.faces.cli.terminal.progress import Progress

app = typer.Typer(
    name="ami",
    help="Make AMIs with the agent and Docker images.",
    add_completion=False,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="AMI", help="An AMI's id, the beginning of its id, or its name.")]


@app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _amis(context: typer.Context) -> Any:
    """Return the use cases of AMIs, as `session.control` returns those of jobs and runs."""
    from provisioner import wiring

    amis = wiring.amis(session.settings(context))
    context.call_on_close(amis.close)
    return amis


@app.command()
def bake(
    context: typer.Context,
    base: Annotated[
        str, typer.Option(metavar="AMI", help="AMI to start from: an id or ssm:/path.  [default: the settings' image]")
    ] = "",
    preload: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE", help="Docker image to include; may be repeated.")
    ] = None,
    instance_type: Annotated[str, typer.Option("--type", metavar="T", help="The builder's type; it needs no GPU.")] = (
        "m6i.large"
    ),
    name: Annotated[str, typer.Option(metavar="N", help="The AMI's name.  [default: installation and time]")] = "",
    disk: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=16384,
            metavar="GIB",
            help="GiB of the AMI, and least disk of its machines.  [default: the base's; with --preload, disk_gib]",
        ),
    ] = None,
    as_json: session.Json = False,
) -> int:
    """Make an AMI that boots fast, with the agent and Docker images in it.

    This launches a builder machine, prepares it over SSH, makes the AMI and ends the machine. Ctrl-C ends it too.
    """
    from provisioner.service.ami.bake import BakeRequest
    from provisioner.service.ami.builder import Told

    amis = _amis(context)
    progress = Progress(amis.now)
    wish = BakeRequest(base, name, instance_type, tuple(preload or ()), disk)
    try:
        with interruptible():
            made = amis.bake(wish, Told(progress.step, progress.output))
    except KeyboardInterrupt:
        streams.say("interrupted: no AMI was made")
        return exits.DETACHED
    if as_json:
        screen.put_view(amis.show(made))
    else:
        streams.put(f"{made.id} ({made.name}) is made; use it for new launches: provision ami use {made.id}")
    return 0


@app.command("list")
def list_(context: typer.Context, as_json: session.Json = False) -> None:
    """List the AMIs of this installation, newest first."""
    amis = _amis(context)
    found = amis.list()
    if as_json:
        screen.put_view(found)
    else:
        screen.amis(found, amis.now())


@app.command()
def use(context: typer.Context, name: Name, as_json: session.Json = False) -> None:
    """Use an AMI for new launches; `default` returns to the AMI of the settings.

    A running daemon uses it from its next launch on.
    """
    amis = _amis(context)
    chosen = amis.use(name)
    if as_json:
        streams.put_json(to_json(chosen) if chosen else None)
    elif chosen is None:
        streams.put(f"new launches use {amis.default}, the AMI of the settings")
    else:
        streams.put(f"new launches use {chosen.id}; back to the AMI of the settings: provision ami use default")
        if not chosen.agent_current:
            streams.say("the AMI has an older agent, so machines fetch the present one at boot; a new AMI avoids that")


@app.command()
def delete(context: typer.Context, name: Name, as_json: session.Json = False) -> None:
    """Delete an AMI and its snapshots, unless new launches use it or a machine runs from it."""
    id = _amis(context).delete(name)
    if as_json:
        streams.put_json({"id": id})
    else:
        streams.put(f"{id} and its snapshots are deleted")
