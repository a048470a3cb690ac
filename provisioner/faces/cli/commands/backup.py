"""Commands for backups of the store: backup, restore."""

from typing import Annotated

import typer

from provisioner.core.views.codec import iso
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams


def backup(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="FILE|s3://BUCKET/KEY", help="Where to; a file is replaced.")],
    as_json: session.Json = False,
) -> None:
    """Copy the store, while a daemon or a server works, into one file.

    It has the jobs, schedules, tokens, runs and machines, and the secret of the SSH keys. Logs and receipts are in the
    bucket. Keep it private: the variables of jobs are in it.
    """
    from provisioner import wiring

    size = wiring.backup(session.settings(context), target)
    if as_json:
        streams.put_json({"target": target, "bytes": size})
    else:
        streams.put(f"{target} has the store, {screen.size(size)}; put it back: provision restore {target}")


def restore(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|s3://BUCKET/KEY", help="What `backup` wrote.")],
    as_json: session.Json = False,
) -> None:
    """Put a backup back as this host's store, and take the bucket over with it.

    The store that was backed up stops to act. Machines that work for runs of the backup are adopted; those of runs that
    it does not have are left to their own end. There must be no store yet where the settings name it.
    """
    from provisioner import wiring

    settings = session.settings(context)
    about = wiring.restore(settings, source)
    told = session.opened(context).operator.takeover()
    if as_json:
        streams.put_json({"made_at": iso(about.made_at), "mailboxes": list(told)})
        return
    streams.put(f"the store is as it was at {screen.date(about.made_at)}; the bucket is its own now")
    for line in told:
        streams.put(line)
    streams.put("start `provision daemon` or `provision serve` here, and nowhere else")
