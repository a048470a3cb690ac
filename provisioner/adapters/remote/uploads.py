"""provisioner.ports.control.uploads.Uploads over HTTP. A repeated `add` stores the list twice, which does no harm."""

from collections.abc import Iterable

from provisioner.adapters.remote.calls import Calls
from provisioner.core.views.upload import Upload


class RemoteUploads:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def add(self, lines: Iterable[bytes], owner: str = "", *, null: bool = False) -> Upload:
        query = [*([("owner", owner)] if owner else []), *([("null", "true")] if null else [])]
        return self._calls.upload(Upload, "/api/uploads", query, lines)
