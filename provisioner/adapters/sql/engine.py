"""Open the SQLite file, migrate it, and recognise its temporary errors."""

import errno
import sqlite3
from typing import TypeGuard

import sqlalchemy
from sqlalchemy import Engine, event, text

from provisioner.adapters.sql import tables
from provisioner.adapters.sql.file import StoreFile
from provisioner.core.errors import Invalid

#: KiB of the page cache of each connection. SQLite's default of 2 MB would take 30 MB in a server with 15 threads, and
#: the kernel keeps the file's pages in memory anyway (sqlite.org, "PRAGMA cache_size").
CACHE_KIB = 512
#: Seconds that a writer waits for another writer's transaction; the transactions of this program take milliseconds.
BUSY_SECONDS = 30


#: Codes of temporary errors: the disk is full or fails, or another process writes for too long (SQLite, "Result
#: Codes").
PASSING = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN}
)


#: The codes of PASSING that a full or failing disk causes.
FAILING_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})


#: errno values (errno(3)) of a path that cannot be opened until its owner corrects the path or its permissions.
WRONG_FILE = frozenset(
    {errno.EACCES, errno.ENOENT, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


def is_passing(error: BaseException) -> TypeGuard[sqlalchemy.exc.OperationalError]:
    cause = error.orig if isinstance(error, sqlalchemy.exc.OperationalError) else None
    # The last byte of an extended code is the primary code.
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF in PASSING


def open_engine(file: StoreFile) -> Engine:
    """Return an engine for the file; each thread has its own connection."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{file.real}",
        creator=lambda: file.connect(timeout=BUSY_SECONDS),
        isolation_level="AUTOCOMMIT",
        # Parameters contain the variables of jobs, and error messages are logged.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    return engine


def migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        known = sqlalchemy.inspect(connection).has_table("alembic_version")
        current = connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None
    if current == tables.HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "provisioner.adapters.sql:migrations")
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Invalid(
            f"this version of provision does not know its schema ({error}): install the newer version that made it"
        ) from error
