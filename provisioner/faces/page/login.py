"""Log in to the page with an access token, and log out."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.errors import Denied, TooMany
from provisioner.faces.api.http.caller import server_of, source_of
from provisioner.faces.page.render import rendered
from provisioner.faces.page.routing import page_router
from provisioner.faces.page.visitor import (
    Changing,
    check_origin,
    cookie_of,
    fields_of,
    html,
    is_secure,
    own_path,
    redirect,
    secret_of,
    theme_of,
)
from provisioner.service.access.sessions import LIFETIME

router = page_router()

#: Maximum number of characters of an access token in the form; a token has 60.
LONGEST = 200


@router.get("/login")
async def login_page(request: Request) -> Response:
    return _page(request, own_path(request.query_params.get("next", "/")))


@router.post("/login")
async def log_in(request: Request) -> Response:
    check_origin(request)
    fields = dict(await fields_of(request))
    server, at = server_of(request), own_path(fields.get("next", "/"))
    try:
        caller = server.service.gate.admit(fields.get("token", "").strip()[:LONGEST], source_of(request))
    except (Denied, TooMany) as error:
        return _page(request, at, str(error), 429 if isinstance(error, TooMany) else 401)
    secret = await run_in_threadpool(server.service.sessions.open, caller, secret_of(request))
    answer = redirect(at)
    _set_cookie(request, answer, secret, int(LIFETIME))
    return answer


@router.post("/logout")
async def log_out(visit: Changing) -> Response:
    secret = secret_of(visit.request)
    await run_in_threadpool(visit.server.service.sessions.close, secret)
    answer = redirect("/login")
    _set_cookie(visit.request, answer, "", 0)
    return answer


def _page(request: Request, at: str, trouble: str = "", status: int = 200) -> Response:
    return html(rendered("login.html", {"next": at, "trouble": trouble, "theme": theme_of(request)}), status)


def _set_cookie(request: Request, answer: Response, secret: str, age: int) -> None:
    answer.set_cookie(
        cookie_of(request), secret, max_age=age, path="/", secure=is_secure(request), httponly=True, samesite="strict"
    )
