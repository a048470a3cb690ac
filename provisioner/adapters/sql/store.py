"""Implement the `Store` port on SQLite: WAL, synchronous=FULL, every write in an immediate transaction."""

import contextlib
import dataclasses
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, text
from sqlmodel import col, select

from provisioner.adapters import private
from provisioner.adapters.descriptors import shortage
from provisioner.adapters.sql import tables, writes
from provisioner.adapters.sql.engine import FAILING_DISK, WRONG_FILE, is_passing, migrate, open_engine
from provisioner.adapters.sql.file import StoreFile
from provisioner.adapters.sql.group_commit import GroupCommit
from provisioner.adapters.sql.history_queries import HistoryQueries
from provisioner.adapters.sql.list_queries import ListQueries
from provisioner.adapters.sql.live_cache import LiveCache
from provisioner.adapters.sql.process_lock import ProcessLock
from provisioner.adapters.sql.rows import R, all_of, decoded, of_owners, older
from provisioner.adapters.sql.usage import UsageQueries
from provisioner.core.access.callers import Audit, Session, Token
from provisioner.core.access.owner_limits import UNLIMITED, OwnerLimits
from provisioner.core.commands.uploads import Upload
from provisioner.core.errors import Invalid, LimitReached, Transient, WrongStore
from provisioner.core.protocol.words import Outcome
from provisioner.core.recipe.jobs import Job
from provisioner.core.run.records import Event, KnownMachine, Launch, Live, Node, Record, Run
from provisioner.core.run.states import State
from provisioner.ports.ids import Ids
from provisioner.ports.store import NEWEST, Key, Lease, RunFilter

#: The value of `changes` while the store's file is missing or replaced.
GONE = -2


#: A character that sorts after every character of an id: an id that begins with `prefix` is less than `prefix + LAST`.
LAST = "\U0010ffff"


#: A new run; the Unix time after which an earlier run with the same idempotency key counts; records to store with the
#: new run; and the limits of its owner.
_Start = tuple[Run, float, Sequence[Record], OwnerLimits]

#: The end of the message for a path that cannot be the store.
ADVICE = "write another path as `store` in the settings"


