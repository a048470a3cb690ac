"""Uploads in the SQLite store: the migration, and several processes."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.commands.uploads import Upload
from provisioner.core.errors import NotFound
from provisioner.core.protocol.codec import encode
from provisioner.core.run.records import Record
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.support.lists import a_list
from tests.support.stored import run

UPLOAD = Upload("u1", "ann", 1.0, 12, 900, (0,), "5e", 20)

#: A run and its list as version 0005 stored them.
_OLD = """
INSERT INTO run (id, version, body, job_id, job_name, key, created_at, done, owner, state, outcome, size)
VALUES ('r1', 1, json_remove(:run, '$.upload'), 'j1', 'train', '', 1.0, 0, 'ann', 'running', '', 9);
INSERT INTO command_list VALUES ('r1', 1, json_remove(:list, '$.batch_most'));
"""


def test_a_store_of_the_version_before_is_migrated(path: Path) -> None:
    """Its lists come from their recipes, and go on; uploads can be stored and used."""
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    config = Config()
    config.set_main_option("script_location", "provisioner.adapters.sql:migrations")
    config.attributes["engine"] = engine
    command.upgrade(config, "0005")
    engine.dispose()
    old, its = replace(run(), commands=12, version=1), replace(a_list(), version=1)
    with sqlite3.connect(path) as connection:
        for statement in _OLD.split(";"):
            connection.execute(statement, {"run": encode(old).decode(), "list": encode(its).decode()})
    connection.close()

    store = SqlStore(path, CountingIds())
    live = store.live()
    assert (live.runs, live.lists) == ((old,), (its,))
    assert (old.upload, its.batch_most) == ("", None)
    store.save([replace(its, next=4)])
    store.save([UPLOAD])
    made = store.add_run(replace(run("r2"), commands=12, upload="u1"), 0.0, [replace(a_list(), id="r2")])
    store.close()
    again = SqlStore(path, CountingIds())
    assert (again.run("r2"), again.upload("u1")) == (made, replace(UPLOAD, version=1))
    assert again.unused_uploads(9.0, 9) == ()
    again.close()


def test_a_run_and_the_end_of_its_upload_exclude_each_other(pair: tuple[SqlStore, SqlStore]) -> None:
    """Two processes share the file: one starts a run, the other deletes old uploads."""
    one, other = pair
    records: list[Record] = [UPLOAD, replace(UPLOAD, id="u2")]
    one.save(records)
    one.add_run(replace(run(), upload="u1"), 0.0)
    assert [other.drop_upload(id) for id in ("u1", "u2")] == [False, True]
    with pytest.raises(NotFound):
        one.add_run(replace(run("r2"), upload="u2"), 0.0)
