"""Troubles that only a virtual machine can have: power, kernel, agent, fuse."""

import json
import threading
import time
from typing import Any

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.ports.control.logs import LogGap, LogPiece, LogQuery
from provisioner.rehearsal.machines.virtual.qemu import QemuHost
from tests.e2e.rig import Rig
from tests.vm.conftest import PATIENCE, SMALL, Boot
from tests.vm.guest import ask, tell

pytestmark = pytest.mark.vm

#: The run is not retried once its command has begun.
ONCE: dict[str, Any] = {"retry": {"rerun": "before_start"}, **SMALL}

#: A command that prints a line at SIGTERM and exits.
HOLD = "trap 'echo saved; exit 9' TERM; echo up; while :; do sleep 0.2; done"


def running(whole: Rig, run: Run, said: bytes = b"up\n") -> str:
    """Wait until the job has printed this; return its machine's id."""
    whole.until(lambda: said in whole.log(run))
    [machine] = whole.double.alive()
    return machine.id


def gone(whole: Rig) -> None:
    """Wait for the end of all machines, without running passes."""
    end = time.monotonic() + PATIENCE
    while whole.double.alive():
        assert time.monotonic() < end, "a machine lives on"
        threading.Event().wait(0.2)


@pytest.mark.vm(boots=2)
def test_cloud_init_finds_no_fault_and_a_restart_executes_nothing_twice(whole: Rig, host: QemuHost, image: str) -> None:
    """The guest's cloud-init accepts the user-data as Ec2's; after a restart the run ends, executed once."""
    run = whole.start(HOLD, image=image, **ONCE)
    machine = running(whole, run)
    checked = ask(host.folder(machine), "cloud-init schema --system")
    assert checked.code == 0, checked
    told = ask(
        host.folder(machine), "cloud-init query --format '{{v1.cloud_name}} {{v1.instance_id}} {{ds.meta_data.mac}}'"
    )
    assert told.text.split()[:2] == ["aws", machine], told
    assert "Invalid cloud-config" not in host.console(machine)
    status = json.loads(ask(host.folder(machine), "cloud-init status --format json").text)
    assert (status["status"], status["errors"]) == ("done", []), status

    tell(host.folder(machine), "systemctl reboot")
    [done] = whole.done(run)
    assert done.verdict is not None
    assert (done.verdict.outcome, done.attempt) == (Outcome.LOST, 1), done.verdict
    assert whole.log(run).count(b"up\n") == 1
    assert whole.double.alive() == []
    assert host.console(machine).count("running 'init-local'") == 2


#: Kills the agent and waits for its successor; fails if none follows.
KILL = """
old=$(systemctl show --property=MainPID --value provision-agent)
systemctl kill --signal=KILL provision-agent
for i in $(seq 600); do
    new=$(systemctl show --property=MainPID --value provision-agent)
    case $new in 0 | "$old") sleep 0.1 ;; *) exit 0 ;; esac
done
exit 1
"""


def test_a_run_outlives_its_agent(whole: Rig, host: QemuHost, image: str) -> None:
    """The agent is killed and restarted: the command executes once; log and exit code are complete."""
    count = "echo up; i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit 7"
    run = whole.start(count, image=image, **ONCE)
    machine = running(whole, run)
    assert ask(host.folder(machine), KILL).code == 0
    [done] = whole.done(run)
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.exit_code, done.attempt) == (Outcome.FAILED, 7, 1), done.verdict
    assert whole.log(run) == b"up\n" + b"".join(b"line %d\n" % number for number in range(1, 601))
    assert b"the agent died at command" in whole.log(run, "system")
    assert whole.double.alive() == []


