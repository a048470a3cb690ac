"""The command that lists the commands of a run."""

from itertools import islice
from typing import Annotated

import typer

from provisioner.core.views.commands import CommandState
from provisioner.faces.cli import session
from provisioner.faces.cli.names import RunName
from provisioner.faces.cli.terminal import screen, streams
from provisioner.ports.control.lists import PAGE, CommandFilter, every


def commands(
    context: typer.Context,
    run: RunName,
    state: Annotated[
        list[CommandState] | None,
        typer.Option(metavar="STATE", help=f"{', '.join(CommandState)}; may be repeated.  [default: all]"),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only commands that failed or were lost.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Only commands that run now.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000_000, help="Maximum number of commands.")] = 50,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print the job log of the ended commands, with the columns of GNU parallel.")
    ] = False,
    as_json: session.Json = False,
) -> None:
    """List the commands of a run.

    Only a run whose recipe has a list of commands has them. They are numbered from 0, in the order of the list;
    `logs --command` prints the output of one.
    """
    if csv:
        for name, given in (("--state", state), ("--failed", failed), ("--running", running), ("--json", as_json)):
            if given:
                raise typer.BadParameter("cannot be combined with --csv", param_hint=name)
        service = session.control(context)
        session.catch_up(service)
        for data in service.commands.csv(session.run_id(service, run)):
            streams.put_bytes(data)
        return
    chosen = [*(state or ())]
    chosen += [CommandState.FAILED, CommandState.LOST] if failed else []
    chosen += [CommandState.RUNNING] if running else []
    service = session.control(context)
    session.catch_up(service)
    id = session.run_id(service, run)
    # One more is read, to know whether there are more.
    which = CommandFilter(tuple(dict.fromkeys(chosen)), limit=min(limit + 1, PAGE))
    found = list(islice(every(service.commands, id, which), limit + 1))
    if as_json:
        screen.put_view(found[:limit])
        return
    if not found:
        streams.say("no command is in this state" if chosen else "no commands")
        return
    screen.commands(found[:limit])
    if len(found) > limit:
        streams.say(f"only the first {limit} are shown; --limit N shows more")
