"""The SQLite store as a file: durability, several processes, migrations."""

import contextlib
import fcntl
import re
import sqlite3
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import SQLModel

from provisioner.adapters.sql import tables
from provisioner.adapters.sql.store import SqlStore
from provisioner.core.access.owner_limits import OwnerLimits
from provisioner.core.cloud.offers import Market, Offer
from provisioner.core.errors import Conflict, Invalid, LimitReached, Transient
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.messages import Notice, Report, Span
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.recipe.jobs import Job, Schedule
from provisioner.core.run.machines.messages import CLOCK_SKEW
from provisioner.core.run.records import Drought, Event, KnownMachine, Node, Record, Run, TemplateHealth, Verdict
from provisioner.core.run.states import State
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.polling import until
from tests.support.any_message import values

NUMBERS = CountingIds()
RUN = Run("r1", "j1", "train", 1, "ann", "{}", 1.0)


def test_full_disk_is_transient_and_stores_nothing(store: SqlStore) -> None:
    """A failed write stores nothing, reads still work, and the error has no data of the client."""

    def bound(pages: int) -> None:
        store.writer.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    store.add_run(RUN, since=0.0)
    bound(store.writer.exec_driver_sql("PRAGMA page_count").scalar_one())
    large = replace(RUN, id="large", recipe="x" * 100_000, idempotency_key="marker of a client")
    with pytest.raises(Transient, match="disk is full") as caught:
        store.add_run(large, since=0.0)
    assert "marker" not in "".join(traceback.format_exception(caught.value))
    assert ([run.id for run in store.live().runs], store.run("large")) == (["r1"], None)
    bound(1 << 30)
    assert store.add_run(large, since=0.0).id == "large"


def test_store_locked_by_another_writer_is_transient(store: SqlStore, path: Path) -> None:
    """A locked store is a transient error."""
    store.writer.exec_driver_sql("PRAGMA busy_timeout = 1")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient, match="locked"):
            store.save([RUN])
        other.execute("ROLLBACK")
    assert store.save([RUN])


def test_waiting_starts_share_one_lock_error(store: SqlStore, path: Path) -> None:
    """Waiting starts share one transaction, so all of them wait for a locked store together."""
    store.writer.exec_driver_sql("PRAGMA busy_timeout = 1")
    begun: list[str] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda _, __, words, *___: begun.append(words))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(10) as pool:
        other.execute("BEGIN IMMEDIATE")
        with store.writing:
            told = [pool.submit(store.add_run, replace(RUN, id=f"run-{number}"), 0.0) for number in range(10)]
            until(lambda: len(store.starts.waiting) == 10, "ten that wait")
        assert all(isinstance(each.exception(), Transient) for each in told)
    assert len([words for words in begun if words.startswith("BEGIN")]) == 1


def test_many_starts_share_a_commit_and_no_error(store: SqlStore) -> None:
    """Starts that arrive during a commit share the next transaction. An error of one start fails only that start."""
    store.add_run(replace(RUN, id="there"), since=0.0)
    begun: list[str] = []
    sqlalchemy.event.listen(store.engine, "before_cursor_execute", lambda _, __, words, *___: begun.append(words))

    def start(number: int) -> str:
        id = "there" if number == 50 else f"run-{number:03}"
        try:
            return store.add_run(replace(RUN, id=id), since=0.0).id
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(40) as pool:
        # While the test holds the lock, all starts wait for it.
        with store.writing:
            told = [pool.submit(start, number) for number in range(100)]
        found = [each.result() for each in told]
    assert found.count("conflict") == 1
    assert found[50] == "conflict"
    assert len(store.runs(RunFilter(limit=1000))) == 100
    assert len([words for words in begun if words.startswith("BEGIN")]) < 100


