"""A lost control host, restored from a backup that is older than some of its machines."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provisioner import wiring
from provisioner.core.errors import Conflict, Invalid, WrongStore
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.states import State
from tests.e2e.rig import Rig, rig
from tests.polling import until


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with rig(tmp_path / "rig", monkeypatch) as made:
        yield made


@pytest.fixture
def go(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a pipe; a job that reads it continues when the test writes."""

    def made(name: str) -> Path:
        path = tmp_path / f"{name}.pipe"
        os.mkfifo(path)
        return path

    return made


def test_a_restored_store_adopts_machines_and_begins_no_command_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[[str], Path]
) -> None:
    """The backup lacks the end of one run, the machine of another, and a whole run."""
    copy, elsewhere = tmp_path / "backup", tmp_path / "other" / "store.db"
    with rig(tmp_path / "rig", monkeypatch) as whole:
        pipes = {name: go(name) for name in ("goes-on", "ends", "begins", "unknown")}

        def started(name: str) -> str:
            return whole.start(f"echo begun; cat {pipes[name]}", name=name).id

        def running(*ids: str) -> None:
            whole.until(lambda: all(whole.service.runs.record(id).state is State.RUNNING for id in ids))

        ids = {"goes-on": started("goes-on"), "ends": started("ends")}
        running(*ids.values())
        ids["begins"] = started("begins")
        assert wiring.backup(whole.settings, str(copy)) == copy.stat().st_size
        assert copy.stat().st_mode & 0o077 == 0
        ids["unknown"] = started("unknown")
        running(ids["begins"], ids["unknown"])
        pipes["ends"].write_text("")
        whole.until(lambda: whole.service.runs.record(ids["ends"]).done_at is not None)
        lost = whole.service

        restored = whole.settings.model_copy(update={"store": elsewhere})
        assert wiring.restore(restored, str(copy)).installation == whole.settings.installation
        assert elsewhere.stat().st_mode & 0o077 == 0
        whole.service = wiring.service(restored)
        told = whole.service.operator.takeover()
        assert sum("adopted" in line for line in told) == 1
        assert sum("no result yet" in line for line in told) == 1
        # The lost store may still exist. A control plane that uses it must not act any more.
        lost.acting.release()
        with pytest.raises(WrongStore, match="takeover"):
            lost.operator.step()
        lost.close()

        for name in ("goes-on", "begins", "unknown"):
            pipes[name].write_text("")
        known = [ids[name] for name in ("goes-on", "ends", "begins")]
        whole.until(lambda: all(whole.service.runs.record(id).done_at is not None for id in known))
        for id in known:
            run = whole.service.runs.record(id)
            assert run.verdict is not None
            assert (run.verdict.outcome, run.verdict.exit_code, run.attempt) == (Outcome.SUCCEEDED, 0, 1), run
            assert whole.log(run) == b"begun\n"
        until(lambda: not whole.double.alive(), "the end of all machines")
        # Each run had one machine, and none is launched again.
        assert len(whole.double.history()) == len(ids)
        objects = whole.double.account.objects(whole.double.bucket)
        whole.service.operator.takeover()
        assert any(key.startswith(f"runs/{ids['unknown']}/1/0/log/output/") for key in objects | _objects(whole))


@pytest.mark.parametrize("at_barrier", [True, False], ids=["at the barrier", "while the command runs"])
def test_a_restored_store_adopts_all_machines_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go: Callable[[str], Path], at_barrier: bool
) -> None:
    """The backup is older than their launch. No rank executes twice, or without the other."""
    copy, elsewhere, pipe = (
        tmp_path / "backup",
        tmp_path / "other" / "store.db",
        go("setup" if at_barrier else "command"),
    )
    waiting = f"cat {pipe}"
    with rig(tmp_path / "rig", monkeypatch) as whole:
        run = whole.start(
            f'echo "rank $PROVISION_RANK"; {"true" if at_barrier else waiting}',
            start_script=f'[ "$PROVISION_RANK" = 0 ] || {waiting}' if at_barrier else "true",
            scale=2,
        )
        wiring.backup(whole.settings, str(copy))
        store = whole.service.installation.store
        steps = [Step.BARRIER, Step.SETUP] if at_barrier else [Step.COMMAND] * 2
        whole.until(lambda: [node.report.step if node.report else None for node in store.nodes(run.id)] == steps)
        whole.service.acting.release()
        whole.service.close()
        restored = whole.settings.model_copy(update={"store": elsewhere})
        wiring.restore(restored, str(copy))
        whole.service = wiring.service(restored)
        assert sum("adopted" in line for line in whole.service.operator.takeover()) == 2
        pipe.write_text("")
        [done] = whole.done(run)
        assert done.verdict
        assert (done.verdict.outcome, done.attempt) == (Outcome.SUCCEEDED, 1), done.verdict
        assert [whole.log(run, rank=rank) for rank in (0, 1)] == [b"rank 0\n", b"rank 1\n"]
        assert len(whole.double.history()) == 2


def _objects(whole: Rig) -> dict[str, bytes]:
    return dict(whole.double.account.objects(whole.double.bucket))


def test_a_restore_replaces_no_store_and_takes_no_other_file(tmp_path: Path, whole: Rig) -> None:
    """Each refusal is one line, and no file is written."""
    copy, elsewhere = tmp_path / "backup", tmp_path / "other" / "store.db"
    wiring.backup(whole.settings, str(copy))
    with pytest.raises(Conflict, match="exists: move it"):
        wiring.restore(whole.settings, str(copy))
    other = whole.settings.model_copy(update={"store": elsewhere})
    with pytest.raises(Invalid, match="of installation"):
        wiring.restore(other.model_copy(update={"installation": "another"}), str(copy))
    for content in (b"", b"PK\x05\x06" + bytes(18), copy.read_bytes()[:-100]):
        wrong = tmp_path / "wrong"
        wrong.write_bytes(content)
        with pytest.raises(Invalid, match="not a valid backup"):
            wiring.restore(other, str(wrong))
    with pytest.raises(Invalid, match="does not exist"):
        wiring.restore(other, str(tmp_path / "none"))
    assert not elsewhere.exists()
    with pytest.raises(Invalid, match="no folder"):
        wiring.backup(whole.settings, str(tmp_path / "none" / "backup"))


def test_a_backup_in_the_bucket_is_put_back(tmp_path: Path, whole: Rig) -> None:
    """The control host's usual rights suffice."""
    job = whole.service.jobs.apply(
        "{type: job, spec: {name: kept, image: i, instance_type: g5.xlarge, command: 'true'}}", "f"
    )
    place = f"s3://{whole.settings.bucket}/backups/today"
    wiring.backup(whole.settings, place)
    restored = whole.settings.model_copy(update={"store": tmp_path / "restored.db"})
    wiring.restore(restored, place)
    service = wiring.service(restored)
    assert job.name in [each.name for each in service.jobs.all()]
    service.close()
    with pytest.raises(Invalid, match="s3://BUCKET/KEY"):
        wiring.backup(whole.settings, "s3://bucket")
