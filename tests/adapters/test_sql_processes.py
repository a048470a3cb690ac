"""Several processes use one store file: leases, migrations, copies."""

import contextlib
import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapters.sql.store import SqlStore
from provisioner.core.errors import Conflict, WrongStore
from provisioner.core.run.records import Event, Record
from provisioner.rehearsal.fakes.clock import CountingIds
from tests.polling import until
from tests.support.stored import run

RUN = run()


def test_changes_differs_after_another_store_writes(path: Path, store: SqlStore) -> None:
    """changes() is constant until another store on the same file writes."""
    other = SqlStore(path, CountingIds())
    before = store.changes()
    assert store.changes() == before
    other.save([RUN])
    after = store.changes()
    assert after != before
    assert store.changes() == after
    assert store.run("r1") is not None
    other.close()


def test_two_stores_never_write_over_each_other(path: Path, store: SqlStore) -> None:
    """When several stores change one record at the same time, no change is lost."""
    other = SqlStore(path, CountingIds())
    store.save([RUN])

    def count(mine: SqlStore) -> None:
        for _ in range(20):
            while True:
                run = mine.run("r1")
                assert run
                try:
                    mine.save([replace(run, retries_used=run.retries_used + 1)])
                    break
                except Conflict:
                    continue

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(count, mine) for mine in (store, other, store, other)]:
            done.result()
    run = store.run("r1")
    assert run
    assert (run.retries_used, run.version) == (80, 81)
    other.close()


#: A process that takes the lease, prints its epoch, and runs until its stdin is closed.
_HOLDER = """
import sys
from pathlib import Path
from provisioner.adapters.sql.store import SqlStore
from provisioner.rehearsal.fakes.clock import CountingIds
store = SqlStore(Path(sys.argv[1]), CountingIds())
print(store.acquire("child", "daemon", 100.0, 60.0).epoch, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(store: SqlStore) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lease from time 100 to 160."""
    command = [sys.executable, "-c", _HOLDER, str(store.engine.url.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_the_lease_of_a_killed_process_is_free_at_once(store: SqlStore, holder: subprocess.Popen[str]) -> None:
    """The kernel releases the lock of a dead process, so its lease need not expire."""
    held = store.lease()
    assert held
    assert held.holder == "child"
    assert store.acquire("me", "daemon", now=101, seconds=60) is None
    holder.kill()
    holder.wait()
    assert store.lease() is None
    lease = store.acquire("me", "daemon", now=102, seconds=60)
    assert lease
    assert lease.epoch == 2


def test_the_lease_of_a_hung_process_expires(path: Path, store: SqlStore, holder: subprocess.Popen[str]) -> None:
    """While the holder lives, others get the lease only after it has expired. The successor keeps it afterwards."""
    assert store.acquire("me", "daemon", now=159, seconds=60) is None
    lease = store.acquire("me", "daemon", now=161, seconds=60)
    assert lease
    holder.kill()
    holder.wait()
    store.renew(lease, now=162, seconds=60)
    third = SqlStore(path, CountingIds())
    held = third.lease()
    assert held
    assert held.holder == "me"
    assert third.acquire("third", "daemon", now=163, seconds=60) is None
    third.close()


def test_processes_that_open_a_new_store_at_once_share_it(path: Path) -> None:
    """One process creates the tables and the id; the others use them."""
    command = [sys.executable, "-c", _HOLDER, str(path)]
    end: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **end) for _ in range(3)]
    epochs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(epochs) == ["1\n", "2\n", "3\n"]


def test_a_store_that_another_version_has_migrated_is_written_no_more(store: SqlStore, path: Path) -> None:
    """The old daemon would write records that the new version does not expect. Reads are not refused."""
    store.save([RUN])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE newer (id TEXT)")
        # A schema change that leaves the version as it is, an index for example, is harmless.
        assert store.save([replace(RUN, id="r2")])
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.execute("CREATE TABLE newest (id TEXT)")
    for call in (lambda: store.save([replace(RUN, id="r3")]), lambda: store.acquire("old", "daemon", 1.0, 60.0)):
        with pytest.raises(WrongStore, match="Restart it with the new version"):
            call()
    assert store.run("r3") is None


def test_a_copy_is_consistent_while_others_write(store: SqlStore, tmp_path: Path) -> None:
    """Each run is stored together with an event: a copy has both or neither."""
    over = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            id = f"run-{number:05}"
            records: list[Record] = [replace(RUN, id=id), Event(f"e{number}", id, 1.0, "queued")]
            store.save(records)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(5):
            until(lambda number=number: len(store.live().runs) > 20 * number, "more runs")  # type: ignore[misc]
            copy = tmp_path / f"copy-{number}"
            store.backup(copy)
            with contextlib.closing(sqlite3.connect(copy)) as found:
                runs, events = (
                    found.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("run", "event")
                )
                assert runs == events
                assert runs > 0
                assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        over.set()
        writing.join()
