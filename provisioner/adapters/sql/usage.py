"""Write and read the sums of usage."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from sqlalchemy import Connection
from sqlmodel import col, select, text

from provisioner.adapters.sql.live_cache import BATCH
from provisioner.adapters.sql.rows import R, decoded
from provisioner.adapters.sql.tables import MachineUsageRow
from provisioner.core.usage.amounts import (
    NOTHING,
    STORED,
    SUMMED,
    Amounts,
    MachineUsage,
    PriceRange,
    keys_of,
    merged,
    names,
    prices_of,
)
from provisioner.ports.store import UsageFilter

_SUMS = ("parts", *names())
_COLUMNS = (*STORED, *_SUMS)
_ADD = (
    f"INSERT INTO usage ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)}) "
    f"ON CONFLICT ({', '.join(STORED)}) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
)
_PRICE = (
    "INSERT INTO price_used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (day, owner, disk, instance_type, market, source) DO UPDATE SET "
    "least = min(least, excluded.least), most = max(most, excluded.most), "
    "oldest = min(oldest, excluded.oldest), newest = max(newest, excluded.newest)"
)


#: SQLite would choose the index of all machines that have ended.
UNACCOUNTED = "SELECT id FROM machine INDEXED BY machine_unaccounted WHERE ended = 1 AND accounted = 0"

MONTH = "strftime('%Y-%m', day * 86400, 'unixepoch')"


def put_sums(connection: Connection, item: MachineUsage) -> None:
    """Replace the machine's usage in all sums. Call this before the record is written: the stored one is subtracted."""
    query = "SELECT body FROM machine_usage WHERE id = ?"
    body = connection.exec_driver_sql(query, (item.id,)).scalar_one_or_none()
    if body is not None:
        known = decoded(MachineUsage, body)
        _add(connection, known, -1)
        for day in sorted({part.day for part in known.parts}):
            connection.exec_driver_sql("DELETE FROM usage WHERE day = ? AND parts = 0", (day,))
    _add(connection, item, 1)
    for price in prices_of(item):
        for day in sorted({part.day for part in item.parts}):
            kind = (price.disk, price.instance_type, price.market, price.source)
            row = (day, item.owner, *kind, price.least, price.most, price.oldest, price.newest)
            connection.exec_driver_sql(_PRICE, row)
    connection.exec_driver_sql("UPDATE machine SET accounted = 1 WHERE id = ?", (item.id,))


def _add(connection: Connection, item: MachineUsage, sign: int) -> None:
    for key, amounts in keys_of(item):
        day, *rest = key[: len(STORED)]
        sums = (sign, *(sign * getattr(amounts, name) for name in names()))
        connection.exec_driver_sql(_ADD, (int(day), *rest, *sums))


class UsageQueries:
    """The part of the store that reads usage."""

    @abstractmethod
    def find(self, kind: type[R], query: Any) -> tuple[R, ...]:
        """Return the records that a query finds."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Return the context of one transaction that only reads."""

    def usage(self, which: UsageFilter, by: Sequence[str], most: int) -> Mapping[tuple[str, ...], Amounts]:
        assert set(by) <= set(SUMMED), "a dimension is the name of a column, or `month`"
        sums = ", ".join(f"sum({name})" for name in names())
        columns = [MONTH if name == "month" else name for name in by]
        keys = "".join(f"CAST({column} AS TEXT), " for column in columns)
        group = f" GROUP BY {', '.join(columns)}" if by else ""
        condition, values = _where(which)
        with self.reading() as connection:
            query = f"SELECT {keys}{sums} FROM usage {condition}{group} LIMIT ?"
            rows = connection.exec_driver_sql(query, (*values, most + 1)).all()
        found = {tuple(row[: len(by)]): Amounts(*(each or 0 for each in row[len(by) :])) for row in rows}
        return {key: amounts for key, amounts in found.items() if by or amounts != NOTHING}

    def prices_used(self, which: UsageFilter) -> tuple[PriceRange, ...]:
        kind = "disk, instance_type, market, source"
        condition, values = _where(which)
        query = f"SELECT {kind}, min(least), max(most), min(oldest), max(newest) FROM price_used {condition}"
        with self.reading() as connection:
            rows = connection.exec_driver_sql(f"{query} GROUP BY {kind}", values).all()
        return merged(PriceRange(bool(row[0]), *row[1:]) for row in rows)

    def usages(self, ids: Collection[str]) -> tuple[MachineUsage, ...]:
        wanted, row = sorted(ids), MachineUsageRow
        parts = [wanted[at : at + BATCH] for at in range(0, len(wanted), BATCH)]
        return tuple(
            each for part in parts for each in self.find(MachineUsage, select(row.body).where(col(row.id).in_(part)))
        )

    def unaccounted(self, limit: int, but: Collection[str] = ()) -> tuple[str, ...]:
        with self.reading() as connection:
            ids = connection.execute(text(UNACCOUNTED))
            return tuple(islice((id for (id,) in ids if id not in but), limit))


def _where(which: UsageFilter) -> tuple[str, tuple[str | int, ...]]:
    days = "WHERE day BETWEEN ? AND ?"
    if which.owners is None:
        return days, (which.first, which.last)
    owners = ", ".join("?" for _ in which.owners)
    return f"{days} AND owner IN ({owners})", (which.first, which.last, *which.owners)
