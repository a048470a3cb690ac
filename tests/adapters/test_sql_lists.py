"""Lists of commands in the SQLite store: the migration, and several processes."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.commands.records import Block
from provisioner.core.errors import Conflict
from provisioner.core.protocol.codec import encode
from provisioner.core.run.records import Record
from provisioner.core.run.states import State
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.support.lists import a_list, batch, worker
from tests.support.stored import node, run

#: A run and its node as version 0004 stored them: the run has no field `commands`.
_OLD = """
INSERT INTO run (id, version, body, job_id, job_name, key, created_at, done, owner, state, outcome, size)
VALUES ('r1', 1, json_remove(:run, '$.commands'), 'j1', 'train', '', 1.0, 0, 'ann', 'running', '', 9);
INSERT INTO node VALUES ('r1.1.0', 1, :node, 'r1', 1, 0);
"""


def test_a_store_of_the_version_before_is_migrated(path: Path) -> None:
    """Its runs have no list, and go on; lists can be stored."""
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    config = Config()
    config.set_main_option("script_location", "provisioner.adapters.sql:migrations")
    config.attributes["engine"] = engine
    command.upgrade(config, "0004")
    engine.dispose()
    old, its = replace(run(), state=State.RUNNING, version=1), replace(node(), version=1)
    with sqlite3.connect(path) as connection:
        for statement in _OLD.split(";"):
            connection.execute(statement, {"run": encode(old).decode(), "node": encode(its).decode()})
    connection.close()

    store = SqlStore(path, CountingIds())
    live = store.live()
    assert (live.runs, live.nodes, live.lists, live.workers, live.batches) == ((old,), (its,), (), (), ())
    assert (old.commands, old.together) == (0, 1)
    assert store.command_list("r1") is None
    store.save([replace(old, state=State.STOPPING)])
    made = store.add_run(replace(run("r2"), commands=12), 0.0, [replace(a_list(), id="r2")])
    store.close()
    again = SqlStore(path, CountingIds())
    assert [each.id for each in again.live().lists] == ["r2"]
    assert again.run("r2") == made
    again.close()


def test_two_stores_on_one_file_see_each_others_lists(pair: tuple[SqlStore, SqlStore]) -> None:
    """Open batches come and go; the list and its workers leave with their run."""
    one, other = pair
    assert one.live().lists == other.live().lists == ()
    records: list[Record] = [run(), a_list(), worker(), batch((0, 2, 1)), batch((2, 2, 1), number=2)]
    made, *_ = other.save(records)
    assert (len(one.live().lists), len(one.live().workers), len(one.live().batches)) == (1, 1, 2)
    one.save([replace(batch((0, 2, 1)), left=0, closed_at=2.0, version=1)])
    other.save([replace(a_list(), next=4, version=1)])
    assert one.live() == other.live()
    assert ([each.number for each in one.live().batches], one.live().lists[0].next) == ([2], 4)
    closing: list[Record] = [replace(run(), done_at=3.0, version=made.version)]
    closing.append(replace(batch((2, 2, 1), number=2), left=0, closed_at=2.0, version=1))
    other.save(closing)
    assert one.live() == other.live()
    live = one.live()
    assert (live.lists, live.workers, live.batches) == ((), (), ())


def test_the_second_of_two_passes_writes_nothing(pair: tuple[SqlStore, SqlStore]) -> None:
    """Both read the list before either handed out its commands."""
    one, other = pair
    one.save([a_list()])
    first: list[Record] = [
        replace(a_list(), next=2, version=1),
        batch((0, 2, 1)),
        Block("r1.000000", "r1", 0, b"", b""),
    ]
    one.save(first)
    with pytest.raises(Conflict):
        other.save([*first[:1], batch((0, 2, 1), node="r1.2.0")])
    assert [each.node for each in other.live().batches] == ["r1.1.0"]
