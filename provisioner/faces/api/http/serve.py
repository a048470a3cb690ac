"""The server: uvicorn on this thread, the control plane's loop on a second one. If one stops, both stop."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from provisioner.core.errors import Invalid
from provisioner.faces.api.http import connections
from provisioner.faces.api.http.connections import Room
from provisioner.faces.api.http.stream import Hub

#: Seconds that requests in progress may take after a stop; followers are disconnected at once.
GRACE = 5
ROOM = Room()
#: Maximum number of requests in threads at the same time; further requests wait in order. With more threads the order
#: is random, and the slowest of fifty simultaneous starts takes 1.5 times as long (`scripts/bench starts`).
THREADS = 20


@dataclass(frozen=True)
class Listening:
    """Address to listen at, and how connections to it are encrypted."""

    host: str
    port: int
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False

    def check(self) -> None:
        """Raise Invalid if options contradict each other, or if tokens would cross a network in clear text."""
        if bool(self.certificate) != bool(self.key):
            raise Invalid("--tls-cert and --tls-key must be given together")
        if self.certificate and self.behind_proxy:
            raise Invalid("--tls-cert and --behind-proxy exclude each other: TLS ends either here or at the proxy")
        if not (self.certificate or self.behind_proxy or _loopback(self.host)):
            raise Invalid(
                f"{self.host} is not a loopback address, and without TLS tokens can be read on the network: "
                "give --tls-cert and --tls-key, or --behind-proxy if a proxy terminates TLS"
            )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(listening: Listening, room: Room = ROOM) -> socket.socket:
    """Return the listening socket; raises Invalid if it cannot be opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listening.host, listening.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Invalid(f"{listening.host}: {error.strerror}") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            # With this option the kernel disconnects a client that reads nothing, so no timer is needed. Connections
            # inherit the option from the listener (tcp(7)).
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(connections.PATIENCE * 1000))
        made.bind(address)
        # A client that connects before the server is ready waits, and is not rejected.
        made.listen(room.backlog)
    except OSError as error:
        made.close()
        raise Invalid(f"cannot listen at {listening.host} port {listening.port}: {error.strerror}") from error
    return made


class Front(uvicorn.Server):
    """uvicorn without its own signal handlers; at shutdown it disconnects the followers first."""

    def __init__(self, app: FastAPI, listening: Listening, hub: Hub, room: Room = ROOM) -> None:
        """Raise Invalid for a certificate or key that cannot be loaded."""
        config = uvicorn.Config(
            app,
            host=listening.host,
            port=listening.port,
            http=connections.limited(room.connections),
            h11_max_incomplete_event_size=connections.HEAD,
            # Up to this many connections are accepted at once, before the limit on their number applies.
            backlog=room.backlog,
            ws="none",
            lifespan="off",
            # No logs: neither a token nor anything else that a client sent may be written.
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            # The client's address is determined in one place, `caller.source_of`.
            proxy_headers=False,
            ssl_certfile=listening.certificate or None,
            ssl_keyfile=listening.key or None,
            timeout_graceful_shutdown=GRACE,
        )
        try:
            config.load()
        except OSError as error:
            raise Invalid(f"--tls-cert {listening.certificate}, --tls-key {listening.key}: {error}") from error
        super().__init__(config)
        self._hub = hub

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Request a shutdown; a signal handler may call this."""
        self.should_exit = True


def run(front: Front, listener: socket.socket, drive: Callable[[], None], halt: Callable[[], None]) -> None:
    """Serve, and call `drive` in a thread, until `front.stop()` or until `drive` returns; raises the errors of `drive`.

    `halt` makes `drive` return.
    """

    async def both() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        driving = asyncio.ensure_future(asyncio.to_thread(drive))
        driving.add_done_callback(lambda _: front.stop())
        try:
            await front.serve([listener])
        finally:
            halt()
            await driving

    asyncio.run(both())
