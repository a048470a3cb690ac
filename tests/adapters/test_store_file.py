"""The store's files: their permissions, and moves while a process has them open."""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.adapters.keys import DerivedKeys
from provisioner.adapters.sql.file import StoreFile
from provisioner.adapters.sql.store import SqlStore
from provisioner.core.errors import Invalid, Transient
from provisioner.core.run.records import Run
from provisioner.rehearsal.fakes.clock import CountingIds

RUN = Run("r1", "j1", "train", 1, "ann", "{}", 1.0)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Set the usual umask, with which other users can read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "deep" / "deeper" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    made = SqlStore(path, CountingIds())
    yield made
    made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def replaced(path: Path) -> Path:
    """Move the store away, put a new store with another run in its place, and return the old store's path."""
    away = path.with_name("away.db")
    path.rename(away)
    other = SqlStore(path.with_name("other.db"), CountingIds())
    other.save([replace(RUN, id="theirs")])
    other.close()
    path.with_name("other.db").rename(path)
    return away


def test_files_and_folders_of_a_new_store_are_its_owners_alone(path: Path, store: SqlStore) -> None:
    """The database, its WAL and shared memory files, the lease, and each folder made for them are private."""
    store.save([RUN])
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == ["store.db", "store.db-shm", "store.db-wal", "store.db.lease"]
    assert {mode(path.with_name(name)) for name in files} == {0o600}
    assert (mode(path.parent), mode(path.parents[1]), mode(path.parents[2])) == (0o700, 0o700, 0o755)


def test_files_of_an_older_store_are_restricted_when_it_is_opened(path: Path) -> None:
    """Other files in the folder, and the folder itself, keep their modes: other users may need them."""
    SqlStore(path, CountingIds()).close()
    beside = path.with_name("notes.txt")
    beside.touch()
    path.parent.chmod(0o755)
    with contextlib.closing(SqlStore(path, CountingIds())) as older:
        older.save([RUN])
        for each in path.parent.iterdir():
            each.chmod(0o644)
        with contextlib.closing(SqlStore(path, CountingIds())) as store:
            assert store.run("r1")
            ours = {each.name: mode(each) for each in path.parent.iterdir() if each != beside}
    assert ours == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db.lease"), 0o600)
    assert (mode(beside), mode(path.parent)) == (0o644, 0o755)


def test_folder_made_for_the_secret_of_ssh_keys_is_private(path: Path) -> None:
    """The folder of the secret may be made before the folder of the store."""
    key = path.with_suffix(".key")
    DerivedKeys(key).public("r1", 1)
    assert (mode(key), mode(key.parent), mode(key.parents[1])) == (0o600, 0o700, 0o700)


CALLS: dict[str, Callable[[SqlStore], object]] = {
    "start": lambda store: store.add_run(replace(RUN, id="r2"), since=0.0),
    "save": lambda store: store.save([replace(RUN, id="r2")]),
    "acquire": lambda store: store.acquire("me", "daemon", 1.0, 60.0),
    "live": lambda store: store.live(),
    "run": lambda store: store.run("r1"),
    "runs": lambda store: store.runs(),
    "token": lambda store: store.token("t"),
    "remember": lambda store: store.remember("key", "value", 1.0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("befalls", [replaced, lambda path: path.rename(path.with_name("away.db"))])
def test_store_whose_file_was_moved_away_answers_nothing_until_it_is_back(
    path: Path, store: SqlStore, befalls: Callable[[Path], Path], call: Callable[[SqlStore], object]
) -> None:
    """No record is written to another or a new file, and none is read from such a file."""
    store.save([RUN])
    before = store.changes()
    away = befalls(path)
    # The pool opens connections by path: drop the open ones.
    store.engine.dispose()
    with pytest.raises(Transient):
        call(store)
    assert store.changes() != before
    if path.exists():
        with contextlib.closing(sqlite3.connect(path.rename(path.with_name("other.db")))) as other:
            assert other.execute("SELECT id FROM run").fetchall() == [("theirs",)]
    away.rename(path)
    assert [run.id for run in store.runs()] == ["r1"]
    call(store)


def test_store_file_that_is_replaced_within_a_transaction_is_noticed(path: Path, store: SqlStore) -> None:
    """A commit to a file that is no longer at the path must not be reported as stored."""
    with pytest.raises(Transient), store.transaction():
        replaced(path)


def test_connection_that_is_opened_after_the_file_vanished_makes_no_file(path: Path, store: SqlStore) -> None:
    """The pool may open a connection by path at any time, also after the file has vanished."""
    store.save([RUN])
    store.engine.dispose()
    check, looked, away = StoreFile.check, list[int](), list[Path]()

    def replacing(file: StoreFile) -> None:
        check(file)
        if file is store.file:
            looked.append(1)
            # The first check is the call's; the second is made before the connection is opened.
            if len(looked) == 2:
                away.append(path.rename(path.with_name("away.db")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreFile, "check", replacing)
        with pytest.raises(Transient):
            store.runs()
    assert not path.exists()
    away[0].rename(path)
    assert [run.id for run in store.runs()] == ["r1"]


@pytest.mark.parametrize("left", [".lease", "-wal"])
def test_missing_store_that_left_files_behind_is_refused_and_not_made_anew(path: Path, left: str) -> None:
    """A new, empty store would start every schedule again, and SQLite would apply the old WAL to it."""
    path.parent.mkdir(parents=True)
    path.with_name(path.name + left).touch()
    with pytest.raises(Invalid):
        SqlStore(path, CountingIds())
    assert not path.exists()


def test_lease_file_that_was_removed_is_made_again_and_locked(path: Path, store: SqlStore) -> None:
    """Other processes lock the new file, so the holder of the old lock must lock the new file too."""
    lease = store.acquire("me", "daemon", 1.0, 60.0)
    assert lease
    path.with_name("store.db.lease").unlink()
    store.renew(lease, 2.0, 60.0)
    with path.with_name("store.db.lease").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_store_behind_a_link_is_one_store_with_one_lease(path: Path, store: SqlStore, tmp_path: Path) -> None:
    """SQLite keeps its WAL beside the real file; the lock is there too, whichever path is used."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    assert store.acquire("me", "daemon", 1.0, 60.0)
    with contextlib.closing(SqlStore(link, CountingIds())) as other:
        assert other.acquire("other", "daemon", 2.0, 60.0) is None
