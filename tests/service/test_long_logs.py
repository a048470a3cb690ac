"""Long logs are copied to the archive in small steps, between passes."""

import pytest

from provisioner.core.errors import CloudError, Transient
from provisioner.core.logs import archive
from provisioner.core.protocol.codec import decode, encode
from provisioner.core.protocol.keys import chunk_key, log_folder, log_prefix, report_key, result_key
from provisioner.core.protocol.messages import Report, Result, StreamEnd
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.machines.messages import CHUNK_MOST
from provisioner.core.run.records import Node, Run
from provisioner.core.run.states import State
from provisioner.service.control_loop.log_copies import COPIES, Copying, LongLogs
from provisioner.service.control_loop.loop import Intervals
from provisioner.service.control_loop.one_pass import PassResult
from tests.service.attacked import Attacked, Counted


@pytest.fixture
def attacked() -> Attacked:
    return Attacked()


def _kept_whole(attacked: Attacked, node: Node) -> None:
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].length, manifest.streams["output"].missing_from) == (15_000, None)


def _done(attacked: Attacked) -> bool:
    return attacked.run(attacked.runs[0]).done_at is not None


def test_a_pass_copies_a_small_part_of_a_long_log(attacked: Attacked) -> None:
    node = attacked.end(chunks=3000)
    copies = []
    while not _done(attacked):
        before = attacked.bucket.copies
        attacked.loop.once()
        copies.append(attacked.bucket.copies - before)
        attacked.world.advance(1.0)
        assert len(copies) < 450, "the log is never archived"
    # The last two steps of a log are made in one pass, and then the result is copied.
    assert max(copies) <= 2 * COPIES + 1
    _kept_whole(attacked, node)
    assert not [key for key in attacked.bucket.objects if node.box in key]


def test_a_short_log_is_listed_once(attacked: Attacked) -> None:
    """Each listing costs as much as a put, and most logs have few chunks."""
    node = attacked.node(attacked.runs[0])
    for stream, offset in (("system", 0), ("setup", 0), ("output", 0), ("output", 3)):
        attacked.bucket.put(chunk_key(node.box, stream, offset), b"abc")
    copying, before = Copying(attacked.installation, log_folder(node.box), node.run, 1, 0, ""), attacked.bucket.listings
    while not copying.complete:
        copying.step()
    assert attacked.bucket.listings == before + 1
    assert copying.chunks() == {"system": [(0, 3)], "setup": [(0, 3)], "output": [(0, 3), (3, 3)]}


def test_a_pass_copies_a_part_of_one_long_log(attacked: Attacked) -> None:
    """A pass copies no more of two long logs than of one, so many long logs do not make it longer."""
    _end_all(attacked)
    for _ in range(5):
        before = attacked.bucket.copies
        attacked.loop.once()
        assert attacked.bucket.copies - before < 2 * COPIES


def test_a_long_log_is_copied_between_passes(attacked: Attacked) -> None:
    """Copying gets half of the time, so 3,000 copies of 10 ms each take 60 s: about 60 passes instead of 375."""
    node, passes = attacked.end(chunks=3000), list[object]()
    attacked.bucket.took, began = attacked.world.clock.step, attacked.world.now()
    attacked.loop.run(lambda: _done(attacked), passes.append)
    assert 55.0 < attacked.world.now() - began < 75.0
    assert len(passes) < 75
    _kept_whole(attacked, node)


def test_a_run_started_while_a_long_log_is_copied_is_launched_after_one_step(attacked: Attacked) -> None:
    attacked.end(chunks=3000)
    started = list[tuple[Run, int]]()

    def took(seconds: float) -> None:
        attacked.world.clock.step(seconds)
        if attacked.bucket.copies == 1000:
            started.append((attacked.world.start("late"), 1000))

    attacked.bucket.took = took
    attacked.drive(lambda: bool(started) and attacked.run(started[0][0]).state is not State.QUEUED)
    assert attacked.bucket.copies - 1000 <= 2 * COPIES


def test_a_process_that_makes_one_pass_copies_a_long_log(attacked: Attacked) -> None:
    """Without a daemon, each command makes one pass and ends."""
    node = attacked.end(chunks=3000)
    attacked.service = attacked.process()
    attacked.turn()
    attacked.service = attacked.process()
    attacked.turn()
    assert attacked.node(attacked.runs[0]).archived_at is not None
    _kept_whole(attacked, node)


def test_a_process_that_makes_one_pass_copies_for_a_limited_time(attacked: Attacked) -> None:
    """The next process continues where the last one stopped, so a log of any length is archived in the end."""
    node, most = attacked.end(chunks=3000), Intervals().copying
    attacked.bucket.took = attacked.world.clock.step
    copies = []
    while not _done(attacked):
        before = attacked.bucket.copies
        attacked.service = attacked.process()
        attacked.turn()
        copies.append(attacked.bucket.copies - before)
        assert len(copies) < 20, "the log is never archived"
    assert max(copies) < most / 0.01 + 3 * COPIES
    assert sum(copies) < 3010
    _kept_whole(attacked, node)


def test_a_copy_that_is_killed_half_way_is_continued(attacked: Attacked) -> None:
    """A new process copies only what the archive does not have."""
    node = attacked.end(chunks=3000)
    attacked.drive(lambda: attacked.bucket.copies > 500)
    assert attacked.node(attacked.runs[0]).archived_at is None
    attacked.service = attacked.process()
    attacked.drive(lambda: _done(attacked))
    assert attacked.bucket.copies < 3010
    _kept_whole(attacked, node)


