"""What every command begins with: the settings, and the use cases behind them."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from provisioner.core.errors import Invalid, ProvisionError
from provisioner.faces.cli.terminal import streams
from provisioner.ports.control.control import Control
from provisioner.ports.journal import Journal

Json = Annotated[bool, typer.Option("--json", help="Print JSON; README.md lists what each command prints.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="For this run; wins over the recipe and over ours."),
]

#: Bytes; far more than a recipe may have, so that its reader is the one who says so.
LARGEST = 1 << 20


def control(context: typer.Context) -> Control:
    """The use cases of the installation that the command line or the environment names: a server's, or here."""
    from provisioner import reach

    service = reach.server(streams.complain, settings=context.obj["settings"])
    if service is None:
        return opened(context)
    context.call_on_close(service.close)
    return service


def opened(context: typer.Context, kind: str = "command", journal: Journal | None = None) -> Control:
    """The installation itself, which the control host alone has; raises Invalid where a server is meant."""
    # What is imported stays: nothing for the collector to find now, or to look at again ever after.
    gc.disable()
    from provisioner import wiring

    gc.freeze()
    gc.enable()
    service: Control = wiring.service(settings(context), kind, journal)
    context.call_on_close(service.close)
    return service


def settings(context: typer.Context) -> Any:
    """The settings that are meant; raises Invalid where a server is."""
    from provisioner import reach
    from provisioner.settings import load

    named = context.obj["settings"]
    reach.check_here(named)
    return load(named)


def journal(context: typer.Context, *, as_json: bool) -> Journal:
    """Lines on standard error for who sits before it, JSON where nobody does; `as_json`: on standard output, always."""
    from provisioner import wiring

    seen = sys.stderr.isatty()
    colour = seen and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    made = wiring.journal(sys.stdout if as_json else sys.stderr, as_json=as_json or not seen, colour=colour)
    context.call_on_close(made.close)
    return made


def catch_up(service: Control) -> None:
    """Without a daemon, each command does one pass first, so that what it shows is true."""
    if service.operator.served() or not service.operator.unfinished():
        return
    try:
        told: Sequence[str] = service.operator.step()
    except ProvisionError as error:
        told = [str(error)]
    for text in told:
        streams.complain(text)


def variables(pairs: Sequence[str] | None) -> Mapping[str, str]:
    """`NAME=VALUE` words as a mapping; the last of a name counts."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise Invalid(f"--env {pair!r}: write NAME=VALUE")
        found[name] = value
    return found


def read_file(name: str) -> str:
    """The text of a file, or of standard input for `-`."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(LARGEST).decode()
        with open(name, "rb") as file:
            return file.read(LARGEST).decode()
    except OSError as error:
        raise Invalid(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"{name!r}: not UTF-8 text") from error
