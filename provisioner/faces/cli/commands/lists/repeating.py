"""The command that runs the failed commands of a list again."""

from typing import Annotated

import typer

from provisioner.core.views.run import Run
from provisioner.faces.cli import session
from provisioner.faces.cli.commands.runs import Detach, Follow, Key, Wait, check_start, started
from provisioner.faces.cli.names import RunName


def rerun(
    context: typer.Context,
    run: RunName,
    failed: Annotated[bool, typer.Option("--failed", help="The commands that failed or were lost.")] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also the commands that were cancelled or did not run.")
    ] = False,
    idempotency_key: Key = None,
    wait: Wait = False,
    follow: Follow = False,
    detach: Detach = False,
    as_json: session.Json = False,
) -> int:
    """Run the failed commands of a run again.

    This starts a new run with the job, revision, variables and scale of the first one, which must have ended. Its
    commands are numbered from 0 again.
    """
    if not failed:
        raise typer.BadParameter("say which commands run again: give --failed", param_hint="--failed")
    check_start(idempotency_key, wait=wait, follow=follow, detach=detach)
    service = session.control(context)
    session.catch_up(service)
    id = session.run_id(service, run)

    def go() -> Run:
        return service.commands.rerun(id, idempotency_key or "", unfinished=unfinished)

    return started(service, go, wait=wait, follow=follow, detach=detach, as_json=as_json)