def test_every_commit_is_on_disk(store: SqlStore) -> None:
    """WAL, synchronous=FULL and the busy timeout hold on every connection that writes."""
    for _ in range(3):
        with store.engine.connect() as connection:
            ask = connection.exec_driver_sql
            assert ask("PRAGMA journal_mode").scalar() == "wal"
            assert ask("PRAGMA synchronous").scalar() == 2
            assert int(ask("PRAGMA busy_timeout").scalar() or 0) >= 10_000
        # The next connect() opens a new connection.
        store.engine.dispose()


def test_a_store_opened_again_is_the_same_store(path: Path) -> None:
    """Id and records stay, and a second opening changes nothing."""
    first = SqlStore(path, CountingIds())
    first.save([RUN])
    first.close()
    ids = CountingIds()
    ids.new()
    second = SqlStore(path, ids)
    assert second.id() == f"{1:032x}"
    assert second.run("r1") == replace(RUN, version=1)
    second.close()


@pytest.mark.parametrize("content", [b"no database, but longer than its header would be" * 3, b"\0" * 4096])
def test_garbage_is_no_store(path: Path, content: bytes) -> None:
    """A file that is not SQLite's is refused, with its path in the error, and stays unchanged."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(Invalid, match=re.escape(str(path))):
        SqlStore(path, CountingIds())
    assert path.read_bytes() == content


def test_a_foreign_database_is_no_store(path: Path) -> None:
    """A database with foreign tables is not used."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE run (mine TEXT)")
    connection.close()
    with pytest.raises(Invalid, match=r"cannot be the store: .*; write another path"):
        SqlStore(path, CountingIds())


def test_a_store_of_a_later_version_is_not_touched(path: Path) -> None:
    """An older program raises an error instead of writing records that a newer one cannot read."""
    SqlStore(path, CountingIds()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Invalid, match=r"cannot be the store: .*; write another path"):
        SqlStore(path, CountingIds())


