"""The cost of machines in the SQLite store: the migration."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config

from provisioner.adapters.sql.store import SqlStore
from provisioner.adapters.sql.usage import UNACCOUNTED
from provisioner.core.cloud.offers import Market, Offer, Price
from provisioner.core.protocol.codec import encode
from provisioner.core.run.records import KnownMachine
from provisioner.rehearsal.fakes.clock import CountingIds


def _upgrade(path: Path, revision: str) -> None:
    """Make a store of an earlier version."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    config = Config()
    config.set_main_option("script_location", "provisioner.adapters.sql:migrations")
    config.attributes["engine"] = engine
    command.upgrade(config, revision)
    engine.dispose()


def test_ended_machines_of_the_version_before_count_after_the_migration(path: Path) -> None:
    """Otherwise the day of the upgrade could cost twice the cap."""
    path.parent.mkdir()
    _upgrade(path, "0006")
    price = Price(3600.0, "test", 1.0)
    ended = KnownMachine(
        "i-1", "l1", Offer(Market.SPOT, "t", "z"), 1.0, launch_time=1000.0, ended_at=1300.0, price=price
    )
    machines = (ended, replace(ended, id="i-2", ending_at=1010.0), replace(ended, id="i-3", price=None))
    rows = [{"id": each.id, "body": encode(replace(each, version=1)).decode(), "ended": 1} for each in machines]
    alive = encode(replace(ended, id="i-4", ended_at=None, version=1)).decode()
    with sqlite3.connect(path) as connection:
        for each in [*rows, {"id": "i-4", "body": alive, "ended": 0}]:
            connection.execute("INSERT INTO machine (id, version, body, ended) VALUES (:id, 1, :body, :ended)", each)
    connection.close()
    with contextlib.closing(SqlStore(path, CountingIds())) as store:
        assert store.spent(0.0, 5000.0) == 300.0 + 60.0


def test_machines_of_the_version_before_are_found_to_be_accounted_for(path: Path) -> None:
    """Passes account for them in steps: an upgrade must not take minutes."""
    path.parent.mkdir()
    _upgrade(path, "0008")
    ended = KnownMachine("i-1", "l1", Offer(Market.SPOT, "t", "z"), 1.0, ended_at=1300.0)
    with sqlite3.connect(path) as connection:
        for each in (ended, replace(ended, id="i-2", ended_at=None)):
            row = (each.id, encode(replace(each, version=1)).decode(), each.ended_at is not None)
            connection.execute("INSERT INTO machine (id, version, body, ended) VALUES (?, 1, ?, ?)", row)
    connection.close()
    with contextlib.closing(SqlStore(path, CountingIds())) as store:
        assert store.unaccounted(10) == ("i-1",)


def test_usage_is_read_without_reading_runs_or_machines(store: SqlStore) -> None:
    """However many runs there were: only the rows of the period's days are read, and no sums are sorted by day."""
    sums = "SELECT owner, sum(dollars) FROM usage WHERE day BETWEEN 1 AND 9 GROUP BY owner"
    plans = {sums: "SEARCH usage USING PRIMARY KEY", UNACCOUNTED: "USING INDEX machine_unaccounted"}
    for query, plan in plans.items():
        with store.reading() as connection:
            told = " ".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}"))
        assert plan in told
