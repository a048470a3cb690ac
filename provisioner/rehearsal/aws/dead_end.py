"""Addresses of AWS that never answer: what a machine finds in a subnet without a way out."""

import contextlib
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

#: The name of S3 there, and its addresses: S3's names have up to eight (EC2's resolver; recorded answers).
NAME = "s3.no-way-out.test"
ADDRESSES = tuple(f"127.0.66.{number}" for number in range(1, 9))
#: Virtual machines reach this computer's ports at the same address, whatever the port.
LOOPBACK = "127.0.0.1"


class DeadEnd:
    """A port at which every connection waits for ever, at each of ADDRESSES and at LOOPBACK."""

    def __init__(self, sockets: contextlib.ExitStack, port: int) -> None:
        self._sockets = sockets
        self._port = port

    def close(self) -> None:
        self._sockets.close()

    def user_data(self, text: str, url: str) -> str:
        """Return the user-data, in which every address of the double at `url` is replaced by this dead end's."""
        own = re.escape(f"://{LOOPBACK}:{urlsplit(url).port}") + r"\b"
        named = re.sub(own, f"://{NAME}:{self._port}", text)
        return re.sub(rf"(://[0-9.]+):{urlsplit(url).port}\b", rf"\1:{self._port}", named)


@contextlib.contextmanager
def _full(address: str, port: int) -> Iterator[int]:
    """Listen at the address, and fill the queue of connections: Linux drops all further ones without an answer."""
    with socket.socket() as server, socket.socket() as first:
        server.bind((address, port))
        server.listen(0)
        first.connect(server.getsockname())
        yield int(server.getsockname()[1])


def dead_end() -> DeadEnd:
    """Open the port; raises OSError."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_full(LOOPBACK, 0))
        for address in ADDRESSES:
            stack.enter_context(_full(address, port))
        return DeadEnd(stack.pop_all(), port)


def hosts() -> str:
    """Return the lines of /etc/hosts that give NAME its addresses."""
    return "".join(f"{address} {NAME}\n" for address in ADDRESSES)
