"""The page: its routes, added to the server's application."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from provisioner.faces.api.app import unrouted
from provisioner.faces.page import login, routing, static_files
from provisioner.faces.page.routes import (
    docs,
    job,
    jobs,
    lines,
    log,
    machines,
    queue,
    reports,
    run,
    run_commands,
    runs,
    start,
    theme,
    usage,
)
from provisioner.faces.page.routes.access import audit, tokens

#: One router for each module of routes.
ROUTERS = (
    start.router,
    lines.router,
    log.router,
    login.router,
    jobs.router,
    job.router,
    run.router,
    run_commands.router,
    runs.router,
    queue.router,
    machines.router,
    tokens.router,
    audit.router,
    docs.router,
    theme.router,
    usage.router,
    reports.router,
    static_files.router,
)


def add_page(app: FastAPI) -> None:
    """Add the page to the application of `provisioner.faces.api.app`."""
    for router in ROUTERS:
        app.include_router(router)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if routing.wants_page(request):
            return await routing.unrouted(request, error)
        return await unrouted(request, error)

    app.add_exception_handler(HTTPException, unknown)
