"""Commands that act by themselves: daemon, cron, reap, takeover."""

import signal
from collections.abc import Callable, Sequence

import typer

from provisioner.core.errors import ProvisionError
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.terminal import streams
from provisioner.ports.control.control import Control


def daemon(context: typer.Context, as_json: session.Json = False) -> int:
    """Act until stopped: launch, watch, end, reap, and start what schedules make due.

    A second one stands by, and takes over when the first is gone. What happens is told on standard error: as
    lines on a terminal, as a JSON object a line elsewhere. With --json it is JSON, on standard output.
    """
    journal = session.journal(context, as_json=as_json)
    service = session.opened(context, "daemon", journal)
    stopping = _stopping(service)
    another = service.operator.served()
    begin = "another daemon acts: standing by to take over" if another else "acting; Ctrl-C ends this, no run"
    journal.tell(begin, service.operator.now())

    def acted(_: Sequence[str]) -> None:
        nonlocal another
        if another:
            another = False
            journal.tell("acting now: the other daemon is gone", service.operator.now())

    try:
        service.operator.drive(stopping, acted, schedules=True)
    except ProvisionError as error:
        journal.complain(str(error), service.operator.now())
        return exits.of_error(error)
    journal.tell("stopped; what runs goes on", service.operator.now())
    return 0


def cron(context: typer.Context, as_json: session.Json = False) -> int:
    """Start what is due by schedules, and nothing else.

    For those who act elsewhere. A daemon does this, too; any number of either start each time once. What happens is
    told as by `daemon`.
    """
    journal = session.journal(context, as_json=as_json)
    service = session.opened(context, "cron", journal)
    stopping = _stopping(service)
    journal.tell("starting what schedules make due; Ctrl-C ends this, no run", service.operator.now())
    service.operator.ring(stopping)
    journal.tell("stopped; schedules wait", service.operator.now())
    return 0


def _stopping(service: Control) -> Callable[[], bool]:
    """Handle the signals that ask this process to end; return a function that returns whether one has arrived."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        service.wake()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    return lambda: stopped


def reap(context: typer.Context, as_json: session.Json = False) -> int:
    """End every machine that has outlived its lifetime.

    Needs the settings alone, no store: it may run on another host, from a timer. What it does is told as by `daemon`.
    """
    from provisioner import wiring

    settings = session.settings(context)
    reaped = wiring.reap(settings, None if as_json else session.journal(context, as_json=False))
    if as_json:
        streams.put_json(
            [
                {"id": each.machine.id, "over_by": each.over_by, "error": str(each.error) if each.error else None}
                for each in reaped
            ]
        )
    return exits.CLOUD if any(each.error for each in reaped) else 0


def takeover(context: typer.Context, as_json: session.Json = False) -> None:
    """Make the bucket this store's, after the other store was lost.

    What the other store's machines left is archived; those still at work are left to their own end.
    """
    told = session.opened(context).operator.takeover()
    if as_json:
        streams.put_json({"mailboxes": list(told)})
        return
    for line in told:
        streams.put(line)
    streams.put("the bucket is this store's now; machines it does not know are left to their own end")