def test_migrations_make_exactly_the_tables(store: SqlStore) -> None:
    """A migrated file has the columns, keys, indices and affinities of the models."""
    fresh = sqlalchemy.create_engine("sqlite://")
    ours = [model.__table__ for model in vars(tables).values() if hasattr(model, "__table__")]
    SQLModel.metadata.create_all(fresh, ours)
    assert len(ours) == 23

    def shape(engine: sqlalchemy.Engine) -> dict[str, Any]:
        inspector = sqlalchemy.inspect(engine)
        return {
            name: (
                [
                    (column["name"], _affinity(str(column["type"])), column["nullable"])
                    for column in inspector.get_columns(name)
                ],
                inspector.get_pk_constraint(name)["constrained_columns"],
                sorted(
                    (index["name"] or "", tuple(index["column_names"]), index["unique"])
                    for index in inspector.get_indexes(name)
                ),
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }

    assert shape(store.engine) == shape(fresh)
    fresh.dispose()


#: Rows of version 0001: a job with a schedule, one without, and a deleted one; runs in three states.
_OLD = """
INSERT INTO job VALUES
    ('j1', 1, :job, 'ann', 'train', 0),
    ('j2', 1, json_remove(:job, '$.schedule'), 'ann', 'plain', 0),
    ('j3', 1, :job, 'ann', 'train (deleted j3)', 1);
INSERT INTO run VALUES
    ('r1', 1, :run, 'j1', 'train', 'k', 1.0, 0),
    ('r2', 1, json_set(:run, '$.id', 'r2', '$.state', 'stopping', '$.verdict', json(:verdict)),
        'j1', 'train', '', 2.0, 0),
    ('r3', 1, json_set(:run, '$.id', 'r3', '$.state', 'done', '$.verdict', json(:verdict), '$.ended_at', 3.0,
        '$.created_at', 3.0, '$.done_at', 4.0), 'j1', 'train', '', 3.0, 1);
"""


@contextlib.contextmanager
def _migrations(path: Path) -> Iterator[Config]:
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    config = Config()
    config.set_main_option("script_location", "provisioner.adapters.sql:migrations")
    config.attributes["engine"] = engine
    yield config
    engine.dispose()


def test_every_migration_is_noticed_by_processes_that_have_the_store_open(path: Path) -> None:
    """They look for a migration only if SQLite's schema version has changed."""
    with _migrations(path) as config, contextlib.closing(sqlite3.connect(path)) as watching:
        seen = []
        for migration in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
            command.upgrade(config, migration.revision)
            seen.append(watching.execute("PRAGMA schema_version").fetchone()[0])
    assert len(seen) == int(tables.HEAD)
    assert seen == sorted(set(seen))


def test_a_store_of_the_first_version_is_migrated(path: Path) -> None:
    """Every query of the present version finds the migrated records."""
    with _migrations(path) as config:
        command.upgrade(config, "0001")
    job = Job("j1", "ann", "train", "{}", 1, 1.0, 1.0, schedule=Schedule("@daily"), version=1)
    run = replace(RUN, owner="ann", idempotency_key="k", version=1)
    verdict = Verdict(Outcome.FAILED, "1", 2.0)
    values = {name: encode(value).decode() for name, value in (("job", job), ("run", run), ("verdict", verdict))}
    with sqlite3.connect(path) as connection:
        for statement in _OLD.split(";"):
            connection.execute(statement, values)
    connection.close()

    store = SqlStore(path, CountingIds())
    assert store.scheduled() == (job,)
    assert [each.name for each in store.jobs(("ann",))] == ["train", "train"]
    assert store.run("r1") == run

    def ids(**which: Any) -> list[str]:
        return [each.id for each in store.runs(RunFilter(**which))]

    assert ids(owners=("ann",)) == ["r3", "r2", "r1"]
    assert (ids(states=(State.QUEUED,)), ids(states=(State.STOPPING,))) == (["r1"], ["r2"])
    assert ids(outcomes=(Outcome.FAILED,)) == ["r3"]
    assert store.add_run(replace(run, id="r4", version=0), since=0.0) == run
    assert not store.tokens()
    assert not store.audit(9)
    (changed,) = store.save([replace(run, state=State.LAUNCHING)])
    assert store.runs(RunFilter(states=(State.LAUNCHING,))) == (changed,)
    with pytest.raises(LimitReached):
        store.add_run(replace(RUN, id="r5"), since=0.0, limits=OwnerLimits(unfinished_runs=2))
    with pytest.raises(LimitReached):
        store.add_run(replace(RUN, id="r5"), since=0.0, limits=OwnerLimits(stored_bytes=1_000))
    store.close()


def test_every_query_uses_an_index(store: SqlStore) -> None:
    """Each query uses an index, so its cost depends on the rows it returns, not on the size of the table."""
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, values: Any, *___: object) -> None:
        if statement.startswith("SELECT") and "drought" not in statement and "template_health" not in statement:
            asked.append((statement, values))

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", note)
    store.watch.set_trace_callback(lambda statement: note(None, None, statement, ()))
    some = RunFilter("train", "j1", ("ann", "bob"), (State.DONE,), (Outcome.LOST,), (1.0, "r0"))
    store.runs()
    store.runs(some)
    store.runs_like("a", ("ann", "bob"))
    store.add_run(replace(RUN, idempotency_key="k"), since=0.0, limits=OwnerLimits(1, 1 << 20))
    store.scheduled()
    store.scheduled(("ann",))
    store.audit(9, (1.0, "a"))
    store.token("t")
    store.job("ann", "train")
    store.job_by_id("j1")
    store.run("r1")
    store.live()
    store.command_list("r1")
    store.workers("r1")
    store.blocks("r1", [1, 2])
    store.waiting_blocks("r1", 9)
    store.record_chunks("r1", 3, 4)
    store.spent(1.0, 2.0)
    sqlalchemy.event.remove(store.engine, "before_cursor_execute", note)
    store.watch.set_trace_callback(None)
    assert len(asked) >= 22
    with store.engine.connect() as connection:
        for statement, values in asked:
            for *_, step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values):
                assert "INDEX" in step or "LIST SUBQUERY" in step, statement


