"""The OpenAPI document: schemas made from the views, and the possible answers of every operation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from provisioner.core.views.codec import to_json
from provisioner.core.views.schema import Schemas
from provisioner.faces.api.http.answers import JSON, Problem

#: The meaning of each status, the same for every operation.
MEANING = {
    400: "The request is invalid; the message names the place and what was expected.",
    401: "The token is missing, unknown, revoked or expired.",
    403: "The caller lacks the right.",
    404: "It does not exist, or the caller may not access it.",
    406: "The client is older than the versions of the API; the message names the version to install.",
    409: "Conflict with the stored state.",
    413: "The body is larger than 1 MiB; that of an upload is larger than 2 GiB.",
    429: "Too many failed logins or followers, with Retry-After; or the owner is at a limit (code limit_reached).",
    502: "AWS rejected the request.",
    503: "A temporary error, with Retry-After; or this server may not use its store any more (code wrong_store).",
}
#: Error statuses that any operation with a token may return.
ALWAYS = (400, 401, 406, 429, 503)
#: An operation that needs no token.
OPEN: dict[str, Any] = {"security": []}
#: The schemas of the types that operations refer to.
_SCHEMAS = Schemas("#/components/schemas/")


def answers(
    shape: Any, *errors: int, status: int = 200, example: Any = None, public: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation: the view with its status, and the errors. `example` may be a view."""
    media: dict[str, Any] = {"schema": _SCHEMAS.of(shape)}
    if example is not None:
        media["example"] = to_json(example) if dataclasses.is_dataclass(example) else example
    found: dict[int | str, dict[str, Any]] = {status: {"description": "Success.", "content": {JSON: media}}}
    for code in sorted({*errors, *(() if public else ALWAYS)}):
        found[code] = {"description": MEANING[code], "content": {JSON: {"schema": _SCHEMAS.of(Problem)}}}
        if code in (429, 503):
            found[code]["headers"] = {
                "Retry-After": {
                    "schema": {"type": "integer"},
                    "description": "Seconds until the next try; absent with the codes limit_reached and wrong_store.",
                }
            }
    return found


def openapi(app: FastAPI) -> Mapping[str, Any]:
    """Return the OpenAPI document, which is generated at the first call and then kept."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        for operations in made["paths"].values():
            for operation in operations.values():
                # FastAPI adds 422 to every operation. This API answers 400 instead, with its own messages.
                operation["responses"].pop("422", None)
        parts = made.setdefault("components", {})
        for name in ("HTTPValidationError", "ValidationError"):
            parts.get("schemas", {}).pop(name, None)
        parts["schemas"] = dict(sorted({**parts.get("schemas", {}), **_SCHEMAS.shapes}.items()))
        parts["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of `provision token create`. `Authorization: token …` is accepted as well.",
            }
        }
        made["security"] = [{"token": []}]
        app.openapi_schema = made
    return app.openapi_schema