def test_stop_reaches_a_job_whose_agent_was_killed_and_a_second_death_ends_its_machine(
    whole: Rig, host: QemuHost, image: str
) -> None:
    """The successor sends SIGTERM. When it dies too, its unit has reached the start limit and powers off."""
    saving = "trap 'echo saved' TERM; echo up; while :; do sleep 0.2; done"
    # Long enough for a slow computer: the grace must not end before the agent is dead.
    run = whole.start(saving, image=image, limits={"stop_grace": "10m"}, **ONCE)
    machine = running(whole, run)
    assert ask(host.folder(machine), KILL).code == 0
    whole.until(lambda: b"the agent died at command" in whole.log(run, "system"))
    assert whole.log(run) == b"up\n"
    whole.service.runs.stop(run.id)
    whole.until(lambda: whole.log(run).endswith(b"saved\n"))
    assert ask(host.folder(machine), "systemctl kill --signal=KILL provision-agent").code == 0
    gone(whole)
    [done] = whole.done(run)
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.exit_code) == (Outcome.CANCELLED, None), done.verdict
    assert b"saved\n" in whole.log(run)


def test_power_cut_leaves_a_reported_log_gap(whole: Rig, host: QemuHost, image: str) -> None:
    """The shipped bytes are kept, and the log has a gap from there on."""
    run = whole.start("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done", image=image, **ONCE)
    machine = running(whole, run, b"line 50\n")
    tell(host.folder(machine), "sleep 1; echo o >/proc/sysrq-trigger")
    [done] = whole.done(run)
    assert done.verdict is not None
    assert done.verdict.outcome is Outcome.LOST, done.verdict
    *pieces, gap = whole.service.logs.read(run.id, LogQuery(("output",)))
    kept = b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece))
    lines = [f"line {number}" for number in range(1, kept.count(b"\n") + 2)]
    assert "\n".join(lines).startswith(kept.decode())
    assert isinstance(gap, LogGap), gap
    assert gap.offset == len(kept)


def test_the_fuse_alone_ends_a_machine(whole: Rig, host: QemuHost, image: str) -> None:
    """With all agents, their unit and the control plane gone, the machine powers itself off when its fuse expires."""
    run = whole.start(HOLD, image=image, **ONCE)
    machine = running(whole, run)
    dead = """
        rm /etc/systemd/system/provision-poweroff.service
        systemctl daemon-reload
        # A reload forgets how many agents there were.
        until systemctl is-failed --quiet provision-agent; do
            systemctl kill --signal=KILL provision-agent
            sleep 0.2
        done
        echo $(($(date +%s) + 1)) >/var/lib/provision/fuse
    """
    assert ask(host.folder(machine), dead).code == 0
    gone(whole)
    assert "the fuse has expired" in host.console(machine)
    [done] = whole.done(run)
    assert done.verdict is not None
    assert done.verdict.outcome is Outcome.LOST, done.verdict


#: Counts steps. On SIGTERM it saves its step and exits with 75: work is left.
COUNT = """
import os, signal, sys, time
import boto3

bucket, _, prefix = os.environ["PROVISION_CHECKPOINT"].removeprefix("s3://").partition("/")
key, s3 = prefix + "step", boto3.client("s3")

def save(*_):
    s3.put_object(Bucket=bucket, Key=key, Body=b"7")
    print("saved", flush=True)
    sys.exit(75)

signal.signal(signal.SIGTERM, save)
try:
    print("resumed after", s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(), flush=True)
except s3.exceptions.ClientError:
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.vm(boots=2)
def test_an_interrupted_run_resumes_on_another_machine(boot: Boot, python_image: str) -> None:
    """After notice, SIGTERM, checkpoint and interruption, the next machine resumes and exits with 0."""
    spec = {**ONCE, "retry": {}, "use_spot_instance": True, "checkpoint": True}
    settings = {"checkpoint_url": "s3://states/runs/"}
    with boot(settings=settings, buckets={"states": {}}) as whole:
        run = whole.start(f"cat >count.py <<'END'\n{COUNT}\nEND\nexec python count.py", image=python_image, **spec)
        machine = running(whole, run)
        whole.double.interrupt(machine, notice=120.0)
        [done] = whole.done(run)
        assert done.verdict is not None
        assert (done.verdict.outcome, done.attempt, done.retries_used) == (Outcome.SUCCEEDED, 2, 0), done.verdict
        assert whole.log(run, attempt=1) == b"up\nsaved\n"
        assert whole.log(run, attempt=2) == b"resumed after 7\n"
        assert whole.double.alive() == []
        assert len(whole.double.history()) == 2
