"""Encode messages and records as JSON, and decode them with every type checked; standard library only."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from provisioner.core.errors import Invalid

T = TypeVar("T")

#: The largest integer that every JSON implementation reads exactly (RFC 8259, section 6), plus one. Larger numbers are
#: rejected: they would overflow in later calculations.
LARGEST_NUMBER = 2**53


def encode(message: object) -> bytes:
    """Return a message, a record or a tuple of them as JSON; keys are sorted, so equal messages give equal bytes."""
    return json.dumps(message, default=_plain, sort_keys=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    slots = getattr(value, "__slots__", None)
    return vars(value) if slots is None else {name: getattr(value, name) for name in slots}


def decode(kind: type[T], data: bytes) -> T:
    """Return the message in `data`; unknown fields are ignored.

    Raises Invalid if a required field is missing or a value has the wrong type: the sender is untrusted.
    """
    try:
        return typing.cast(T, _build(kind, json.loads(data, parse_constant=_no_number)))
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(f"not a {kind.__name__}: {error}") from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a valid JSON number")


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_one([arg for arg in args if arg is not type(None)], value)
    if origin is tuple:
        items = _typed(list, value)
        if args[-1] is not Ellipsis:
            return tuple(_build(arg, item) for arg, item in zip(args, items, strict=True))
        return tuple(_build(args[0], item) for item in items)
    if origin is Mapping:
        pairs = _typed(dict, value).items()
        # Most keys are of type str, which needs no conversion.
        return {key if args[0] is str else _build(args[0], key): _build(args[1], item) for key, item in pairs}
    if dataclasses.is_dataclass(kind):
        make: Any = kind
        fields, value = _fields(make), _typed(dict, value)
        return make(**{name: _build(hint, value[name]) for name, hint in fields.items() if name in value})
    if kind in (int, float):
        number = value if kind is float and type(value) is int else _typed(kind, value)
        if not abs(number) <= LARGEST_NUMBER:
            raise ValueError(f"the number {number!r:.40} is too large: expected at most 2**53")
        return kind(number)
    if kind is bytes:
        return base64.b64decode(_typed(str, value), validate=True)
    return kind(value) if issubclass(kind, Enum) else _typed(kind, value)


def _build_one(kinds: list[Any], value: Any) -> Any:
    """Return the value converted to the first of the types that accepts it; None for None."""
    if value is None:
        return None
    for kind in kinds[:-1]:
        try:
            return _build(kind, value)
        except (ValueError, TypeError):
            continue
    return _build(kinds[-1], value)


def _typed(kind: Any, value: Any) -> Any:
    # Do not use isinstance: it accepts JSON's `true` as an int.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.80}")
    return value
