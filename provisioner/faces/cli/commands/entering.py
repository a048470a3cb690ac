"""Commands that enter the machine of a run: ssh, cp."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from provisioner.core import units
from provisioner.core.errors import Invalid
from provisioner.faces.cli import exits, names, session
from provisioner.faces.cli.interrupts import interruptible
from provisioner.faces.cli.names import RunName
from provisioner.faces.cli.terminal import streams
from provisioner.ports.connection import Connection

Host = Annotated[bool, typer.Option("--host", help="Connect to the machine as root, not to the container.")]
Rank = Annotated[int, typer.Option(min=0, metavar="N", help="The machine of rank N.")]


@contextlib.contextmanager
def _inside(context: typer.Context, run: str, rank: int, *, host: bool) -> Iterator[Connection]:
    service, known = session.opened(context), session.settings(context)
    if known.rehearsal and not known.ssh.open:
        raise Invalid("the light machines of a rehearsal cannot be entered: rehearse with `--machine qemu`")
    session.catch_up(service)
    connection = service.operator.enter(session.run_id(service, run), rank=rank, host=host)
    try:
        yield connection
    finally:
        connection.close()


def ssh(
    context: typer.Context,
    run: RunName,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="Command, passed without a shell.  [default: a shell]"),
    ] = None,
    rank: Rank = 0,
    host: Host = False,
) -> int:
    """Open a shell in a run's container, or run a command.

    The exit code is that of the command. The machine accepts SSH only if it was launched with `open = true` under [ssh]
    in the settings.
    """
    from provisioner.faces.cli.terminal import remote_terminal

    try:
        with interruptible(), _inside(context, run, rank, host=host) as connection:
            shown = remote_terminal.own()
            process = connection.start(command or (), shown)
            with remote_terminal.lent(process) if shown else contextlib.nullcontext():
                return process.attach(0, 1, 2)
    except KeyboardInterrupt:
        return exits.DETACHED


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A local path, or RUN:PATH.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="RUN:PATH if FROM is local, else a local path.")],
    rank: Rank = 0,
    host: Host = False,
    as_json: session.Json = False,
) -> int:
    """Copy files from or to a run's container.

    If TO is an existing folder, the copy is placed in it. A relative PATH begins in the job's working directory.
    """
    from provisioner.service.ssh_entry import copying

    here, there = _split(source), _split(target)
    if (here is None) == (there is None):
        raise typer.BadParameter(
            "exactly one of FROM and TO must be RUN:PATH; write ./a:b for a local path with a colon"
        )
    try:
        with interruptible():
            if here:
                with _inside(context, here[0], rank, host=host) as connection:
                    copied = copying.fetch(connection, here[1], Path(target))
            elif there:
                with _inside(context, there[0], rank, host=host) as connection:
                    copied = copying.send(connection, Path(source), there[1])
    except KeyboardInterrupt:
        streams.say("interrupted: nothing was copied")
        return exits.DETACHED
    if copied.remark:
        streams.complain(copied.remark)
    if as_json:
        streams.put_json({"files": copied.files, "bytes": copied.size})
    else:
        streams.say(f"{copied.files} file{'' if copied.files == 1 else 's'}, {units.size(copied.size)}")
    return 0


def _split(text: str) -> tuple[str, str] | None:
    """Return RUN and PATH if the text has a colon before any slash, as for scp(1), or begins with an address."""
    if names.is_address(text):
        address, _, path = text.rpartition(":")
        # Only a colon after the host is the end of the address.
        return (names.run(address), path) if address.count("/") > 2 else None
    run, colon, path = text.partition(":")
    return (run, path) if colon and run and "/" not in run else None
