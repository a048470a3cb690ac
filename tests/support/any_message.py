"""Hypothesis strategies from types: any message or record, with every field filled."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from hypothesis import strategies as st

#: Values of times, durations and prices.
NUMBERS = st.floats(-1e12, 1e12)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of the type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*map(values, args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=3)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: values(hint) for name, hint in hints.items()})  # type: ignore[arg-type]
    if isinstance(kind, typing.NewType):
        return values(kind.__supertype__)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if kind is Any:
        return st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
    if kind is type(None):
        return st.none()
    if issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    return {
        str: st.text(max_size=20),
        float: NUMBERS,
        int: st.integers(-(2**53), 2**53),
        bool: st.booleans(),
        bytes: st.binary(max_size=20),
    }[kind]
