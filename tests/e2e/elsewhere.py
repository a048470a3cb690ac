"""The same command line and Python, speaking to a server of the installation."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from provisioner import wiring
from tests.api.served import Server
from tests.e2e.rig import Rig


@contextlib.contextmanager
def acting(whole: Rig) -> Iterator[None]:
    """Inside, somebody acts who is no daemon: what commands without one do here, a server's clients cannot."""
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
    """Inside, the environment names a server, by an admin's token; it acts as a daemon does, or somebody else does."""
    with Server(whole.settings, acting=daemon) as server, contextlib.nullcontext() if daemon else acting(whole):
        patch.delenv("PROVISION_SETTINGS", raising=False)
        patch.setenv("PROVISION_URL", server.url)
        patch.setenv("PROVISION_TOKEN", server.token("tester", admin=True))
        yield server
