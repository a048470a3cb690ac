"""Build queries for rows, and decode the records in the rows."""

import functools
import typing
from collections.abc import Collection
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection
from sqlmodel import col

from provisioner.adapters.sql.live_cache import record_of
from provisioner.core.run.records import Record
from provisioner.ports.store import Key

R = TypeVar("R", bound=Record)


def of_owners(query: Any, row: Any, owners: Collection[str] | None) -> Any:
    return query if owners is None else query.where(col(row.owner).in_(owners))


def older(query: Any, at: Any, id: Any, than: Key | None) -> Any:
    """Return the query sorted newest first, limited to rows older than `than`, the last record of the previous page."""
    query = query.order_by(col(at).desc(), col(id).desc())
    return query if than is None else query.where(sqlalchemy.tuple_(col(at), col(id)) < sqlalchemy.tuple_(*than))


def all_of(connection: Connection, kind: type[R], query: Any) -> tuple[R, ...]:
    return tuple(decoded(kind, body) for body in connection.scalars(query))


def decoded(kind: type[R], body: str) -> R:
    return typing.cast(R, _parsed(typing.cast(Any, kind), body))


@functools.lru_cache(maxsize=200)
def _parsed(kind: Any, body: str) -> object:
    # The cache's key is the whole body: if a client polls a run, only changed records are parsed again.
    return record_of(kind, body)
