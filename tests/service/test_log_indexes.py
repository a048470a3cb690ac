"""A daemon makes the indexes of long logs after it has archived them."""

import pytest

from provisioner.core.errors import Transient
from provisioner.core.logs.archive import lines_key
from provisioner.core.logs.lines import Index
from provisioner.core.run.records import Node
from provisioner.core.run.states import State
from provisioner.ports.control.logs import LineQuery, Place
from provisioner.service.log_lines import indexes
from tests.service.attacked import Attacked, Counted


@pytest.fixture
def attacked() -> Attacked:
    return Attacked()


def _index(attacked: Attacked, node: Node) -> bytes | None:
    return attacked.bucket.objects.get(lines_key(node.run, 1, 0, "output"), (None,))[0]


def _done(attacked: Attacked) -> bool:
    return attacked.run(attacked.runs[0]).done_at is not None


def test_daemon_indexes_an_archived_log_so_that_a_reader_reads_only_a_part(attacked: Attacked) -> None:
    node, passes = attacked.end(chunks=1000, size=1000), list[object]()
    attacked.loop.run(lambda: _index(attacked, node) is not None or len(passes) > 400, passes.append)
    assert _index(attacked, node)
    read = attacked.bucket.read
    page = attacked.service.logs.lines(attacked.runs[0].id, Place(), LineQuery(first=1, count=10))
    assert (page.total, page.over, page.lines[0].size) == (1, True, 1_000_000)
    assert attacked.bucket.read - read < 300_000
    stored = _index(attacked, node)
    assert stored
    assert len(stored) < 10_000


def test_short_log_gets_no_index(attacked: Attacked) -> None:
    """An index would cost a put for each run, and saves one read."""
    node, passes = attacked.end(chunks=indexes.STORED_CHUNKS - 1), list[object]()
    attacked.loop.run(lambda: _done(attacked) and len(passes) > 20, passes.append)
    assert _index(attacked, node) is None


def test_index_that_fails_is_left_to_the_first_reader_and_delays_no_other(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, get = attacked.end(chunks=100), Counted.get

    def failing(self: Counted, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        if f"runs/{node.run}/1/0/l" in key:
            raise Transient("S3 is away")
        return get(self, key, start=start, length=length)

    passes = list[object]()
    with monkeypatch.context() as patch:
        patch.setattr(Counted, "get", failing)
        attacked.loop.run(lambda: _done(attacked) and len(passes) > 20, passes.append)
        attacked.runs.reverse()
        other = attacked.end(chunks=100)
        attacked.loop.run(lambda: _index(attacked, other) is not None or len(passes) > 200, passes.append)
    assert _index(attacked, other) is not None
    assert _index(attacked, node) is None
    page = attacked.service.logs.lines(node.run, Place(), LineQuery())
    assert page.over
    assert Index.decode(_index(attacked, node) or b"").lines == page.total


def test_run_started_while_a_log_is_indexed_is_launched_after_one_step(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step reads a bounded number of bytes, so indexing delays no pass."""
    node, get, started = attacked.end(chunks=2000), Counted.get, list[object]()
    log = f"runs/{node.run}/1/0/log/"
    reads = 0

    def counted(self: Counted, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        nonlocal reads
        if key.startswith(log):
            reads += 1
            attacked.world.clock.step(0.01)
            if reads == 100:
                started.append(attacked.world.start("late"))
        return get(self, key, start=start, length=length)

    monkeypatch.setattr(Counted, "get", counted)
    attacked.drive(lambda: bool(started) and attacked.run(started[0]).state is not State.QUEUED)  # type: ignore[arg-type]
    assert reads - 100 <= indexes.AT_ONCE


def test_fault_of_the_index_is_logged_and_does_not_end_the_daemon(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked.end(chunks=100)
    told, passes = list[str](), list[object]()
    monkeypatch.setattr(attacked.world.installation.journal, "complain", lambda text, *_, **__: told.append(text))

    def broken(*_: object) -> object:
        raise RuntimeError("wrong sum")

    monkeypatch.setattr(indexes.Indexes, "content", broken)
    attacked.loop.run(lambda: bool(told) or len(passes) > 200, passes.append)
    assert told == ["a log was not indexed: RuntimeError('wrong sum')"]
