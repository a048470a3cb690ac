"""The OpenAPI document: schemas made from the views, and the possible answers of every operation."""

import dataclasses
import typing
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from provisioner.core.views.codec import Absent, Moment, hints, to_json
from provisioner.faces.api.http.answers import JSON, Problem

#: The meaning of each status, the same for every operation.
MEANING = {
    400: "The request is wrong; the message says where, and what would be right.",
    401: "No token, or one that is unknown, revoked or expired.",
    403: "Not for this caller.",
    404: "There is no such thing, or none that the caller may touch.",
    409: "It clashes with what is there already.",
    413: "The body is larger than 1 MiB.",
    429: "Too many tries, or followers; Retry-After says when to try again.",
    502: "The cloud refused.",
    503: "It may work later; Retry-After says when.",
}
#: Error statuses that any operation with a token may return.
ALWAYS = (400, 401, 429, 503)
#: An operation that needs no token.
OPEN: dict[str, Any] = {"security": []}

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def answers(
    shape: Any, *errors: int, status: int = 200, example: Any = None, public: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of an operation: the view with its status, and the errors. `example` may be a view."""
    media: dict[str, Any] = {"schema": schema(shape)}
    if example is not None:
        media["example"] = to_json(example) if dataclasses.is_dataclass(example) else example
    found: dict[int | str, dict[str, Any]] = {status: {"description": "Done.", "content": {JSON: media}}}
    for code in sorted({*errors, *(() if public else ALWAYS)}):
        found[code] = {"description": MEANING[code], "content": {JSON: {"schema": schema(Problem)}}}
        if code in (429, 503):
            found[code]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return found


#: The schema of each type that an operation refers to, by the type's name.
_SHAPES: dict[str, dict[str, Any]] = {}


def schema(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of a view's type, or of a TypedDict."""
    origin, words = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return {**schema(words[0]), "description": words[1]}
    if origin in (typing.Union, UnionType):
        kinds = [word for word in words if word is not Absent]
        return schema(kinds[0]) if len(kinds) == 1 else {"anyOf": [schema(each) for each in kinds]}
    if origin is typing.Literal:
        return {"enum": list(words)}
    if origin in (list, tuple):
        return {"type": "array", "items": schema(words[0])}
    if kind is Moment:
        return {"type": "string", "format": "date-time"}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema(words[1])}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [str(each.value) for each in kind]}
    return _reference(kind) if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) else {}


def _reference(kind: Any) -> dict[str, Any]:
    name = kind.__name__
    if name not in _SHAPES:
        _SHAPES[name] = {}
        fields, required = _fields(kind)
        _SHAPES[name] |= {
            "type": "object",
            "title": name,
            "description": kind.__doc__,
            "properties": {field: schema(hint) for field, hint in fields.items()},
            "required": sorted(required),
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the types of the fields, and the names of the required fields."""
    if dataclasses.is_dataclass(kind):
        view: Any = kind
        return hints(view), {each.name for each in dataclasses.fields(view) if each.default is dataclasses.MISSING}
    found = typing.get_type_hints(kind, include_extras=True)
    return {name: _present(hint) for name, hint in found.items()}, set(kind.__required_keys__)


def _present(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.NotRequired else hint


def openapi(app: FastAPI) -> Mapping[str, Any]:
    """Return the whole document; it is made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        for operations in made["paths"].values():
            for operation in operations.values():
                # FastAPI's default; this API answers 400 with its own messages.
                operation["responses"].pop("422", None)
        parts = made.setdefault("components", {})
        for name in ("HTTPValidationError", "ValidationError"):
            parts.get("schemas", {}).pop(name, None)
        parts["schemas"] = dict(sorted({**parts.get("schemas", {}), **_SHAPES}.items()))
        parts["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "What `provision token create` printed. `Authorization: token …` is the same.",
            }
        }
        made["security"] = [{"token": []}]
        app.openapi_schema = made
    return app.openapi_schema
