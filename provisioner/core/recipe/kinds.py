"""What a field of a recipe accepts, and the JSON Schema of it.

Scalars of a document come as text (see `yaml`), so the JSON Schema of a kind accepts the other scalars too, if their
text would do.
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

_SCALAR = ["string", "number", "boolean"]


#: The pydantic context to validate a stored recipe: checks that are only for `apply` are skipped.
STORED: Mapping[str, bool] = {"stored": True}


def is_stored(info: ValidationInfo) -> bool:
    """Return whether the value comes from a stored recipe, which an earlier `apply` has accepted."""
    return bool(info.context and info.context.get("stored"))


class Part(BaseModel):
    """A group of fields: it takes no others, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, eq=False)
class Kind:
    """A check of a field beyond its type: `check` returns the value, or raises ValueError with the correct form."""

    check: Callable[[Any], Any]
    #: The JSON Schema; empty: that of the type.
    schema: dict[str, Any] = field(default_factory=dict)
    #: Further JSON Schemas that a value may match.
    also: tuple[dict[str, Any], ...] = ()
    #: Run the check on the value as written, before its type converts it.
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
    """A check that was added to a field after recipes had been stored.

    `apply` refuses a recipe that fails the check. Stored recipes keep running, and `jobs` marks them. Each check that
    this version adds to an existing field must be a `rule`, or must call `is_stored`.
    """
    return Kind(check, first=first, on_apply=True)


def matching(pattern: str, right: str) -> Kind:
    """Text that fits `pattern` whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(right)
        return text

    return Kind(check, {"type": _SCALAR, "pattern": f"^{pattern}$", "description": right})


def later(
    reason: str,
    *harmless: Any,
    asks_nothing: Callable[[Any], bool] = lambda _: False,
    also: tuple[dict[str, Any], ...] = (),
) -> Kind:
    """A field that this version does not support; it refuses all values except those that change nothing.

    These are null, the values in `harmless`, and values for which `asks_nothing` returns True. `also` has the JSON
    Schemas of the latter.
    """
    accepted = [None, *harmless]

    def check(value: Any) -> None:
        if value not in accepted and not asks_nothing(value):
            raise ValueError(f"not in this version: {reason}")

    return Kind(check, {"enum": accepted, "description": f"Not in this version: {reason}"}, also, first=True)


def or_nothing(empty: Any) -> Kind:
    """A field that may be written as null, which means `empty`."""
    return Kind(lambda value: empty if value is None else value, also=({"type": "null"},), first=True)


#: A field that a server fills in, such as an id: a recipe that was exported has it, and `apply` ignores it.
Ignored = Annotated[None, Kind(lambda _: None, {"description": "Read-only: ignored."}, first=True)]


def picked(key: str, ignorable: frozenset[str], otherwise: str) -> Kind:
    """Text, or a mapping that holds it under `key` and nothing else of meaning."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not {key} <= value.keys() <= {key} | ignorable:
            raise ValueError(otherwise)
        return value[key]

    properties: dict[str, Any] = {name: {} for name in sorted(ignorable)} | {key: {"type": _SCALAR}}
    mapping = {"type": "object", "properties": properties, "required": [key], "additionalProperties": False}
    return Kind(check, {"anyOf": [{"type": _SCALAR}, mapping]}, first=True)


def sized(at_least: str, at_most: str) -> Kind:
    """A size: text in documents, bytes inside."""

    def check(value: Any) -> int:
        found = in_bytes(value if isinstance(value, str) else "")
        if not in_bytes(at_least) <= found <= in_bytes(at_most):
            raise ValueError(f"write {at_least} to {at_most}")
        return found

    return Kind(check, {"type": "string", "pattern": f"^{SIZE}$"}, first=True)


def between(least: int, most: int, what: str) -> Kind:
    """A whole number, written as one."""

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
    """The size in bytes; raises ValueError that says how one is written."""
    if not re.fullmatch(SIZE, text):
        raise ValueError("write a size as 512Mi, 200Gi or 2Ti")
    return int(text[:-2]) * _SIZES[text[-2]]


def size_text(size: int) -> str:
    """The shortest exact writing of whole MiB."""
    unit = next(unit for unit, one in _SIZES.items() if size % one == 0)
    return f"{size // _SIZES[unit]}{unit}i"
