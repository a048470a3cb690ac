"""Commands that enter the machine of a run: ssh, cp."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from provisioner.faces.cli import exits, session
from provisioner.faces.cli.commands.runs import RunName
from provisioner.faces.cli.terminal import screen, streams
from provisioner.faces.cli.terminal.interrupts import interruptible
from provisioner.ports.connection import Connection

Host = Annotated[bool, typer.Option("--host", help="The machine itself, as its root, not the job's container.")]


@contextlib.contextmanager
def _inside(context: typer.Context, run: str, *, host: bool) -> Iterator[Connection]:
    service = session.opened(context)
    session.catch_up(service)
    connection = service.operator.enter(run, host=host)
    try:
        yield connection
    finally:
        connection.close()


def ssh(
    context: typer.Context,
    run: RunName,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Its words as they are.  [default: a shell]")
    ] = None,
    host: Host = False,
) -> int:
    """Run a command, or a shell, in a run's container; the exit code is the command's.

    Machines can be entered where `open` under [ssh] in the settings says so.
    """
    from provisioner.faces.cli.terminal import remote_terminal

    try:
        with interruptible(), _inside(context, run, host=host) as connection:
            shown = remote_terminal.own()
            process = connection.start(command or (), shown)
            with remote_terminal.lent(process) if shown else contextlib.nullcontext():
                return process.attach(0, 1, 2)
    except KeyboardInterrupt:
        return exits.DETACHED


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A file or folder here, or RUN:PATH.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The other of the two.")],
    host: Host = False,
    as_json: session.Json = False,
) -> int:
    """Copy a file or folder from or to a run's container.

    An existing folder is copied into. A path that is not absolute begins in the job's working directory.
    """
    from provisioner.service.ssh_entry import copying

    here, there = _split(source), _split(target)
    if (here is None) == (there is None):
        raise typer.BadParameter("one of FROM and TO is RUN:PATH, the other a path here (./a:b for one with a colon)")
    try:
        with interruptible():
            if here:
                with _inside(context, here[0], host=host) as connection:
                    copied = copying.fetch(connection, here[1], Path(target))
            elif there:
                with _inside(context, there[0], host=host) as connection:
                    copied = copying.send(connection, Path(source), there[1])
    except KeyboardInterrupt:
        streams.say("interrupted: nothing is copied")
        return exits.DETACHED
    if copied.remark:
        streams.complain(copied.remark)
    if as_json:
        streams.put_json({"files": copied.files, "bytes": copied.size})
    else:
        streams.say(f"{copied.files} file{'' if copied.files == 1 else 's'}, {screen.size(copied.size)}")
    return 0


def _split(text: str) -> tuple[str, str] | None:
    """Return RUN and PATH if the text has a colon before any slash, as for scp(1), else None."""
    run, colon, path = text.partition(":")
    return (run, path) if colon and run and "/" not in run else None
