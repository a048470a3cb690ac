"""An API server in this process, with a real socket and event loop, and its tokens."""

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from provisioner import wiring
from provisioner.faces.api.app import assembled
from provisioner.faces.api.http import serve
from provisioner.faces.api.http.metrics import Meters
from provisioner.faces.page.site import add_page
from provisioner.ports.bucket import Bucket
from provisioner.ports.journal import Journal
from provisioner.settings import Settings


class Kept:
    """A journal that keeps its lines for tests."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, text: str, at: float, /, **fields: str | int) -> None:
        self.lines.append(f"{at} {text} {fields}")

    def complain(self, error: str, at: float, /, **fields: str | int) -> None:
        self.lines.append(f"{at} error: {error} {fields}")

    def close(self) -> None:
        pass


class Server:
    """`provision serve` in this process, as a context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        port: int = 0,
        behind_proxy: bool = False,
        acting: bool = True,
        bucket: Bucket | None = None,
    ) -> None:
        self.journal = Kept()
        journal: Journal = self.journal
        meters = Meters()
        self.service = wiring.service(settings, "daemon", journal, meters)
        if bucket is not None:
            object.__setattr__(self.service.installation, "bucket", bucket)
        self.app, self.hub = assembled(self.service, journal, meters, behind_proxy=behind_proxy)
        add_page(self.app)
        listening = serve.Listening("127.0.0.1", port, behind_proxy=behind_proxy)
        self._listener = serve.bound(listening)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.front = serve.Front(self.app, listening, self.hub)
        self._acting = acting
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        serve.run(self.front, self._listener, self._drive, self._halt)

    def _drive(self) -> None:
        if self._acting:
            self.service.operator.drive(self._over.is_set)
        else:
            self._over.wait()

    def _halt(self) -> None:
        self._over.set()
        self.service.wake()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    @property
    def connections(self) -> int:
        return len(self.front.server_state.connections)

    def stop(self) -> None:
        """Stop the server as a signal does."""
        self.front.stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.front.stop()
        self._thread.join()
        self._listener.close()
        self.service.close()

    def token(self, *owners: str, admin: bool = False, **more: Any) -> str:
        return self.service.tokens.create(owners, admin=admin, **more).token

    @contextlib.contextmanager
    def client(self, token: str = "", **headers: str) -> Iterator[httpx.Client]:
        """Yield a client that sends this token, or no token if it is empty."""
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=self.url, headers={**shown, **headers}, timeout=60, trust_env=False) as client:
            yield client


def recipe(name: str, owner: str = "", **spec: Any) -> str:
    import json

    whole = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": "true", **spec}
    return json.dumps({"type": "job", "spec": {**whole, "owner": owner} if owner else whole})
