"""Commands that act by themselves: daemon, cron, reap, takeover."""

import signal
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from provisioner.core.errors import ProvisionError
from provisioner.faces.cli import exits, session
from provisioner.faces.cli.terminal import streams
from provisioner.ports.control.control import Control


def daemon(context: typer.Context, as_json: session.Json = False) -> int:
    """Run the control plane.

    It launches runs, watches and ends their machines, and starts jobs by their schedules, until it is stopped. A second
    daemon stands by, and takes over when the first one ends. The journal goes to standard error: lines on a terminal,
    else a JSON object on each line. With --json it is JSON on standard output.
    """
    journal = session.journal(context, as_json=as_json)
    service = session.opened(context, "daemon", journal)
    stopping = _stopping(service)
    another = service.operator.served()
    begin = (
        "another daemon acts: standing by to take over"
        if another
        else "acting; Ctrl-C stops the daemon, and runs continue"
    )
    journal.tell(begin, service.operator.now())

    def acted(_: Sequence[str]) -> None:
        nonlocal another
        if another:
            another = False
            journal.tell("acting now, because the other daemon has ended", service.operator.now())

    try:
        service.operator.drive(stopping, acted, schedules=True)
    except ProvisionError as error:
        journal.complain(str(error), service.operator.now())
        return exits.of_error(error)
    journal.tell("stopped; runs continue on their machines", service.operator.now())
    return 0


def cron(context: typer.Context, as_json: session.Json = False) -> int:
    """Start what schedules make due, and nothing else.

    This only queues the runs: other commands must launch them. A daemon does both. However many daemons and crons run,
    each time of a schedule starts one run. The command logs as `daemon` does.
    """
    journal = session.journal(context, as_json=as_json)
    service = session.opened(context, "cron", journal)
    stopping = _stopping(service)
    journal.tell("starting runs that schedules make due; Ctrl-C stops this, and runs continue", service.operator.now())
    service.operator.ring(stopping)
    journal.tell("stopped; schedules start no runs until a daemon or cron runs", service.operator.now())
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
    """End machines that outlived their lifetime.

    This needs the settings but no store: it may run on another host, from a timer. The command logs as `daemon` does.
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


def takeover(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: session.Json = False,
) -> None:
    """Take over the bucket of a store that is lost.

    Machines that work for runs of this store are adopted. Other machines end at their lifetime, and their logs are then
    archived. Processes that still use the other store stop acting.
    """
    service = session.opened(context)
    owner = service.operator.other_store()
    if not owner:
        streams.say("nothing to take over: the bucket belongs to this store, or to none")
        if as_json:
            streams.put_json({"mailboxes": []})
        return
    if not yes and not session.agreed(f"take the bucket away from store {owner}, which then stops acting?"):
        return
    told = service.operator.takeover()
    if as_json:
        streams.put_json({"mailboxes": list(told)})
        return
    for line in told:
        streams.put(line)
    streams.put("this store owns the bucket now; machines that it does not know end at their lifetime")
