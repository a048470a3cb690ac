"""Liveness, readiness and metrics of the server."""

from typing import Any, TypedDict

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from provisioner.core.errors import Forbidden, Transient
from provisioner.faces.api.http.answers import answer
from provisioner.faces.api.http.caller import Calling, Serving
from provisioner.faces.api.http.document import OPEN, answers

router = APIRouter(tags=["health"])

#: Maximum number of seconds since the last pass that saw the whole installation. An idle control plane makes one pass a
#: minute, and one of these may fail.
LATELY = 150.0
#: Media type of Prometheus's text format (its documentation, "Exposition formats").
TEXT = "text/plain; version=1.0.0; charset=utf-8"


class Health(TypedDict):
    """The state of the server."""

    status: str


@router.get(
    "/healthz",
    operation_id="healthz",
    openapi_extra=OPEN,
    responses=answers(Health, public=True, example={"status": "alive"}),
)
async def healthz() -> Response:
    """Report that the server process is alive."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    operation_id="readyz",
    openapi_extra=OPEN,
    responses=answers(Health, 503, public=True, example={"status": "acting"}),
)
def readyz(server: Serving) -> Response:
    """Report whether the server is ready; if it is not, 503 gives the reason.

    The server is ready if three conditions hold. Its store can be read. Its clock is right. Either another daemon acts,
    or this process has made a complete pass in the last 150 s.
    """
    service = server.service
    # Raises Transient while the store cannot be read.
    if hindrance := service.operator.hindrance():
        raise Transient(hindrance)
    if service.acting.has_lease:
        if service.operator.now() - server.meters.passed_at <= LATELY:
            return answer({"status": "acting"})
        raise Transient(f"no complete pass in the last {LATELY:g} s; see the server's journal for the reason")
    if service.operator.served():
        return answer({"status": "standing by"})
    raise Transient("no daemon or server acts yet")


def _figures() -> dict[int | str, dict[str, Any]]:
    found = answers(Health, 403)
    found[200]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


@router.get("/metrics", operation_id="metrics", response_class=PlainTextResponse, responses=_figures())
def metrics(server: Serving, caller: Calling) -> Response:
    """Return the metrics in Prometheus's text format. Only for admins."""
    if not caller.admin:
        raise Forbidden("only an admin may read the metrics")
    return Response(server.meters.text(), media_type=TEXT)
