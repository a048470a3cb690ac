"""Make JSON Schemas of views and TypedDicts, for the OpenAPI document and for `provision schema --output`."""

import dataclasses
import typing
from collections.abc import Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any

from provisioner.core.views.codec import Absent, Moment, hints

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


class Schemas:
    """JSON Schemas that refer to each other; `shapes` maps the name of each view or TypedDict to its JSON Schema."""

    def __init__(self, place: str) -> None:
        """`place` is the beginning of a reference to an entry of `shapes` in the document, such as `#/$defs/`."""
        self._place = place
        self.shapes: dict[str, dict[str, Any]] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the JSON Schema of a type."""
        origin, words = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            return {**self.of(words[0]), "description": words[1]}
        if origin in (typing.Union, UnionType):
            kinds = [word for word in words if word is not Absent]
            return self.of(kinds[0]) if len(kinds) == 1 else {"anyOf": [self.of(each) for each in kinds]}
        if origin is typing.Literal:
            return {"enum": list(words)}
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(words[0])}
        if kind is Moment:
            return {"type": "string", "format": "date-time"}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": self.of(words[1])}
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"type": "string", "enum": [str(each.value) for each in kind]}
        return self._reference(kind) if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) else {}

    def _reference(self, kind: Any) -> dict[str, Any]:
        name = kind.__name__
        if name not in self.shapes:
            # Add the name first, because a type may refer to itself.
            self.shapes[name] = {}
            fields, required = _fields(kind)
            self.shapes[name] |= {
                "type": "object",
                "title": name,
                "description": kind.__doc__,
                "properties": {field: self.of(hint) for field, hint in fields.items()},
                "required": sorted(required),
            }
        return {"$ref": f"{self._place}{name}"}


def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the types of the fields, and the names of the required fields."""
    if dataclasses.is_dataclass(kind):
        view: Any = kind
        return hints(view), {each.name for each in dataclasses.fields(view) if each.default is dataclasses.MISSING}
    found = typing.get_type_hints(kind, include_extras=True)
    return {name: _present(hint) for name, hint in found.items()}, set(kind.__required_keys__)


def _present(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.NotRequired else hint
