"""Command that lists machines: machines."""

from typing import Annotated

import typer

from provisioner.core.units import ago, duration
from provisioner.core.views.overview import Alive
from provisioner.faces.cli import session
from provisioner.faces.cli.terminal import screen, streams


def machines(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number of machines.")] = 50,
    as_json: session.Json = False,
) -> None:
    """List the machines that are not terminated.

    Silent machines come first, then machines with a notice of interruption, then the oldest ones. COST is what the
    machine costs so far, without its disk, and at most. An admin sees the machines of all owners.
    """
    service = session.control(context)
    session.catch_up(service)
    found = service.runs.machines(limit)
    if as_json:
        screen.put_view(found)
        return
    if not found.machines:
        streams.say("no machines")
    head = ("MACHINE", "TYPE", "ZONE", "STATE", "RUN", "JOB", "AGE", "ENDS WITHIN", "COST $", "HEARD")
    streams.table(head, [row(each, found.at) for each in found.machines])
    if found.more:
        streams.say(f"{found.more:,} more: add --limit")


def row(each: Alive, now: float) -> tuple[str, ...]:
    """Return the machine's cell for each column."""
    machine = each.machine
    return (
        machine.id,
        f"{'reserved' if machine.reservation else machine.market} {machine.type}",
        machine.zone,
        _state(each),
        each.run[:12] if each.run else "",
        f"{each.owner}/{each.job}" if each.job else "",
        duration(now - (machine.launch_time or each.bound_at)),
        duration(each.lifetime_ends_at - now) if each.lifetime_ends_at is not None else "?",
        "?" if each.dollars_at_most is None else f"{each.dollars_at_most:.4f}",
        ago(each.heard_at, now) if each.heard_at is not None else "",
    )


def _state(each: Alive) -> str:
    if each.silent_since is not None:
        return "silent"
    if each.notice_at is not None:
        return "interruption notice"
    if each.waits:
        return "waits for the next attempt"
    return str(each.state if each.state and not each.machine.ending else each.machine.state)
