"""The visitor of a page: the caller of the session in the request's cookie, and what answers to the visitor need."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fastapi import Depends, Request
from starlette.responses import Response

from provisioner.core.access.callers import Caller
from provisioner.core.errors import Denied, Forbidden, Invalid
from provisioner.faces.api.http.caller import Server, server_of, source_of
from provisioner.faces.page.render import HEADERS, rendered
from provisioner.service.control import OnBehalf

#: Name of the session's cookie. Behind TLS, the prefix makes browsers reject a cookie that another host or a page
#: without TLS has set (RFC 6265bis, "Cookie Name Prefixes").
COOKIE, SECURE_COOKIE = "provision_session", "__Host-provision_session"
#: The theme that the visitor has chosen; without it, the browser's.
THEME = "provision_theme"
THEMES = ("light", "dark")
#: A message that the next page shows.
MESSAGE = "provision_message"
#: Name of the form's field, and of the header, with the session's CSRF token.
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf"
#: Maximum number of fields of a form.
MOST_FIELDS = 10_000


class LoginNeeded(Denied):
    """The request has no valid session; `at` is the page that the visitor wanted."""

    def __init__(self, message: str, at: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Visit:
    """One request of a visitor with a session."""

    request: Request
    server: Server
    caller: Caller
    control: OnBehalf
    #: The token that proves that a form was made for this session.
    csrf: str
    #: All fields of the form, in order; empty for a GET.
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def form(self) -> Mapping[str, str]:
        """The fields of the form, with the last value of each name."""
        return dict(self.fields)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page; its template extends base.html."""
        answer = html(rendered(template, {**self._values(), **values}), status)
        if MESSAGE in self.request.cookies:
            answer.delete_cookie(MESSAGE, path="/")
        return answer

    def part(self, template: str, **values: Any) -> Response:
        """Return a live part of a page, or 304 if the browser has it already."""
        text = rendered(template, {**self._values(), **values})
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'
        if self.request.headers.get("if-none-match") == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={**HEADERS, "etag": tag})
        return html(text, headers={"etag": tag})

    def see_other(self, path: str, message: str = "") -> Response:
        """Return the answer that leads the browser to another page, which shows the message once."""
        answer = redirect(path)
        if message:
            # In a cookie and not in the address: else a link could make this server show any text.
            secure = is_secure(self.request)
            answer.set_cookie(
                MESSAGE, quote(message[:500]), 60, path="/", secure=secure, httponly=True, samesite="strict"
            )
        return answer

    def _values(self) -> dict[str, Any]:
        return {
            "caller": self.caller,
            "csrf_token": self.csrf,
            "now": self.server.service.operator.now(),
            "path": self.request.url.path,
            "theme": theme_of(self.request),
            "message": unquote(self.request.cookies.get(MESSAGE, "")),
        }


def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, {**HEADERS, **(headers or {})}, media_type="text/html")


def redirect(path: str) -> Response:
    """Return the answer that leads the browser to a path of this server."""
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={**HEADERS, "location": path})


def theme_of(request: Request) -> str:
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else ""


def own_path(text: str) -> str:
    """Return the path if it is one of this server, otherwise `/`: a login must not lead to another site."""
    parts = urlsplit(text)
    # Browsers read a backslash as a slash, and skip control characters.
    odd = "\\" in text or text.startswith("//") or not text.isprintable()
    return text if text.startswith("/") and not odd and not (parts.scheme or parts.netloc) else "/"


def is_secure(request: Request) -> bool:
    """Return whether the browser reaches the server by TLS: its own, or that of the proxy."""
    return request.url.scheme == "https" or server_of(request).behind_proxy


def cookie_of(request: Request) -> str:
    return SECURE_COOKIE if is_secure(request) else COOKIE


def secret_of(request: Request) -> str:
    """Return the secret of the request's session, or ""."""
    return request.cookies.get(cookie_of(request), "")[:100]


def csrf_of(secret: str) -> str:
    """Return the CSRF token of a session: only a page that was made for the session has it."""
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def check_origin(request: Request) -> None:
    """Raise Forbidden if the browser says that a page of another site made the request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    ):
        raise Forbidden("the request came from a page of another site: open the page here, and try again")


async def fields_of(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the fields of an urlencoded form. Raises Invalid."""
    try:
        text = (await request.body()).decode()
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise Invalid(f"the form cannot be read: {error}") from error


async def visiting(request: Request) -> Visit:
    """Return the visit of the request's session; raises LoginNeeded without a valid one."""
    server, secret = server_of(request), secret_of(request)
    try:
        caller = server.service.sessions.admit(secret, source_of(request))
    except Denied as error:
        query = f"?{request.url.query}" if request.url.query else ""
        raise LoginNeeded(str(error), f"{request.url.path}{query}") from error
    return Visit(request, server, caller, server.service.on_behalf(caller), csrf_of(secret))


async def changing(request: Request) -> Visit:
    """Return the visit of a request that changes something. Raises Forbidden if a page of another site made it."""
    found = await visiting(request)
    check_origin(request)
    found = replace(found, fields=await fields_of(request))
    shown = request.headers.get(CSRF_HEADER) or found.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(shown.encode(), found.csrf.encode()):
        raise Forbidden("the form is out of date: load the page again, and repeat the change")
    return found


#: For pages, live parts and streams.
Visiting = Annotated[Visit, Depends(visiting)]
#: For every request that changes something.
Changing = Annotated[Visit, Depends(changing)]
