"""The server: uvicorn on this thread, the control plane's loop on one beside it, both ended by one wish."""

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

#: Seconds that requests under way may take at the end; followers are told at once.
GRACE = 5
ROOM = Room()
#: Requests in threads at once; the others wait in their order. Among more it is chance whose turn is next, and the
#: slowest of fifty starts at once takes half as long again (`scripts/bench starts`).
THREADS = 20


@dataclass(frozen=True)
class Listening:
    """Where, and how far the way there can be trusted."""

    host: str
    port: int
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False

    def check(self) -> None:
        """Raises Invalid where tokens would go over a network as they are."""
        if bool(self.certificate) != bool(self.key):
            raise Invalid("--tls-cert and --tls-key go together")
        if self.certificate and self.behind_proxy:
            raise Invalid("either TLS here (--tls-cert) or a proxy that does it (--behind-proxy)")
        if not (self.certificate or self.behind_proxy or _loopback(self.host)):
            raise Invalid(
                f"{self.host} is not of this computer alone, and tokens would be read on the way: "
                "name --tls-cert and --tls-key, or --behind-proxy where a proxy does TLS"
            )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(listening: Listening, room: Room = ROOM) -> socket.socket:
    """The listening socket; raises Invalid where there can be none."""
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
            # Its connections have it from the listener (tcp(7)); the kernel ends them and we keep nothing.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(connections.PATIENCE * 1000))
        made.bind(address)
        # Who comes before the server is ready waits, and is not refused.
        made.listen(room.backlog)
    except OSError as error:
        made.close()
        raise Invalid(f"cannot listen at {listening.host} port {listening.port}: {error.strerror}") from error
    return made


class Front(uvicorn.Server):
    """uvicorn, whose signals are not its own, and whose followers hear of the end in time."""

    def __init__(self, app: FastAPI, listening: Listening, hub: Hub, room: Room = ROOM) -> None:
        """Raises Invalid for a certificate or key that is none."""
        config = uvicorn.Config(
            app,
            host=listening.host,
            port=listening.port,
            http=connections.limited(room.connections),
            h11_max_incomplete_event_size=connections.HEAD,
            # So many are taken at once before any is bounded.
            backlog=room.backlog,
            ws="none",
            lifespan="off",
            # A token is in no line that is written, nor is anything else that a client sent.
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            # Who called is decided in one place, `caller.source_of`.
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
        """From a signal handler too."""
        self.should_exit = True


def run(front: Front, listener: socket.socket, drive: Callable[[], None], halt: Callable[[], None]) -> None:
    """Serve and drive until `front.stop()`, or until the drive ends by itself; raises what it raises.

    `halt` makes the drive end.
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
