"""Command that runs the daemon, the HTTP API and the page in one process: serve."""

import contextlib
import ctypes
import gc
import os
import signal
from collections.abc import Sequence
from typing import Annotated

import typer

from provisioner.core.errors import ProvisionError
from provisioner.faces.cli import exits, session


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any free port.")] = 8080,
    tls_cert: Annotated[str, typer.Option(metavar="FILE", help="TLS certificate with its chain, PEM.")] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", help="Private key of the certificate, PEM.")] = "",
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy", help="A proxy terminates TLS; the last address of X-Forwarded-For is the client's."
        ),
    ] = False,
    as_json: session.Json = False,
) -> int:
    """Run the control plane, the HTTP API and the page.

    At an address other than loopback, the server needs TLS: its own, or that of a proxy. A second server on the same
    store also answers requests, and takes over as the control plane when the first one ends. The command logs as
    `daemon` does.
    """
    with session.extra("server"):
        from provisioner.faces.api.app import assembled
        from provisioner.faces.api.http import connections
        from provisioner.faces.api.http import serve as serving
        from provisioner.faces.api.http.metrics import Meters
        from provisioner.faces.page.site import add_page

    listening = serving.Listening(host, port, tls_cert, tls_key, behind_proxy)
    listening.check()
    room = connections.room(connections.allowed_files())
    listener = serving.bound(listening, room)
    context.call_on_close(listener.close)
    from provisioner import wiring

    journal = session.journal(context, as_json=as_json)
    meters = Meters()
    service = wiring.service(session.settings(context), "daemon", journal, meters)
    context.call_on_close(service.close)
    app, hub = assembled(service, journal, meters, behind_proxy=behind_proxy, followers=room.followers)
    add_page(app)
    front = serving.Front(app, listening, hub, room)
    stopped = signalled = False

    def stop(*_: object) -> None:
        nonlocal stopped, signalled
        if signalled:
            # The second signal ends the process at once: calls in progress may be cut off, as by kill -9.
            os._exit(exits.DETACHED)
        stopped = signalled = True
        front.stop()
        service.wake()

    def halt() -> None:
        nonlocal stopped
        stopped = True
        service.wake()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    another = service.operator.served()

    def acted(_: Sequence[str]) -> None:
        nonlocal another
        if another:
            another = False
            journal.tell("acting now, because the other daemon has ended", service.operator.now())

    name = f"[{host}]" if ":" in host else host
    where = f"{'https' if tls_cert else 'http'}://{name}:{listener.getsockname()[1]}"
    doing = "another daemon acts: standing by to take over" if another else "acting"
    journal.tell(f"listening at {where}, {doing}; Ctrl-C stops the server, and runs continue", service.operator.now())
    if not service.tokens.all():
        journal.tell(
            f"no access token yet; create one: provision token create --owner {service.caller.owner} --role admin",
            service.operator.now(),
        )
    service.prepare()
    # The objects that were created until now are never freed. Without this call, each full garbage collection would
    # scan them and delay all requests.
    gc.freeze()
    _return_memory()
    try:
        serving.run(front, listener, lambda: service.operator.drive(lambda: stopped, acted, schedules=True), halt)
    except ProvisionError as error:
        journal.complain(str(error), service.operator.now())
        return exits.of_error(error)
    journal.tell("stopped; runs continue on their machines", service.operator.now())
    return 0


def _return_memory() -> None:
    """Make glibc return the memory of each buffer of 128 KiB or more to the kernel as soon as the buffer is freed.

    Otherwise glibc raises this threshold up to 32 MiB, and each thread that has read a log keeps some MiB (mallopt(3)).
    """
    mmap_threshold = -3
    # Other C libraries have no such function.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(mmap_threshold, 128 << 10)
