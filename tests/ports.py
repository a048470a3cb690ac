"""Where servers of the tests may listen."""

import contextlib
import socket


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that are free now; all are held until all are known, so that they differ.

    Where `host` is empty, of all this computer's addresses.
    """
    with contextlib.ExitStack() as held:
        servers = [held.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]
