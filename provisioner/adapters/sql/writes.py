"""Check preconditions and write rows, within a transaction of the store."""

import dataclasses
import functools

import sqlalchemy
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects import sqlite
from sqlmodel import select

from provisioner.adapters.sql import tables
from provisioner.adapters.sql.rows import R, all_of
from provisioner.adapters.sql.usage import put_sums
from provisioner.core.access.owner_limits import OwnerLimits, Usage
from provisioner.core.errors import Conflict, LeaseLost
from provisioner.core.not_found import no_upload
from provisioner.core.protocol.codec import encode
from provisioner.core.recipe.jobs import KEPT_BYTES, KEPT_REVISIONS, Job, Revision
from provisioner.core.run.records import Run
from provisioner.core.usage.amounts import MachineUsage
from provisioner.ports.store import Lease


def lease(connection: Connection) -> Lease | None:
    """Return the lease, or None if no process ever had it."""
    row = connection.execute(text("SELECT epoch, holder, kind, expires_at FROM lease")).one_or_none()
    return Lease(**row._asdict()) if row else None


def prove(connection: Connection, epoch: int) -> None:
    """Raise LeaseLost if the lease is not held, or is held under another epoch."""
    held = lease(connection)
    if held is None or held.epoch != epoch or not held.holder:
        raise LeaseLost("another process has taken over the control plane")


def note(connection: Connection, key: str, value: str, now: float) -> None:
    """Store a value under a key, and replace an earlier value."""
    connection.execute(
        text("INSERT OR REPLACE INTO note VALUES (:key, :value, :now)"), {"key": key, "value": value, "now": now}
    )


def put(connection: Connection, item: R) -> R:
    """Insert a record of version 0, or update the stored record; return the record with its new version.

    Raises Conflict if the record exists already, or if the stored record has another version.
    """
    stored = _write(connection, item)
    if isinstance(stored, Revision):
        _trim(connection, stored)
    elif isinstance(stored, Job) and stored.deleted_at is not None:
        connection.exec_driver_sql("DELETE FROM revision WHERE job = ?", (stored.id,))
    return stored


def _trim(connection: Connection, item: Revision) -> None:
    """Delete the oldest revisions of the job, and of its owner, that are not kept any more."""
    query = "DELETE FROM revision WHERE job = ? AND number <= ?"
    connection.exec_driver_sql(query, (item.job, item.number - KEPT_REVISIONS))
    total = "SELECT total(size) FROM revision WHERE owner = ?"
    # Rows are numbered in the order in which they were inserted.
    oldest = "DELETE FROM revision WHERE rowid IN (SELECT rowid FROM revision WHERE owner = ? ORDER BY rowid LIMIT 10)"
    while connection.exec_driver_sql(total, (item.owner,)).scalar_one() > KEPT_BYTES:
        connection.exec_driver_sql(oldest, (item.owner,))


def _write(connection: Connection, item: R) -> R:
    stored = dataclasses.replace(item, version=item.version + 1)
    kind, row = tables.row(item, encode(stored).decode())
    insert, update = _statements(kind)
    if isinstance(item, MachineUsage):
        put_sums(connection, item)
    if item.version == 0:
        try:
            connection.exec_driver_sql(insert, row)
        except sqlalchemy.exc.IntegrityError as error:
            raise Conflict(f"{type(item).__name__} {item.id} already exists") from error
        return stored
    done = connection.exec_driver_sql(update, {**row, "known_id": item.id, "known_version": item.version})
    if done.rowcount != 1:
        raise Conflict(f"{type(item).__name__} {item.id} was changed by another process")
    return stored


@functools.cache
def _statements(kind: type[tables.Document]) -> tuple[str, str]:
    """Return the table's INSERT and UPDATE statements; cached, as building them takes longer than executing them."""
    table, dialect = sqlalchemy.inspect(kind).local_table, sqlite.dialect(paramstyle="named")
    known = table.c.id == bindparam("known_id"), table.c.version == bindparam("known_version")
    insert, update = table.insert(), table.update().where(*known)
    return str(insert.compile(dialect=dialect)), str(update.compile(dialect=dialect))


#: The uploads of an owner's unfinished runs; the condition is that of the index `run_upload`.
_UPLOADS = "SELECT upload FROM run WHERE owner = ? AND done = 0 AND upload <> ''"


def usage(connection: Connection, owner: str) -> Usage:
    """Return the owner's usage, summed from indices of unfinished runs, existing jobs and uploads that count."""
    count, size = connection.exec_driver_sql(
        "SELECT count(*), total(size) FROM run WHERE owner = ? AND done = 0", (owner,)
    ).one()
    (jobs,) = connection.exec_driver_sql("SELECT total(size) FROM job WHERE owner = ? AND deleted = 0", (owner,)).one()
    (unused,) = connection.exec_driver_sql(
        "SELECT total(size) FROM upload WHERE owner = ? AND used = 0", (owner,)
    ).one()
    (used,) = connection.exec_driver_sql(f"SELECT total(size) FROM upload WHERE id IN ({_UPLOADS})", (owner,)).one()
    return Usage(count, int(size + jobs + unused + used))


def check_start(connection: Connection, run: Run, limits: OwnerLimits) -> None:
    """Raise LimitReached if the run would exceed its owner's limits."""
    before = usage(connection, run.owner)
    after = before.stored_bytes + len(encode(run))
    if run.upload:
        # An upload that was used, and that no unfinished run uses, does not count yet.
        query = f"SELECT total(size) FROM upload WHERE id = ? AND used = 1 AND id NOT IN ({_UPLOADS})"
        after += int(connection.exec_driver_sql(query, (run.upload, run.owner)).scalar_one())
    limits.check(run.owner, before, Usage(before.unfinished_runs + 1, after))


def use_upload(connection: Connection, run: Run) -> None:
    """Note that a run uses its upload, which is then never deleted. Raises NotFound if it was deleted."""
    query = "UPDATE upload SET used = 1 WHERE id = ? AND owner = ?"
    if run.upload and connection.exec_driver_sql(query, (run.upload, run.owner)).rowcount != 1:
        raise no_upload(run.upload)


def same_key(connection: Connection, run: Run, since: float) -> Run | None:
    """Return the run of the same job with the same idempotency key that was made after `since`, or None."""
    row = tables.RunRow
    same = select(row.body).where(row.job_id == run.job_id, row.key == run.idempotency_key, row.created_at > since)
    # SQLite uses the partial index `run_key` only if the query has the index's condition: the key is a parameter.
    found = all_of(connection, Run, same.where(text("key <> ''")).limit(1))
    return found[0] if found else None
