"""Whether the process lives, and whether it does its work."""

from typing import TypedDict

from fastapi import APIRouter
from starlette.responses import Response

from provisioner.faces.api.answers import answer
from provisioner.faces.api.document import OPEN, answers

router = APIRouter(tags=["health"])


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
