"""Routers of the page: an error becomes a page with the same words as in the API, and a login if it is needed."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.errors import ProvisionError
from provisioner.core.recipe import errors
from provisioner.faces.api.http.answers import refusal
from provisioner.faces.page.render import rendered
from provisioner.faces.page.visitor import LoginNeeded, html, redirect, theme_of

#: Header of the requests that the page's own scripts make: they get no login page, but the status 401.
SCRIPT_HEADER = "x-script"


class PageRoute(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except LoginNeeded as error:
                if request.method == "GET" and SCRIPT_HEADER not in request.headers:
                    return redirect("/login?" + urlencode({"next": error.at}))
                return problem_page(request, 401, str(error))
            except ProvisionError as error:
                found = refusal(error)
                if found is None:
                    raise
                return problem_page(request, found.status_code, str(error))
            except RequestValidationError as error:
                told = (f"{'.'.join(map(str, path))}: {text}" for path, text in errors.explained(error.errors()))
                return problem_page(request, 400, "; ".join(told))

        return handled


def page_router() -> APIRouter:
    """Return a router for routes of the page, which are not part of the API's document."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def problem_page(request: Request, status: int, message: str) -> Response:
    """Return the page for an error."""
    return html(rendered("problem.html", {"status": status, "message": message, "theme": theme_of(request)}), status)


def wants_page(request: Request) -> bool:
    """Return whether a browser asked for a page, so that an error of no route is a page too."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


async def unrouted(request: Request, error: HTTPException) -> Response:
    """Return the page for a path that no route accepts."""
    texts = {404: "There is no such page.", 405: f"{request.method} is not allowed here."}
    return problem_page(request, error.status_code, texts.get(error.status_code, str(error.detail)))