class SqlStore(ListQueries, UsageQueries, HistoryQueries):
    """provisioner.ports.store.Store on one SQLite file."""

    def __init__(self, path: Path, ids: Ids) -> None:
        """Open the file; make or migrate it if needed.

        Raises Invalid if the file cannot be a store, and Transient if it cannot be opened now.
        """
        try:
            self.file = StoreFile(path)
            self._proof = ProcessLock(self.file.lease)
        except OSError as error:
            if error.errno not in WRONG_FILE:
                raise Transient(f"{error.filename}: {error.strerror}") from error
            raise Invalid(f"{error.filename}: {error.strerror}; {ADVICE}") from error
        self.engine = open_engine(self.file)
        try:
            migrate(self.engine)
        except (sqlite3.DatabaseError, sqlalchemy.exc.DatabaseError, Invalid) as error:
            self._proof.close()
            self.engine.dispose()
            # Show SQLite's text, because SQLAlchemy's own text ends in a link to its documentation.
            cause = getattr(error, "orig", error)
            why = "it is a folder" if path.is_dir() else str(cause)
            if getattr(cause, "sqlite_errorcode", 0) & 0xFF in FAILING_DISK:
                raise Transient(f"{path} cannot be opened: {why}") from error
            raise Invalid(f"{path} cannot be the store: {why}; {ADVICE}") from error
        # Only this connection writes, so its data_version changes only if another process has written (SQLite,
        # "PRAGMA data_version").
        self.writer = self.engine.connect()
        self.writing = threading.RLock()
        #: SQLite's schema version when this process last found the newest migration in the store.
        self._schema = self.writer.exec_driver_sql("PRAGMA schema_version").scalar_one()
        self.starts = GroupCommit(self.writing, self._add_runs)
        self._cache = LiveCache()
        #: The writer's data_version up to which the cache is complete; None if the cache may lack a change.
        self._mirrored: int | None = None
        with self.transaction() as connection:
            connection.execute(text("INSERT OR IGNORE INTO note VALUES ('store id', :id, 0)"), {"id": ids.new()})
        self.watch = self.file.connect()
        self.watching = threading.Lock()

    def close(self) -> None:
        self._proof.close()
        self.watch.close()
        self.writer.close()
        self.engine.dispose()

    @contextlib.contextmanager
    def transaction(self, stored: Sequence[Record] = ()) -> Iterator[Connection]:
        """Context of one transaction, which is committed at the end; the cache then gets the records in `stored`."""
        with self.writing:
            # If an exception, even of a signal handler, ends this block, `_mirrored` stays None. Then `live` reads the
            # changes from the file.
            mirrored, self._mirrored = self._mirrored, None
            try:
                self.file.check()
                # IMMEDIATE locks out other writers now: none can write between this transaction's reads and its writes.
                self.writer.exec_driver_sql("BEGIN IMMEDIATE")
                self._check_schema()
                yield self.writer
                self.writer.commit()
                # The file may have been replaced before the commit: raise if the commit went to the old file.
                self.file.check()
            except BaseException as error:
                self.writer.rollback()
                if isinstance(error, sqlalchemy.exc.OperationalError) and (short := shortage()):
                    raise short from error
                if is_passing(error):
                    # The control loop continues after a Transient, and a client may retry.
                    raise Transient(
                        f"the store {self.engine.url.database} cannot be written now: {error.orig}"
                    ) from error
                raise
            self._cache.note(stored)
            self._mirrored = mirrored

    def _check_schema(self) -> None:
        """Raise WrongStore if another version of this program has migrated the store since it was opened."""
        schema = self.writer.exec_driver_sql("PRAGMA schema_version").scalar_one()
        if schema == self._schema:
            return
        found = self.writer.scalar(text("SELECT version_num FROM alembic_version"))
        if found != tables.HEAD:
            raise WrongStore(
                f"another version of provision has migrated the store to {found}; this process supports {tables.HEAD} "
                "and writes nothing more. Restart it with the new version"
            )
        self._schema = schema

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        self.file.check()
        with self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    def id(self) -> str:
        found = self.remembered("store id")
        assert found is not None, "the store's id is written when it is opened"
        return found[0]

    # The lease

    def acquire(self, holder: str, kind: str, now: float, seconds: float) -> Lease | None:
        with self.transaction() as connection:
            held = writes.lease(connection)
            alive = not self._proof.take()
            if held and held.holder != holder and held.expires_at > now and alive:
                if held.expires_at > now + seconds:
                    # A wrong clock set the expiry. Shorten it: a holder that hangs must not block longer than usual.
                    connection.execute(text("UPDATE lease SET expires_at = :end"), {"end": now + seconds})
                return None
            lease = Lease((held.epoch if held else 0) + 1, holder, kind, now + seconds)
            connection.execute(
                text("INSERT OR REPLACE INTO lease VALUES (1, :epoch, :holder, :kind, :expires_at)"),
                dataclasses.asdict(lease),
            )
            return lease

    def renew(self, lease: Lease, now: float, seconds: float) -> Lease:
        with self.transaction() as connection:
            writes.prove(connection, lease.epoch)
            connection.execute(text("UPDATE lease SET expires_at = :end"), {"end": now + seconds})
            # A hung process that has lost the lease keeps the process lock until it ends: try again to take the lock.
            self._proof.take()
        return dataclasses.replace(lease, expires_at=now + seconds)

    def release(self, lease: Lease) -> None:
        with self.transaction() as connection:
            connection.execute(
                text("UPDATE lease SET holder = '', expires_at = 0 WHERE epoch = :epoch"), {"epoch": lease.epoch}
            )
        self._proof.give()

    def lease(self) -> Lease | None:
        if self._proof.unheld():
            return None
        with self.reading() as connection:
            return writes.lease(connection)

    # Records

    def save(self, records: Sequence[R], *, epoch: int | None = None, limits: OwnerLimits = UNLIMITED) -> tuple[R, ...]:
        owners = (
            {each.owner for each in records if isinstance(each, Job | Run | Upload)} if limits != UNLIMITED else set()
        )
        with self.transaction(stored := list[R]()) as connection:
            if epoch is not None:
                writes.prove(connection, epoch)
            before = {owner: writes.usage(connection, owner) for owner in owners}
            stored.extend(writes.put(connection, item) for item in records)
            for owner in owners:
                limits.check(owner, before[owner], writes.usage(connection, owner))
        return tuple(stored)

    def changes(self) -> int:
        if not self.file.present:
            return GONE
        # Always use the same connection: values of data_version from different connections cannot be compared.
        with self.watching:
            return int(self.watch.execute("PRAGMA data_version").fetchone()[0])

    def live(self) -> Live:
        self.file.check()
        with self.writing:
            self.writer.exec_driver_sql("BEGIN")
            try:
                version = self.writer.exec_driver_sql("PRAGMA data_version").scalar_one()
                if version != self._mirrored:
                    self._cache.catch_up(self.writer)
                    self._mirrored = version
            finally:
                self.writer.rollback()
            return self._cache.live()

    def job(self, owner: str, name: str) -> Job | None:
        return self._one(Job, "SELECT body FROM job WHERE owner = ? AND name = ? AND NOT deleted", owner, name)

    def job_by_id(self, id: str) -> Job | None:
        return self._one(Job, "SELECT body FROM job WHERE id = ? AND NOT deleted", id)

    def jobs(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        return self._jobs(col(tables.JobRow.deleted).is_(False), owners)

    def scheduled(self, owners: Collection[str] | None = None) -> tuple[Job, ...]:
        return self._jobs(col(tables.JobRow.scheduled), owners)

    def _jobs(self, which: Any, owners: Collection[str] | None) -> tuple[Job, ...]:
        row = tables.JobRow
        query = of_owners(select(row.body).where(which), row, owners)
        return self.find(Job, query.order_by(col(row.owner), col(row.name)))

    def run(self, id: str) -> Run | None:
        return self._one(Run, "SELECT body FROM run WHERE id = ?", id)

    def runs_like(self, prefix: str, owners: Collection[str] | None = None) -> tuple[Run, ...]:
        row = tables.RunRow
        # A range instead of LIKE, which would read all ids.
        query = select(row.body).where(col(row.id) >= prefix, col(row.id) < prefix + LAST)
        return self.find(Run, of_owners(query, row, owners).order_by(row.id).limit(3))

    def runs(self, which: RunFilter = NEWEST) -> tuple[Run, ...]:
        row = tables.RunRow
        query = of_owners(older(select(row.body), row.created_at, row.id, which.after), row, which.owners)
        for name, column in tables.FILTERED.items():
            if wanted := getattr(which, name):
                query = query.where(col(column) == wanted if isinstance(wanted, str) else col(column).in_(wanted))
        if which.states and State.DONE not in which.states:
            # Unfinished runs are found in an index of their own, however many runs have ended.
            query = query.where(col(row.done).is_(False))
        return self.find(Run, query.limit(which.limit))

    def outcomes(self) -> Mapping[Outcome, int]:
        with self.reading() as connection:
            counted = connection.execute(text("SELECT outcome, count(*) FROM run WHERE outcome <> '' GROUP BY outcome"))
            return {Outcome(outcome): count for outcome, count in counted}

    def add_run(self, run: Run, since: float, also: Sequence[Record] = (), limits: OwnerLimits = UNLIMITED) -> Run:
        found = self.starts.ask((run, since, also, limits))
        if isinstance(found, LimitReached):
            raise found
        return found

    def _add_runs(self, asked: Sequence[_Start]) -> Sequence[Run | LimitReached]:
        """Return the stored runs, or LimitReached in place of a run: raising it would roll back the other starts."""
        found = list[Run | LimitReached]()
        with self.transaction(stored := list[Record]()) as connection:
            for run, since, also, limits in asked:
                known = writes.same_key(connection, run, since) if run.idempotency_key else None
                try:
                    if known is None and limits != UNLIMITED:
                        writes.check_start(connection, run, limits)
                except LimitReached as error:
                    found.append(error)
                    continue
                if known is None:
                    writes.use_upload(connection, run)
                    known = writes.put(connection, run)
                    stored += [known, *(writes.put(connection, item) for item in also)]
                found.append(known)
        return found

    def nodes(self, *runs: str) -> tuple[Node, ...]:
        row = tables.NodeRow
        query = select(row.body).where(col(row.run).in_(runs))
        return self.find(Node, query.order_by(col(row.run), col(row.attempt), col(row.rank)))

    def machines(self, ids: Collection[str]) -> tuple[KnownMachine, ...]:
        row = tables.MachineRow
        return self.find(KnownMachine, select(row.body).where(col(row.id).in_(ids)))

    def spent(self, begins: float, ends: float) -> float:
        query = (
            "SELECT total(hourly * (min(used_until, :ends) - max(used_from, :begins))) / 3600 FROM machine "
            "WHERE ended = 1 AND used_until > :begins AND used_from < :ends"
        )
        with self.reading() as connection:
            return float(connection.execute(text(query), {"begins": begins, "ends": ends}).scalar_one())

    def launch(self, id: str) -> Launch | None:
        found = self.find(Launch, select(tables.LaunchRow.body).where(tables.LaunchRow.id == id))
        return found[0] if found else None

    def events(self, run: str) -> tuple[Event, ...]:
        row = tables.EventRow
        return self.find(Event, select(row.body).where(row.run == run).order_by(col(row.at), text("rowid")))

    def token(self, id: str) -> Token | None:
        return self._one(Token, "SELECT body FROM token WHERE id = ?", id)

    def tokens(self) -> tuple[Token, ...]:
        row = tables.TokenRow
        return self.find(Token, select(row.body).order_by(col(row.created_at).desc(), col(row.id).desc()))

    def session(self, id: str) -> Session | None:
        return self._one(Session, "SELECT body FROM session WHERE id = ?", id)

    def drop_sessions(self, before: float, id: str = "") -> None:
        with self.transaction() as connection:
            query = "DELETE FROM session WHERE expires_at < :before OR id = :id"
            connection.execute(text(query), {"before": before, "id": id})

    def audit(self, limit: int, before: Key | None = None) -> tuple[Audit, ...]:
        row = tables.AuditRow
        return self.find(Audit, older(select(row.body), row.at, row.id, before).limit(limit))

    def _one(self, kind: type[R], query: str, *values: str) -> R | None:
        """Return the record that a query finds, or None.

        The query bypasses SQLAlchemy, which would take most of the time: the API calls this method most often.
        """
        self.file.check()
        with self.watching:
            found = self.watch.execute(query, values).fetchall()
        return decoded(kind, found[0][0]) if found else None

    def find(self, kind: type[R], query: Any) -> tuple[R, ...]:
        with self.reading() as connection:
            return all_of(connection, kind, query)

    # Cached values

    def remembered(self, key: str) -> tuple[str, float] | None:
        with self.reading() as connection:
            row = connection.execute(
                text("SELECT value, stored_at FROM note WHERE key = :key"), {"key": key}
            ).one_or_none()
            return (row.value, row.stored_at) if row else None

    def chosen(self, what: str) -> str:
        found = self.remembered(f"chosen {what}")
        return found[0] if found else ""

    def choose(self, what: str, value: str, also: Sequence[Record] = ()) -> None:
        with self.transaction(stored := list[Record]()) as connection:
            writes.note(connection, f"chosen {what}", value, 0.0)
            stored.extend(writes.put(connection, item) for item in also)

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the store to a new file, while other processes read and write the store.

        Raises Transient if the copy cannot be written.
        """
        private.make_file(path)
        with self.reading() as connection:
            # VACUUM cannot run in a transaction; it begins its own.
            connection.rollback()
            try:
                connection.execute(text("VACUUM INTO :path"), {"path": str(path)})
            except sqlalchemy.exc.OperationalError as error:
                raise Transient(f"the store cannot be copied to {path}: {error.orig}") from error

    def remember(self, key: str, value: str, now: float) -> None:
        with self.transaction() as connection:
            writes.note(connection, key, value, now)
