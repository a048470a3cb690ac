"""Commands for backups of the store: backup, restore."""

from typing import Annotated

import typer

from provisioner.core import units
from provisioner.core.views.codec import iso
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams


def backup(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="FILE|s3://BUCKET/KEY", help="Target; an existing file is replaced.")
    ],
    as_json: session.Json = False,
) -> None:
    """Write a backup of the store.

    The backup is one file. A daemon or server may keep running.

    The file contains jobs, schedules, tokens, runs, machines, and the secret of the SSH keys. Logs and receipts are in
    the bucket. Keep the file private: it contains the variables of jobs.
    """
    from provisioner import wiring

    size = wiring.backup(session.settings(context), target)
    if as_json:
        streams.put_json({"target": target, "bytes": size})
    else:
        streams.put(f"{target} has the backup, {units.size(size)}; restore it with: provision restore {target}")


def restore(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|s3://BUCKET/KEY", help="What `provision backup` wrote.")],
    as_json: session.Json = False,
) -> None:
    """Restore a backup on a host without a store.

    The restored store takes over the bucket.

    Processes that use the original store stop acting. Machines that work for runs of the backup are adopted. Machines
    of other runs are not adopted: they end by themselves, at their limits. The settings must name a store that does not
    exist yet.
    """
    from provisioner import wiring

    settings = session.settings(context)
    about = wiring.restore(settings, source)
    told = session.opened(context).operator.takeover()
    if as_json:
        streams.put_json({"made_at": iso(about.made_at), "mailboxes": list(told)})
        return
    streams.put(f"restored the store of {screen.date(about.made_at)}; it now owns the bucket")
    for line in told:
        streams.put(line)
    streams.put("start `provision daemon` or `provision serve` on this host only")
