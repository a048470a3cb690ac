"""Ports for servers in tests."""

import contextlib
import socket


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return `count` distinct ports of `host` that are free now.

    All ports are held open until the last one is chosen, so that no port is returned twice. An empty `host` means every
    address of this computer.
    """
    with contextlib.ExitStack() as held:
        servers = [held.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]
