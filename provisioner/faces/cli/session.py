"""Settings, use cases and input for every command."""

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

#: Most bytes that are read; far more than a recipe may have, so that the reader of recipes reports the excess.
LARGEST = 1 << 20


def control(context: typer.Context) -> Control:
    """Return the use cases of the installation that command line or environment name: of a server, or of this host."""
    from provisioner import reach

    service = reach.server(streams.complain, settings=context.obj["settings"])
    if service is None:
        return opened(context)
    context.call_on_close(service.close)
    return service


def opened(context: typer.Context, kind: str = "command", journal: Journal | None = None) -> Control:
    """Return the use cases of this control host; raises Invalid if command line or environment name a server."""
    # Imported objects are never freed: the collector would only waste time on them, now and in later collections.
    gc.disable()
    from provisioner import wiring

    gc.freeze()
    gc.enable()
    service: Control = wiring.service(settings(context), kind, journal)
    context.call_on_close(service.close)
    return service


def settings(context: typer.Context) -> Any:
    """Return the loaded settings; raises Invalid if command line or environment name a server."""
    from provisioner import reach
    from provisioner.settings import load

    named = context.obj["settings"]
    reach.check_here(named)
    return load(named)


def journal(context: typer.Context, *, as_json: bool) -> Journal:
    """Return a journal on standard error: lines on a terminal, else JSON. `as_json`: JSON on standard output."""
    from provisioner import wiring

    seen = sys.stderr.isatty()
    colour = seen and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    made = wiring.journal(sys.stdout if as_json else sys.stderr, as_json=as_json or not seen, colour=colour)
    context.call_on_close(made.close)
    return made


def catch_up(service: Control) -> None:
    """Do one pass if no daemon acts, so that the command shows the current state."""
    if service.operator.served() or not service.operator.unfinished():
        return
    try:
        told: Sequence[str] = service.operator.step()
    except ProvisionError as error:
        told = [str(error)]
    for text in told:
        streams.complain(text)


def variables(pairs: Sequence[str] | None) -> Mapping[str, str]:
    """Return `NAME=VALUE` words as a mapping; the last value of a name is used. Raises Invalid."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise Invalid(f"--env {pair!r}: write NAME=VALUE")
        found[name] = value
    return found


def read_file(name: str) -> str:
    """Return the text of a file, or of standard input for `-`. Raises Invalid."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(LARGEST).decode()
        with open(name, "rb") as file:
            return file.read(LARGEST).decode()
    except OSError as error:
        raise Invalid(f"{name}: {error.strerror}") from error
    except ValueError as error:
        raise Invalid(f"{name!r}: not UTF-8 text") from error
