"""The command that runs the failed commands of a list again."""

from typing import Annotated

import typer

from provisioner.core.views.run import Run
from provisioner.faces.cli import session
from provisioner.faces.cli.commands.runs import RunName, started


def rerun(
    context: typer.Context,
    run: RunName,
    failed: Annotated[bool, typer.Option("--failed", help="The commands that failed or were lost.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also the commands that were cancelled or did not run.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key within 24 h returns the same run.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run's end, even if a daemon acts.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print the log while it is written, and wait for the run's end.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return at once, even if no daemon acts.")] = False,
    as_json: session.Json = False,
) -> int:
    """Run the failed commands of a run again.

    This starts a new run with the job, revision, variables and scale of the first one, which must have ended. Its
    commands are numbered from 0 again.
    """
    if not failed:
        raise typer.BadParameter("say which commands run again: give --failed", param_hint="--failed")
    if detach and (wait or follow):
        raise typer.BadParameter("cannot be combined with --wait or --follow", param_hint="--detach")
    if idempotency_key is not None and not idempotency_key.strip():
        raise typer.BadParameter(
            "the key is empty: give a key, or leave the option out", param_hint="--idempotency-key"
        )
    service = session.control(context)
    session.catch_up(service)
    id = session.run_id(service, run)

    def go() -> Run:
        return service.commands.rerun(id, idempotency_key or "", unfinished=unfinished)

    return started(service, go, wait=wait, follow=follow, detach=detach, as_json=as_json)
