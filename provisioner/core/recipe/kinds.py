"""Checks for fields of a recipe, each with its JSON Schema.

Scalars of a document arrive as text (see `yaml`), so the JSON Schema of a kind also accepts other scalars if their
text is valid.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema
from pydantic_core.core_schema import with_info_after_validator_function, with_info_before_validator_function

SCALAR = ["string", "number", "boolean"]


#: The pydantic context to validate a stored recipe: checks that are only for `apply` are skipped.
STORED: Mapping[str, bool] = {"stored": True}


def is_stored(info: ValidationInfo) -> bool:
    """Return whether the value comes from a stored recipe, which an earlier `apply` has accepted."""
    return bool(info.context and info.context.get("stored"))


class Part(BaseModel):
    """A frozen group of fields that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Kind:
    """A check of a field beyond its type: `check` returns the value, or raises ValueError with the correct form."""

    check: Callable[[Any], Any]
    #: The JSON Schema of the field; if empty, the JSON Schema of its type.
    schema: dict[str, Any] = field(default_factory=dict)
    #: Further JSON Schemas that a value may match.
    also: tuple[dict[str, Any], ...] = ()
    #: Run the check on the value as written, before pydantic converts it to the field's type.
    first: bool = False
    #: Run the check only for `apply`: recipes stored before the check existed must still load.
    on_apply: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: Any, info: ValidationInfo) -> Any:
            return value if self.on_apply and is_stored(info) else self.check(value)

        wrap = with_info_before_validator_function if self.first else with_info_after_validator_function
        return wrap(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        own = self.schema or handler(schema)
        return {"anyOf": [own, *self.also]} if self.also else own


def rule(check: Callable[[Any], Any], *, first: bool = False) -> Kind:
    """Return a check that was added to a field after recipes had been stored.

    `apply` refuses a recipe that fails the check. Stored recipes keep running, and `jobs` marks them. A check that is
    added to an existing field must be a `rule`, or must call `is_stored`.
    """
    return Kind(check, first=first, on_apply=True)


def matching(pattern: str, right: str) -> Kind:
    """Return the kind for text that matches `pattern` completely; `right` is the error message."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(right)
        return text

    return Kind(check, {"type": SCALAR, "pattern": f"^{pattern}$", "description": right})


def later(
    reason: str,
    *harmless: Any,
    asks_nothing: Callable[[Any], bool] = lambda _: False,
    also: tuple[dict[str, Any], ...] = (),
) -> Kind:
    """Return the kind for a field that this version does not support: it refuses all values that would have an effect.

    It accepts null, the values in `harmless`, and values for which `asks_nothing` returns True. `also` has the JSON
    Schemas of the values that `asks_nothing` accepts.
    """
    accepted = [None, *harmless]

    def check(value: Any) -> None:
        if value not in accepted and not asks_nothing(value):
            raise ValueError(f"not in this version: {reason}")

    return Kind(check, {"enum": accepted, "description": f"Not in this version: {reason}"}, also, first=True)


def or_nothing(empty: Any) -> Kind:
    """Return the kind for a field that may be null; null is converted to `empty`."""
    return Kind(lambda value: empty if value is None else value, also=({"type": "null"},), first=True)


#: A field that a server sets, such as an id. An exported recipe contains it, and `apply` ignores it.
Ignored = Annotated[None, Kind(lambda _: None, {"description": "Read-only: ignored."}, first=True)]


def picked(key: str, ignorable: frozenset[str], otherwise: str) -> Kind:
    """Return the kind for text, or for a mapping with the text under `key` and otherwise only keys of `ignorable`."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not {key} <= value.keys() <= {key} | ignorable:
            raise ValueError(otherwise)
        return value[key]

    properties: dict[str, Any] = {name: {} for name in sorted(ignorable)} | {key: {"type": SCALAR}}
    mapping = {"type": "object", "properties": properties, "required": [key], "additionalProperties": False}
    return Kind(check, {"anyOf": [{"type": SCALAR}, mapping]}, first=True)


def sized(at_least: str, at_most: str) -> Kind:
    """Return the kind for a size: text in documents, bytes in the model."""

    def check(value: Any) -> int:
        found = in_bytes(value if isinstance(value, str) else "")
        if not in_bytes(at_least) <= found <= in_bytes(at_most):
            raise ValueError(f"write {at_least} to {at_most}")
        return found

    return Kind(check, {"type": "string", "pattern": f"^{SIZE}$"}, first=True)


def between(least: int, most: int, what: str) -> Kind:
    """Return the kind for a whole number from `least` to `most`; `what` names the number in the error message."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch("[0-9]{1,9}", str(value)) or not least <= int(value) <= most:
            raise ValueError(f"write {what}, {least} to {most}")
        return int(value)

    return Kind(
        check, {"type": ["integer", "string"], "pattern": "^[0-9]{1,9}$", "minimum": least, "maximum": most}, first=True
    )


SIZE = r"[1-9][0-9]{0,5}[MGT]i"
_SIZES = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20}


def in_bytes(text: str) -> int:
    """Return the size in bytes; raises ValueError with the correct form."""
    if not re.fullmatch(SIZE, text):
        raise ValueError("write a size as 512Mi, 200Gi or 2Ti")
    return int(text[:-2]) * _SIZES[text[-2]]


def size_text(size: int) -> str:
    """Return the shortest exact text for a size in bytes that is a whole number of MiB."""
    unit = next(unit for unit, one in _SIZES.items() if size % one == 0)
    return f"{size // _SIZES[unit]}{unit}i"