def test_a_chunk_that_was_copied_in_part_is_copied_again(attacked: Attacked) -> None:
    """An archived chunk of another size is not the machine's chunk."""
    node = attacked.end(chunks=3000)
    key = archive.kept_chunk_key(node.run, 1, 0, "output", 5000)
    attacked.bucket.put(key, b"xx")
    attacked.drive(lambda: _done(attacked))
    assert attacked.bucket.objects[key][0] == b"xxxxx"


def _end_all(attacked: Attacked) -> None:
    """Put 3,000 chunks and a result for each run."""
    for run in attacked.runs:
        node, now = attacked.node(run), attacked.world.now()
        for number in range(3000):
            attacked.bucket.put(chunk_key(node.box, "output", number * 5), b"xxxxx")
        told = Result(node.run, 1, 0, "p", Outcome.SUCCEEDED, Step.COMMAND, 0, "", now, streams={})
        attacked.bucket.put(result_key(node.box), encode(told))
        attacked.bucket.put(report_key(node.box, 9999), encode(Report(9999, now, "p", Step.LOGS, finished=True)))


def test_a_copy_that_fails_is_repeated_in_the_next_pass_which_reports_the_error(attacked: Attacked) -> None:
    """The copy is not repeated every 25 ms between the passes: each try makes 16 calls to an S3 that is away."""

    def failing(_: float) -> None:
        raise Transient("S3 is away")

    attacked.end(chunks=3000)
    attacked.bucket.took = failing
    pulses = list[PassResult]()
    attacked.loop.run(lambda: len(pulses) == 20, pulses.append)
    assert attacked.bucket.copies <= 5 * len(pulses)
    assert any("S3 is away" in str(trouble.error) for trouble in pulses[-1].errors)


def _copied(attacked: Attacked, run: Run) -> int:
    """Return the number of archived chunks of the run."""
    return sum(key.startswith(f"runs/{run.id}/1/0/log/") for key in attacked.bucket.objects)


def test_the_long_logs_of_two_owners_are_copied_by_turns(attacked: Attacked) -> None:
    """The copying of the second log does not wait for the end of the first."""
    _end_all(attacked)
    attacked.drive(lambda: attacked.bucket.copies > 2000)
    kept = [_copied(attacked, run) for run in attacked.runs]
    assert min(kept) > 0.8 * max(kept)


def test_the_many_long_logs_of_one_owner_get_as_many_steps_as_the_one_log_of_another(attacked: Attacked) -> None:
    attacked.runs += [attacked.world.start(f"hostile-{number}", owner="hostile") for number in range(4)]
    attacked.until(lambda: all(attacked.run(run).state is State.RUNNING for run in attacked.runs))
    _end_all(attacked)
    attacked.drive(lambda: attacked.bucket.copies > 4000)
    first, quiet, *others = [_copied(attacked, run) for run in attacked.runs]
    assert quiet > 0.8 * first
    # The first logs are copied one after the other.
    assert [kept for kept in others if kept > 2 * COPIES] == []


class Failing(Counted):
    """A bucket that cannot copy the objects whose source has this text in its key."""

    text = ""

    def copy(self, source: str, target: str) -> None:
        if self.text and self.text in source:
            raise CloudError("the object does not exist", "NoSuchKey")
        super().copy(source, target)


def test_a_log_that_cannot_be_copied_delays_no_other_log_of_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.service.attacked.Counted", Failing)
    attacked = Attacked()
    attacked.runs[1] = attacked.world.start("second", owner="hostile")
    attacked.until(lambda: all(attacked.run(run).state is State.RUNNING for run in attacked.runs))
    _end_all(attacked)
    monkeypatch.setattr(Failing, "text", log_prefix(attacked.node(attacked.runs[0]).box, "output"))
    most = attacked.world.now() + 3600.0
    attacked.drive(lambda: attacked.run(attacked.runs[1]).done_at is not None or attacked.world.now() > most)
    assert attacked.run(attacked.runs[1]).done_at is not None
    assert not _done(attacked)
    monkeypatch.setattr(Failing, "text", "")
    attacked.drive(lambda: _done(attacked))


def test_a_copy_that_waits_for_another_one_of_its_owner_holds_no_listing(attacked: Attacked) -> None:
    """A listing takes 0.2 MiB, and an owner may have a thousand long logs."""
    _end_all(attacked)
    logs, copies = LongLogs(), list[Copying]()
    for run in attacked.runs:
        node = attacked.node(run)
        copying = Copying(attacked.installation, log_folder(node.box), node.run, node.attempt, node.rank, "one owner")
        while not copying.long:
            logs.step(node.box, copying)
        logs.add(node.box, copying)
        copies.append(logs.get(node.box) or copying)
    assert [copying.long for copying in copies] == [True, False]


def test_what_is_beyond_the_most_chunks_is_called_missing(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are missing from the first one that is not archived."""
    monkeypatch.setattr("provisioner.service.control_loop.log_copies.CHUNKS_MOST", 1000)
    node = attacked.end(chunks=2500)
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].missing_from, manifest.streams["output"].missing_at_least) == (5000, 7500)
    assert attacked.bucket.copies < 1010


def test_a_chunk_that_no_agent_makes_is_called_missing(attacked: Attacked) -> None:
    """The chunk is larger than an agent's largest chunk."""
    node = attacked.end(told=StreamEnd(CHUNK_MOST + 1, ""))
    attacked.bucket.put(chunk_key(node.box, "output", 0), b"x" * (CHUNK_MOST + 1))
    attacked.until(lambda: attacked.run(attacked.runs[0]).done_at is not None)
    manifest = decode(archive.Manifest, attacked.bucket.objects[archive.manifest_key(node.run, 1, 0)][0])
    assert (manifest.streams["output"].missing_from, manifest.streams["output"].missing_at_least) == (0, CHUNK_MOST + 1)
