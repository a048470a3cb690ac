"""A run's id, from the start's output to the archive's keys."""

import json
import signal
from pathlib import Path

import pytest

from provisioner.core.protocol.codec import decode
from provisioner.core.protocol.keys import work_key
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.run.states import State
from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.e2e.commands import Command, settings_file
from tests.e2e.rig import rig


def test_one_id_from_trigger_to_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id from `start` is in the daemon's JSON, the work order, the system stream and the archive's keys.

    The daemon's JSON also has an error of the run, but no values of its variables.
    """
    go = tmp_path / "go"
    with rig(tmp_path / "rig", monkeypatch) as whole:
        monkeypatch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
        bucket = whole.service.installation.bucket
        other = whole.done(whole.start("true", name="other"))[0]
        wait = f"until [ -e {go} ]; do sleep 0.05; done"
        spec = {"name": "followed", "image": "any", "instance_type": "g5.xlarge", "command": wait}
        whole.service.jobs.apply(json.dumps({"type": "job", "spec": spec}), "the test's recipe")
        with Command(tmp_path / "daemon", "daemon") as daemon:
            daemon.until(whole.service.operator.served)
            slow = Rule(Effect.ERROR, service="s3", action="PutObject", resource="*/work", code="SlowDown", status=503)
            whole.double.faults.add(slow)
            with Command(tmp_path / "start", "start", "followed", "--env", "WORD=not-for-journals") as start:
                assert start.ended() == 0
            id = start.out.decode().strip()
            daemon.until(lambda: f'"run": "{id}"' in daemon.err and "SlowDown" in daemon.err)
            whole.double.faults.clear()
            daemon.until(lambda: whole.service.runs.record(id).state is State.RUNNING)
            [node] = whole.service.installation.store.nodes(id)
            assert decode(WorkOrder, bucket.get(work_key(node.box)) or b"").run == id
            go.touch()
            daemon.until(lambda: whole.service.runs.record(id).state is State.DONE)
            daemon.signal(signal.SIGTERM)
            assert daemon.ended() == 0
        told = [json.loads(line) for line in daemon.err.splitlines()]
        mine = [line for line in told if line.get("run") == id]
        # The event of `start` itself is only in the store.
        story = [event.text for event in whole.service.runs.status(id).events[1:]]
        # The story is sorted by its times, which are finer than the journal's.
        assert sorted(line["text"] for line in mine if line.get("job") == "followed") == sorted(story)
        [error] = [line for line in mine if line["level"] == "error"]
        assert (error["code"], error["instance"]) == ("SlowDown", node.instance_id)
        assert other.id not in daemon.err
        assert "not-for-journals" not in daemon.err
        run = whole.service.runs.record(id)
        assert f"run {id}, attempt 1".encode() in whole.log(run, "system")
        kept = [entry.key for entry in bucket.list(f"runs/{id}/")]
        assert {key.rpartition("/")[2] for key in kept} >= {"receipt", "manifest", "result"}
