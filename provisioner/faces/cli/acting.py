"""daemon, reap, takeover: what acts on the cloud by itself."""

import signal
from collections.abc import Sequence

import typer

from provisioner.faces.cli import exits, screen, session, shapes


def daemon(context: typer.Context, as_json: session.Json = False) -> None:
    """Act until stopped: launch, watch, end, reap.

    A second one stands by, and takes over when the first is gone. With --json each error is a line of JSON.
    """
    stopping = False
    service = session.control(context, "daemon")

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        service.wake()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    another = service.served()
    screen.say("another daemon acts: standing by to take over" if another else "acting; Ctrl-C ends this, no run")
    known: frozenset[str] = frozenset()

    def tell(errors: Sequence[str]) -> None:
        nonlocal another, known
        if another:
            another = False
            screen.say("acting now: the other daemon is gone")
        for error in errors:
            if error in known:
                continue
            if as_json:
                screen.put_json({"at": shapes.moment(service.now()), "error": error}, indent=None)
            else:
                screen.complain(error)
        known = frozenset(errors)

    service.drive(lambda: stopping, tell)
    screen.say("stopped; what runs goes on")


def reap(context: typer.Context, as_json: session.Json = False) -> int:
    """End every machine that has outlived its lifetime.

    Needs the settings alone, no store: it may run on another host, from a timer.
    """
    from provisioner import wiring
    from provisioner.settings import load

    reaped = wiring.reap(load(context.obj["settings"]))
    if as_json:
        screen.put_json(
            [
                {"id": each.machine.id, "over_by": each.over_by, "error": str(each.error) if each.error else None}
                for each in reaped
            ]
        )
    else:
        for each in reaped:
            how = f"could not be ended: {each.error}" if each.error else "is being ended"
            print(screen.plain(f"{each.machine.id} outlived its time by {screen.duration(each.over_by)} and {how}"))
        if not reaped:
            print("no machine has outlived its time")
    return exits.CLOUD if any(each.error for each in reaped) else 0


def takeover(context: typer.Context, as_json: session.Json = False) -> None:
    """Make the bucket this store's, after the other store was lost.

    What the other store's machines left is archived; those still at work are left to their own end.
    """
    told = session.control(context).takeover()
    if as_json:
        screen.put_json({"mailboxes": list(told)})
        return
    for line in told:
        print(screen.plain(line))
    print("the bucket is this store's now; machines it does not know are left to their own end")
