"""The ASGI application: the API's routers, the middleware for every request, and the answers to errors."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from provisioner.core.errors import ProvisionError
from provisioner.core.recipe import errors
from provisioner.core.views.api import DISTRIBUTION
from provisioner.faces.api.http import document, health
from provisioner.faces.api.http.answers import answer, problem, refusal
from provisioner.faces.api.http.caller import Server
from provisioner.faces.api.http.guard import Guard
from provisioner.faces.api.http.metrics import Meters
from provisioner.faces.api.http.stream import MOST, Hub
from provisioner.faces.api.native import (
    commands,
    history,
    jobs,
    lines,
    logs,
    presence,
    runs,
    schedules,
    tokens,
    uploads,
    usage,
)
from provisioner.faces.api.saturn import client, pods, recipes
from provisioner.faces.api.saturn import usage as saturn_usage
from provisioner.ports.journal import Journal
from provisioner.service.control import Service

#: One router for each module of endpoints. They are tried in this order: the most requested come first.
ROUTERS = (
    jobs.router,
    history.router,
    runs.router,
    logs.router,
    lines.router,
    commands.router,
    recipes.router,
    client.router,
    pods.router,
    schedules.router,
    presence.router,
    tokens.router,
    uploads.router,
    usage.router,
    saturn_usage.router,
)

DESCRIPTION = """Each run of a job gets a new machine, which is terminated when the run ends.

Names: a job is named by its id, or by its name with `owner_name`; a run by its id, or the beginning of its id. Jobs and
runs that the caller may not access are reported as not found. Times are ISO 8601 in UTC, durations are seconds, money
is US dollars; null means unknown, or not known yet. Each answer has the version of the API in the header
`Provision-API`, and the version of the server in `Provision-Version`."""

CODES = {404: "no_endpoint", 405: "method_not_allowed", 413: "too_large"}


def assembled(
    service: Service, journal: Journal, meters: Meters, *, behind_proxy: bool = False, followers: int = MOST
) -> tuple[FastAPI, Hub]:
    """Return the application over the service, and the hub of its log followers. Close the hub before the server."""
    hub = Hub(service.logs, most=followers)
    meters.read(service.tally, lambda: hub.followers)
    return make(Server(service, journal, service.ids, hub, meters, behind_proxy)), hub


def make(server: Server) -> FastAPI:
    """Return the ASGI application of one installation."""
    app = FastAPI(
        title="provision",
        version=version(DISTRIBUTION),
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            ProvisionError: refused,
            RequestValidationError: misread,
            HTTPException: unrouted,
        },
    )
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    app.include_router(health.router)
    app.add_api_route("/api/openapi.json", _document, include_in_schema=False)
    app.openapi = lambda: dict(document.openapi(app))  # type: ignore[method-assign]
    app.add_middleware(
        Guard, journal=server.journal, ids=server.ids, now=server.service.operator.now, counted=server.meters.counted
    )
    return app


async def _document(request: Request) -> Response:
    return answer(request.app.openapi())


async def refused(_: Request, error: Exception) -> Response:
    """Return the answer to a ProvisionError. Raise a fault of the server again, because Guard answers and logs it."""
    assert isinstance(error, ProvisionError)
    found = refusal(error)
    if found is None:
        raise error
    return found


async def misread(_: Request, error: Exception) -> Response:
    """Return the answer that lists every problem of an invalid request."""
    assert isinstance(error, RequestValidationError)
    if any(isinstance(each.get("input"), bytes) for each in error.errors()):
        return problem(400, "invalid", "body: write JSON, with `Content-Type: application/json`")
    found = [{"where": ".".join(map(str, path)), "what": text} for path, text in errors.explained(error.errors())]
    message = "; ".join(f"{each['where']}: {each['what']}" for each in found)
    return problem(400, "invalid", message, {"problems": found})


async def unrouted(request: Request, error: Exception) -> Response:
    """Return the answer to a request that no endpoint accepts: unknown path, wrong method, or too large a body."""
    assert isinstance(error, HTTPException)
    texts = {
        404: "unknown path; /api/openapi.json lists the endpoints",
        405: f"{request.method} is not allowed at this path; /api/openapi.json lists the methods",
        413: error.detail,
    }
    text = texts.get(error.status_code, "invalid request")
    return problem(error.status_code, CODES.get(error.status_code, "invalid"), text, None, error.headers)
