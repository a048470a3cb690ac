"""The page's styles and scripts, read once at the start; each has a hash of its content in its name."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.errors import NotFound

FOLDER = Path(__file__).with_name("static")
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: A browser asks for a file once: another content has another name (RFC 8246, "HTTP Immutable Responses").
FOREVER = "public, max-age=31536000, immutable"
#: The name of another module in an `import` of a module.
_IMPORT = re.compile(r'from "\./([a-z_]+\.js)"')


@dataclass(frozen=True)
class StaticFile:
    """One file, also compressed."""

    name: str
    kind: str
    data: bytes
    packed: bytes


class StaticFiles:
    """The files of a folder by name, and by the name with the hash."""

    def __init__(self, folder: Path) -> None:
        self._sources = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in TYPES}
        self._named: dict[str, StaticFile] = {}
        for name in self._sources:
            self._add(name)
        self._served = {each.name: each for each in self._named.values()}

    def _add(self, name: str) -> StaticFile:
        """Add a file and, before it, the modules that it imports, because their names are part of its content."""
        if name not in self._named:
            text = _IMPORT.sub(lambda found: f'from "./{self._add(found[1]).name}"', self._sources[name].decode())
            data = text.encode()
            path = Path(name)
            hashed = f"{path.stem}.{hashlib.sha256(data).hexdigest()[:12]}{path.suffix}"
            self._named[name] = StaticFile(hashed, TYPES[path.suffix], data, gzip.compress(data, mtime=0))
        return self._named[name]

    def address(self, name: str) -> str:
        """Return the path at which the server has the file; raises KeyError for an unknown name."""
        return f"/static/{self._named[name].name}"

    def served(self, name: str) -> StaticFile | None:
        """Return the file with that hashed name, or None."""
        return self._served.get(name)


STATIC = StaticFiles(FOLDER)

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static_file(request: Request, name: str = InPath(max_length=100)) -> Response:
    found = STATIC.served(name)
    if found is None:
        raise NotFound(f"no file {name!r}: reload the page")
    headers = {"cache-control": FOREVER, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.kind, headers={**headers, "content-encoding": "gzip"})
    return Response(found.data, media_type=found.kind, headers=headers)
