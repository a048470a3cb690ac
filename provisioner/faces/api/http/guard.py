"""Middleware for every request: a limit for the body, security headers, and answers to faults that show no details."""

import traceback
from collections.abc import Callable
from importlib.metadata import version

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provisioner.core.commands.uploads import MOST_BYTES
from provisioner.core.views.api import API, API_HEADER, DISTRIBUTION, PACKAGE_HEADER, UNVERSIONED, install
from provisioner.faces.api.http.answers import problem
from provisioner.ports.ids import Ids
from provisioner.ports.journal import Journal

#: Maximum number of bytes of a body; far more than a recipe may have. And the paths of requests with larger bodies.
LARGEST = 1 << 20
LARGER = {("POST", "/api/uploads"): MOST_BYTES}

#: Headers of every answer that does not set them itself, as the page does: a browser must treat the answer as data,
#: because a job's name or log may contain HTML.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept, authorization"),
)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Called with the method, the route's template, the status, and the seconds until the answer began.
Counted = Callable[[str, str, int, float], None]


_PACKAGE = version(DISTRIBUTION)
VERSIONS = ((API_HEADER.lower().encode(), str(API).encode()), (PACKAGE_HEADER.lower().encode(), _PACKAGE.encode()))


class Guard:
    """ASGI middleware that limits the body, adds headers, counts answers, and answers and logs faults."""

    def __init__(self, app: ASGIApp, journal: Journal, ids: Ids, now: Callable[[], float], counted: Counted) -> None:
        self._app = app
        self._journal = journal
        self._ids = ids
        self._now = now
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status, taken = self._now(), 0, 0
        most = LARGER.get((scope["method"], scope["path"]), LARGEST)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        too_large = len(length) > len(str(most)) or int(length) > most

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, _too_large(most))
            return message

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in HEADERS if each[0] not in own), *VERSIONS]
                self._counted(_method(scope), _route(scope), status, max(0.0, self._now() - began))
            await send(message)

        try:
            if _unversioned(scope):
                text = f"this client is older than the server; {install(_PACKAGE)}"
                await problem(406, "invalid", text)(scope, receive, headed)
            elif too_large:
                await problem(413, "too_large", _too_large(most))(scope, receive, headed)
            else:
                await self._app(scope, bounded, headed)
        except Exception as error:  # noqa: BLE001 - for any error, the client gets a line and the journal the traceback
            id = self._ids.new()[:12]
            self._journal.complain(
                f"internal error {id}: {error!r}", self._now(), traceback="".join(traceback.format_exception(error))
            )
            if not status:
                await problem(500, "fault", f"internal error {id}; search the server's journal for this id")(
                    scope, receive, headed
                )


def _too_large(most: int) -> str:
    return f"the body has more than {most} bytes"


def _unversioned(scope: Scope) -> bool:
    """Return whether the client accepts the media type of clients that are older than the API's versions."""
    return any(name == b"accept" and UNVERSIONED.encode() in value for name, value in scope["headers"])


def _method(scope: Scope) -> str:
    """Return a method of METHODS, or "other": each word adds a counter, and clients may send any (RFC 9110, 9.1)."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    """Return the template of the path, or "other". With the path itself, each job and each run would add a counter."""
    found = getattr(scope.get("route"), "path", None)
    if found is None:
        return "other"
    # The route of a router lacks the prefix with which the router was included.
    return f"/api{found}" if scope["path"].startswith("/api/") and not found.startswith("/api/") else str(found)
