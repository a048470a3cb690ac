"""Liveness, readiness and metrics of the server."""

from typing import Any, TypedDict

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from provisioner.core.errors import Forbidden, Transient
from provisioner.faces.api.http.answers import answer
from provisioner.faces.api.http.caller import Calling, Serving
from provisioner.faces.api.http.document import OPEN, answers

router = APIRouter(tags=["health"])

#: Most seconds since a pass that saw the whole installation: an idle one makes a pass a minute, and one may fail.
LATELY = 150.0
#: Media type of Prometheus's text format (its documentation, "Exposition formats").
TEXT = "text/plain; version=1.0.0; charset=utf-8"


class Health(TypedDict):
    """All is well."""

    status: str


@router.get(
    "/healthz",
    operation_id="healthz",
    openapi_extra=OPEN,
    responses=answers(Health, public=True, example={"status": "alive"}),
)
async def healthz() -> Response:
    """Whether the process lives."""
    return answer({"status": "alive"})


@router.get(
    "/readyz",
    operation_id="readyz",
    openapi_extra=OPEN,
    responses=answers(Health, 503, public=True, example={"status": "acting"}),
)
def readyz(server: Serving) -> Response:
    """Whether the store opens and somebody acts: this process, whose last pass was lately, or another one."""
    service = server.service
    # Raises Transient while the store cannot be read.
    if hindrance := service.operator.hindrance():
        raise Transient(hindrance)
    if service.acting.has_lease:
        if service.operator.now() - server.meters.passed_at <= LATELY:
            return answer({"status": "acting"})
        raise Transient("no pass has seen the whole installation lately: the journal says why")
    if service.operator.served():
        return answer({"status": "standing by"})
    raise Transient("nobody acts yet")


def _figures() -> dict[int | str, dict[str, Any]]:
    found = answers(Health, 403)
    found[200]["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return found


@router.get("/metrics", operation_id="metrics", response_class=PlainTextResponse, responses=_figures())
def metrics(server: Serving, caller: Calling) -> Response:
    """The figures, in Prometheus's text format; for admins."""
    if not caller.admin:
        raise Forbidden("only an admin may do this")
    return Response(server.meters.text(), media_type=TEXT)
