"""Answers of the API: views as JSON, and every error in one form."""

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from provisioner.core import errors
from provisioner.core.views.codec import to_json

JSON = "application/json"


class Problem(TypedDict):
    """Why a request failed."""

    message: str
    code: str
    detail: dict[str, Any]


#: Error classes, each with the status and the code of its answer; the first class that matches is used.
STATUS: tuple[tuple[type[errors.ProvisionError], int, str], ...] = (
    (errors.Invalid, 400, "invalid"),
    (errors.Denied, 401, "denied"),
    (errors.Forbidden, 403, "forbidden"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (errors.TooMany, 429, "too_many"),
    (errors.LimitReached, 429, "limit_reached"),
    (errors.WrongStore, 503, "wrong_store"),
    (errors.LeaseLost, 503, "try_again"),
    (errors.Retryable, 503, "try_again"),
    (errors.CloudError, 502, "cloud"),
    (errors.Failed, 502, "failed"),
)


def answer(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, separators=(",", ":")), status, media_type=JSON)


def shown(view: Any, status: int = 200) -> Response:
    """Return the answer with this view as JSON."""
    return answer(to_json(view), status)


def wants(request: Request, kind: str) -> bool:
    """Return whether the client accepts this media type."""
    return kind in request.headers.get("accept", "")


def problem(
    status: int,
    code: str,
    message: str,
    detail: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = Problem(message=message, code=code, detail=dict(detail or {}))
    return Response(json.dumps(body), status, headers, media_type=JSON)


def refusal(error: errors.ProvisionError) -> Response | None:
    """Return the answer to an error that is temporary, or caused by the caller or cloud; None for a server fault."""
    found = next(((status, code) for kind, status, code in STATUS if isinstance(error, kind)), None)
    if found is None:
        return None
    status, code = found
    headers, detail = {}, {}
    if isinstance(error, errors.CloudError) and error.code:
        detail["cloud_code"] = error.code
    if isinstance(error, errors.LimitReached):
        detail["limit"] = error.limit
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    elif code == "try_again":
        headers["Retry-After"] = "1"
    return problem(status, code, str(error), detail, headers)
