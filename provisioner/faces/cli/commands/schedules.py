"""Commands for schedules: schedule, schedules."""

from typing import Annotated

import typer

from provisioner.core.errors import Invalid
from provisioner.faces.cli import session
from provisioner.faces.cli.names import JobName
from provisioner.faces.cli.terminal import screen, streams

#: Number of future times that are shown.
SHOWN = 5
NO_DAEMON = "no daemon acts: run `provision daemon` or `provision cron` to start scheduled runs"


def schedule(
    context: typer.Context,
    job: JobName,
    cron: Annotated[
        str, typer.Argument(metavar="[CRON]", help="Five cron fields, @daily and the like, or @every 4h; quoted.")
    ] = "",
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="Such as Europe/Berlin.  [default: the recipe's, UTC]")
    ] = "",
    policy: Annotated[
        str,
        typer.Option(metavar="Allow|Forbid|Replace", help="If its last run is unfinished.  [default: the recipe's]"),
    ] = "",
    catchup: Annotated[
        str, typer.Option(metavar="none|last|all", help="Missed times to start later.  [default: the recipe's]")
    ] = "",
    disable: Annotated[bool, typer.Option("--disable", help="Remove the schedule.")] = False,
    as_json: session.Json = False,
) -> None:
    """Set, show or remove a job's schedule.

    The schedule holds until it is set again, or until a recipe with a schedule is applied. `provision daemon` or
    `provision cron` starts the runs.
    """
    options = {"timezone": timezone, "concurrency_policy": policy, "schedule_catchup": catchup}
    given = {name: value for name, value in options.items() if value}
    if given and not cron:
        raise typer.BadParameter("give the schedule as well, such as '0 2 * * *'", param_hint="CRON")
    if disable and cron:
        raise Invalid("give either a schedule or --disable")
    service = session.control(context)
    if disable or cron:
        found = service.schedules.set(job, {"schedule": cron, **given} if cron else None)
    if disable:
        if as_json:
            screen.put_view(found)
        else:
            streams.put(f"{found.job}: schedule removed")
        return
    shown = service.schedules.get(job, SHOWN)
    if as_json:
        screen.put_view(shown)
    else:
        screen.schedule(shown)
    if not service.operator.served():
        streams.say(NO_DAEMON)


def schedules(context: typer.Context, as_json: session.Json = False) -> None:
    """List the schedules."""
    service = session.control(context)
    session.catch_up(service)
    found = service.schedules.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.schedules(found)
    if found and not service.operator.served():
        streams.say(NO_DAEMON)
