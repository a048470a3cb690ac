"""The command line and Python API as clients of the installation's server."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from provisioner import wiring
from tests.api.served import Server
from tests.e2e.rig import Rig


@contextlib.contextmanager
def acting(whole: Rig) -> Iterator[None]:
    """Run passes in a thread of this process, without a daemon.

    Without a daemon, local commands run passes themselves. Clients of a server cannot do that.
    """
    service, over = wiring.service(whole.settings), threading.Event()
    thread = threading.Thread(target=lambda: service.operator.drive(over.is_set))
    thread.start()
    try:
        yield
    finally:
        over.set()
        service.wake()
        thread.join()
        service.close()


@contextlib.contextmanager
def served(whole: Rig, patch: pytest.MonkeyPatch, *, daemon: bool = False) -> Iterator[Server]:
    """Start a server and set its clients' environment. With `daemon` the server runs passes, else acting() does."""
    with Server(whole.settings, acting=daemon) as server, contextlib.nullcontext() if daemon else acting(whole):
        patch.delenv("PROVISION_SETTINGS", raising=False)
        patch.setenv("PROVISION_URL", server.url)
        patch.setenv("PROVISION_TOKEN", server.token("tester", admin=True))
        yield server
