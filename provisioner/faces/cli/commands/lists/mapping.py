"""The command `map`: it reads or makes a list of commands, and starts a run of this list."""

import sys
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from provisioner.core import units
from provisioner.core.commands.templates import Product
from provisioner.core.views.run import Run
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.commands.runs import Detach, Follow, Key, Scale, Wait, check_start, started
from provisioner.faces.cli.interrupts import interruptible
from provisioner.faces.cli.names import JobName
from provisioner.faces.cli.terminal import screen, streams
from provisioner.faces.lists.estimating import estimated
from provisioner.faces.lists.making import check, from_each, from_lines, from_objects, urls_below


def map_list(
    context: typer.Context,
    job: JobName,
    commands: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A command, or a value for {}, on each line; - reads standard input."),
    ] = None,
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V,V...", help="Values of a variable; repeat it for all combinations."),
    ] = None,
    over: Annotated[
        str | None, typer.Option(metavar="URL", help="Objects below s3://BUCKET/PREFIX: their URLs are the values.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="LINE", help="Command, in place of the recipe's; {} is the value, {#} a number from 1."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start nothing; check all commands, and show what they need.")
    ] = False,
    env: session.Env = None,
    scale: Scale = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    follow: Follow = False,
    detach: Detach = False,
    as_json: session.Json = False,
) -> int:
    """Start a run of a list of commands.

    The commands are the lines of a file. Or the template, or the recipe's own command, runs once for each line of a
    file, each object in a bucket, or each combination of the values of variables. Up to `scale` machines work through
    the list, and each runs `nprocs` commands at once.
    """
    if [commands is not None, bool(each), over is not None].count(True) != 1:
        raise typer.BadParameter("give one of --commands, --each and --over")
    check_start(idempotency_key, wait=wait, follow=follow, detach=detach)
    for name, given in (("--wait", wait), ("--follow", follow), ("--detach", detach)):
        if dry_run and given:
            raise typer.BadParameter("cannot be combined with --dry-run", param_hint=name)
    product = Product(each or ())
    variables = session.variables(env)
    service = session.control(context)
    found = service.jobs.get(job)
    check(found)
    if each:
        made = from_each(found, product, template)
    elif over is not None:
        made = from_objects(found, urls_below(over), template)
    else:
        made = from_lines(found, session.pieces(commands or ""), template)
    if dry_run:
        estimate = estimated(service, found, made, scale)
        if as_json:
            screen.put_view(estimate)
        else:
            screen.estimate(estimate)
            streams.say("nothing was started: run the command again without --dry-run")
        return 0
    try:
        with interruptible():
            upload = service.uploads.add(_shown(made.pieces), found.owner, null=made.null)
    except KeyboardInterrupt:
        streams.say("interrupted before the run was started")
        return exits.DETACHED
    streams.say(f"{upload.commands:,} command{'' if upload.commands == 1 else 's'} uploaded")

    def go() -> Run:
        return service.runs.start(job, variables, None, idempotency_key or "", scale, upload.id)

    return started(service, go, wait=wait, follow=follow, detach=detach, as_json=as_json)


def _shown(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, and show their size on a terminal."""
    size, live = 0, sys.stderr.isatty()
    try:
        for piece in pieces:
            yield piece
            size += len(piece)
            if live:
                streams.draw(f"{streams.ERASE}{units.size(size)} uploaded")
    finally:
        if live:
            streams.draw(streams.ERASE)
