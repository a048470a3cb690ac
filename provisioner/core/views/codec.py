"""Encode views as JSON, and decode them. Times are ISO 8601 in UTC, to the millisecond.

A view is a frozen dataclass that the API, `--json` and Python show to users. It has the fields of its JSON object. A
reader ignores unknown fields, because the writer may have another version. A field with a default may be absent.
"""

import dataclasses
import datetime as dt
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, NewType, TypeVar

from provisioner.core.dates import datable
from provisioner.core.errors import Invalid

V = TypeVar("V")

EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)

#: Unix seconds.
Moment = NewType("Moment", float)


def iso(at: float) -> str:
    """Return a Unix time as ISO 8601 in UTC, to the millisecond; NaN and times outside datetime's range are clamped."""
    # Round to whole milliseconds, so that a time that is written, read and written again does not change.
    time = EPOCH + dt.timedelta(milliseconds=round(datable(at) * 1000))
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def maybe_iso(at: float | None) -> str | None:
    return None if at is None else iso(at)


@typing.overload
def moment(at: float) -> Moment: ...
@typing.overload
def moment(at: float | None) -> Moment | None: ...
def moment(at: float | None) -> Moment | None:
    """Return a Unix time rounded for a view, so that a client that decodes the view's JSON gets an equal view."""
    return None if at is None else Moment(round(datable(at), 3))


def to_json(view: Any) -> dict[str, Any]:
    """Return the view as a dictionary of JSON types, without absent fields."""
    found: dict[str, Any] = {}
    kind: Any = type(view)
    for name, write in _writers(kind):
        value = getattr(view, name)
        if value is not Absent.ABSENT:
            found[name] = write(value)
    return found


class Absent(Enum):
    """The value of a field that is not in the JSON object."""

    ABSENT = "absent"


@functools.cache
def hints(kind: Any) -> dict[str, Any]:
    """Return the types of a view's fields, with their descriptions, in order."""
    found = typing.get_type_hints(kind, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


@functools.cache
def _writers(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _writer(hint)) for name, hint in hints(kind).items())


def _writer(kind: Any) -> Any:
    """Return the function that converts a value of the type to JSON types."""
    kind = bare(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [arg for arg in args if arg not in (type(None), Absent)]
        write = _writer(kinds[0]) if len(kinds) == 1 else _as_it_is
        return lambda value: None if value is None else write(value)
    if kind is Moment:
        return iso
    if origin is tuple:
        write = _writer(args[0])
        return lambda value: [write(each) for each in value]
    if origin is Mapping:
        write = _writer(args[1])
        return lambda value: {str(key): write(each) for key, each in value.items()}
    if dataclasses.is_dataclass(kind):
        return to_json
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def from_json(kind: type[V], value: Any) -> V:
    """Return the view of type `kind` that a value of JSON types describes; unknown fields are ignored.

    Raises Invalid if a field is missing or has the wrong type: the server may have another version, or be another
    program.
    """
    try:
        return typing.cast(V, _read(kind, value))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Invalid(f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def _read(kind: Any, value: Any) -> Any:
    kind = bare(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        kinds = [arg for arg in args if arg not in (type(None), Absent)]
        return None if value is None else _read(kinds[0], value)
    if kind is Moment:
        return Moment(dt.datetime.fromisoformat(_typed(str, value)).timestamp())
    if origin is tuple:
        return tuple(_read(args[0], each) for each in _typed(list, value))
    if origin is Mapping:
        return {_read(args[0], key): _read(args[1], each) for key, each in _typed(dict, value).items()}
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"expected one of {args}, got {value!r:.80}")
        return value
    if dataclasses.is_dataclass(kind):
        make: Any = kind
        known = _typed(dict, value)
        return make(**{name: _read(hint, known[name]) for name, hint in hints(make).items() if name in known})
    if kind is float:
        return float(value if type(value) is int else _typed(float, value))
    return kind(value) if issubclass(kind, Enum) else _typed(kind, value)


def _typed(kind: Any, value: Any) -> Any:
    # Do not use isinstance: it accepts JSON's `true` as an int.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {value!r:.80}")
    return value


def bare(kind: Any) -> Any:
    """Return the type without the description that Annotated adds."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
