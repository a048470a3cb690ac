"""Commands for schedules: schedule, schedules."""

from typing import Annotated

import typer

from provisioner.core.errors import Invalid
from provisioner.faces.cli import session
from provisioner.faces.cli.commands.jobs import JobName
from provisioner.faces.cli.terminal import screen, streams

#: Number of future times that are shown.
SHOWN = 5


def schedule(
    context: typer.Context,
    job: JobName,
    cron: Annotated[
        str, typer.Argument(metavar="[CRON]", help="Five fields, @daily and the like, or @every 4h; quoted.")
    ] = "",
    timezone: Annotated[str, typer.Option(metavar="TZ", help="IANA's name.  [default: the recipe's, UTC]")] = "",
    policy: Annotated[
        str, typer.Option(metavar="Allow|Forbid|Replace", help="While the last is not over.  [default: the recipe's]")
    ] = "",
    catchup: Annotated[
        str, typer.Option(metavar="none|last|all", help="What nobody started in time.  [default: the recipe's]")
    ] = "",
    disable: Annotated[bool, typer.Option("--disable", help="No more of it.")] = False,
    as_json: session.Json = False,
) -> None:
    """Let a job start by itself, or see when it will.

    It stands until the next one, or until a recipe that has a schedule is applied. `provision daemon` does the
    starting, or `provision cron`.
    """
    options = {"timezone": timezone, "concurrency_policy": policy, "schedule_catchup": catchup}
    given = {name: value for name, value in options.items() if value}
    if given and not cron:
        raise typer.BadParameter("write the schedule, too", param_hint="CRON")
    if disable and cron:
        raise Invalid("either a schedule or --disable")
    service = session.control(context)
    if disable or cron:
        found = service.schedules.set(job, {"schedule": cron, **given} if cron else None)
    if disable:
        if as_json:
            screen.put_view(found)
        else:
            streams.put(f"{found.job} starts by triggers alone now")
        return
    shown = service.schedules.get(job, SHOWN)
    if as_json:
        screen.put_view(shown)
    else:
        screen.schedule(shown)
    if not service.operator.served():
        streams.say("no daemon is acting: `provision daemon` starts what is due, or `provision cron`")


def schedules(context: typer.Context, as_json: session.Json = False) -> None:
    """List the schedules, each with its last and its next time."""
    service = session.control(context)
    session.catch_up(service)
    found = service.schedules.all()
    if as_json:
        screen.put_view(found)
    else:
        screen.schedules(found)
    if found and not service.operator.served():
        streams.say("no daemon is acting: `provision daemon` starts what is due, or `provision cron`")
