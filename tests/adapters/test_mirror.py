"""The store's cache of live records equals the file, whichever process wrote it."""

from dataclasses import replace

import pytest

from provisioner.adapters.sql.live_cache import LiveCache
from provisioner.adapters.sql.store import SqlStore
from provisioner.core.errors import Conflict
from provisioner.core.run.records import Node, Record, Run

RUN = Run("r1", "j1", "train", 1, "ann", "{}", 1.0)
NODE = Node("r1.1.0", "r1", 1, 0, "l1", "t1", "i-1", "box", 1.0, 1)


def test_two_stores_on_one_file_see_each_others_writes(pair: tuple[SqlStore, SqlStore]) -> None:
    """New, changed and finished runs, and their nodes, are seen by a store that has already filled its cache."""
    one, other = pair
    assert one.live().runs == other.live().runs == ()
    (run,), (node,) = other.save([RUN]), other.save([NODE])
    assert (one.live().runs, one.live().nodes) == ((run,), (node,))
    (changed,) = one.save([replace(run, attempt=1)])
    assert other.live().runs == one.live().runs == (changed,)
    other.save([replace(changed, done_at=2.0)])
    assert one.live() == other.live()
    assert one.live().nodes == ()


def test_a_write_that_failed_leaves_no_trace(pair: tuple[SqlStore, SqlStore]) -> None:
    """The cache has no record of the refused save, but has the other store's write that caused the conflict."""
    one, other = pair
    (run,) = one.save([RUN])
    one.live()
    (theirs,) = other.save([replace(run, attempt=1)])
    with pytest.raises(Conflict):
        one.save(list[Record]([NODE, replace(run, attempt=2)]))
    assert (one.live().runs, one.live().nodes) == ((theirs,), ())


def test_write_interrupted_after_its_commit_is_seen(
    pair: tuple[SqlStore, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is interrupted between the commit and the update of its cache reads again."""
    one, _ = pair
    one.live()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LiveCache, "note", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.save([RUN])
    assert [run.id for run in one.live().runs] == ["r1"]