def test_lease_query_does_not_break_a_concurrent_acquire(
    path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lease() must not release the lock that another thread acquires at the same moment."""
    unlock, acting = fcntl.flock, threading.Thread(target=lambda: store.acquire("a", "daemon", 1.0, 60.0))

    def interrupted(file: Any, how: int) -> None:
        if how == fcntl.LOCK_UN and not acting.ident:
            acting.start()
            # acquire() waits for the lock, or returns within this time.
            acting.join(0.3)
        unlock(file, how)

    monkeypatch.setattr(fcntl, "flock", interrupted)
    assert store.lease() is None
    acting.join()
    other = SqlStore(path, CountingIds())
    found, stolen = other.lease(), other.acquire("b", "daemon", 2.0, 60.0)
    other.close()
    assert found
    assert (found.holder, stolen) == ("a", None)


def test_the_runs_of_a_job_are_looked_for_among_its_own(store: SqlStore) -> None:
    """A list of jobs runs this query for each job, and other jobs may have a hundred thousand runs."""
    asked = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        asked.append((statement, values))

    with store.engine.connect() as connection:
        sqlalchemy.event.listen(store.engine, "before_cursor_execute", note)
        store.runs(RunFilter(job_id="j1", owners=("ann",), states=(State.QUEUED, State.RUNNING)))
        store.runs(RunFilter(job_id="j1", limit=1))
        sqlalchemy.event.remove(store.engine, "before_cursor_execute", note)
        for statement, values in [each for each in asked if "SELECT" in each[0]]:
            steps = [step for *_, step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert steps[0] == "SEARCH run USING INDEX run_job (job_id=?)"


def _affinity(name: str) -> str:
    """Return the affinity of a column's type (SQLite documentation, "Determination Of Column Affinity")."""
    return "TEXT" if "CHAR" in name or "TEXT" in name else name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(record=st.one_of(*map(values, (Run, KnownMachine, Drought, TemplateHealth, Event))))
def test_any_record_survives_the_file(store: SqlStore, record: Record) -> None:
    """A record is read back exactly as it was saved, whatever its fields hold."""
    # Only the key is replaced, with one that no earlier example used.
    key = NUMBERS.new()
    mine: dict[str, Any] = {"zone": key} if isinstance(record, Drought) else {"id": key}
    record = replace(record, version=0, **mine)
    (saved,) = store.save([record])
    live = store.live()
    found = (*live.runs, *live.machines, *live.droughts, *live.templates, *store.machines([record.id]))
    found += (*store.events(record.run),) if isinstance(record, Event) else (store.run(record.id),)
    assert saved in found


def test_a_failed_write_leaves_the_store_usable(store: SqlStore) -> None:
    """After an error inside a transaction, the next transaction works."""
    store.save([RUN])
    machine = KnownMachine("i-1", "l1", Offer(Market.SPOT, "t", "z"), 1.0)
    both: list[Record] = [machine, RUN]
    with pytest.raises(Conflict):
        store.save(both)
    assert store.machines(["i-1"]) == ()
    assert store.save([machine])


@pytest.mark.parametrize("at", [-9e15, 9e15])
def test_times_that_an_earlier_release_stored_are_clamped_when_they_are_read(path: Path, at: float) -> None:
    """Times that machines reported are clamped in live() and in nodes()."""
    told = Report(1, at, "p", Step.COMMAND, {"command": Span(at)}, notice=Notice(at, at))
    node = Node("r1.1.0", "r1", 1, 0, "l", "t", "i-1", "A:i-1", 1e9, 1, report=told, reported_at=1e9)
    with contextlib.closing(SqlStore(path, CountingIds())) as store:
        store.save([RUN])
        store.save([node])
    with contextlib.closing(SqlStore(path, CountingIds())) as store:
        for found in (store.live().nodes[0], store.nodes("r1")[0]):
            assert found.report
            assert found.report.notice
            for each in (found.report.at, found.report.spans["command"].began, found.report.notice.at):
                assert abs(each - 1e9) <= CLOCK_SKEW
