"""Each command's output and exit code, off a terminal: what scripts build on."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provisioner.faces.cli import exits
from provisioner.ports.store import RunFilter
from tests.cli.conftest import HERE, Done, Provision
from tests.e2e.rig import Rig

pytestmark = pytest.mark.usefixtures("whole")

Write = Callable[..., str]

JOB = {"id", "owner", "name", "revision", "created_at", "applied_at", "schedule", "recipe", "apply_refuses"}
RUN = {
    *("id", "job", "job_id", "job_revision", "owner", "idempotency_key", "state", "attempt", "retries_used"),
    *(
        "outcome",
        "exit_code",
        "process_exit_code",
        "reason",
        "stop",
        "waiting",
        "next_try_at",
        "created_at",
        "ended_at",
    ),
    *("certain_at", "done_at"),
}
ATTEMPT = {
    *("attempt", "rank", "instance_id", "bound_at", "step", "bytes_produced", "bytes_shipped", "heard_at"),
    *("report_due_at", "silent_since", "notice_at", "rebalance_at", "stop_sent_at", "stop_grace", "stop_ends_at"),
    *("outcome", "exit_code", "process_exit_code", "reason", "ended_at", "ended_in", "archived_at"),
}
MACHINE = {
    *("id", "type", "zone", "market", "state", "launch_time", "impaired_at", "ending_at", "ended_at"),
    *("end_wanted_for", "end_wanted_at", "end_asked_at", "price"),
}
RECEIPT = {
    *(
        "run",
        "job",
        "owner",
        "outcome",
        "exit_code",
        "process_exit_code",
        "provisional",
        "created_at",
        "ended_at",
        "phases",
        "machines",
    ),
    *("dollars_at_least", "dollars_at_most", "disk_dollars_at_least", "disk_dollars_at_most", "advice"),
}
PHASE = {
    *("name", "attempt", "rank", "beside", "billed", "began", "ended", "seconds", "source"),
    *("began_source", "began_error", "ended_source", "ended_error"),
}
BILL = {
    *("rank", "disk_gib", "disk_gib_seconds_at_least", "disk_gib_seconds_at_most"),
    *("instance_id", "attempt", "instance_type", "zone", "market", "seconds_at_least", "seconds_at_most", "price"),
    *("dollars_at_least", "dollars_at_most", "disk_price", "disk_dollars_at_least", "disk_dollars_at_most"),
}


SCHEDULE = {"job", "schedule", "timezone", "concurrency_policy", "schedule_catchup", "last", "next"}


def value(done: Done) -> Any:
    return json.loads(done.out)


@pytest.fixture(scope="module")
def ended(whole: Rig) -> dict[str, str]:
    """The ids of one run that failed and one that went well, done."""
    runs = [whole.start("true", name=name, use_spot_instance=True) for name in ("bad", "good")]
    return {run.job_name: run.id for run in whole.done(*runs)}


def test_apply_and_start(provision: Provision, recipe: Write) -> None:
    """`apply` says the revision; `start` prints the id alone, says that no daemon acts, waits, and exits as the job."""
    done = provision("apply", recipe("bad"))
    assert done.out.startswith(b"tester/bad is at revision ")
    done = provision("start", "bad")
    id = done.out.decode().strip()
    assert len(id) == 32
    assert done.code == 3
    assert "no daemon is acting" in done.err
    assert done.last_line == f"{id[:12]} failed: the command exited with 3 (exit code 3)"
    assert provision("start", "tester/bad", "--json").code == 3


def test_apply_and_start_at_once(provision: Provision, recipe: Write) -> None:
    """`apply --start` does both, and its --json is the run's."""
    done = provision("apply", recipe("good-at-once"), "--start", "--json")
    assert done.code == 0
    assert value(done)["job"] == "good-at-once"
    assert value(done)["outcome"] == "succeeded"


@HERE
def test_detach_launches_and_returns(provision: Provision, recipe: Write) -> None:
    """`start --detach` without a daemon makes one pass: the machine is there; later commands see it through."""
    provision("apply", recipe("detached"))
    done = provision("start", "detached", "--detach", "--json")
    assert done.code == 0
    run = value(done)
    # However far the machine has come by now.
    assert run["attempt"] == 1
    assert "provision wait" in done.err
    assert provision("wait", run["id"][:8]).code == 0


@HERE
def test_with_a_daemon_start_returns_at_once(whole: Rig, provision: Provision, recipe: Write) -> None:
    """Where a daemon holds the lease, `start` stores the run and exits 0; --wait waits for what the daemon does."""
    store = whole.service.installation.store
    lease = store.acquire("somebody", "daemon", whole.service.operator.now(), 60)
    assert lease
    try:
        provision("apply", recipe("served"))
        done = provision("start", "served")
        assert (done.code, done.err) == (0, "")
        assert provision("status", done.out.decode().strip(), "--json").code == 0
    finally:
        store.release(lease)
    assert provision("wait", done.out.decode().strip()).code == 0


def test_wait_for_several(provision: Provision, ended: dict[str, str]) -> None:
    """The exit code is the first that is not 0 in the order given, and the last line says whose it is."""
    done = provision("wait", ended["good"], ended["bad"])
    assert done.code == 3
    assert done.last_line == f"exit code 3: from {ended['bad'][:12]}, the first that is not 0"
    assert [each["outcome"] for each in value(provision("wait", *ended.values(), "--json"))] == ["failed", "succeeded"]
    assert provision("wait", ended["good"], ended["good"]).code == 0


def test_a_run_without_an_exit_code(provision: Provision, recipe: Write) -> None:
    """Its code is ours, and the last line says so."""
    provision("apply", recipe("none", instance_type="p9.huge"))
    done = provision("start", "none")
    assert done.code == 85
    assert "refused: no such instance type" in done.last_line
    assert done.last_line.endswith("(the job has no exit code; 85 is ours)")


def test_a_waiting_run_says_why(whole: Rig, provision: Provision, recipe: Write) -> None:
    """A queued run tells the cause, what was tried and when it tries again, in `runs`, `status` and --json."""
    provision("apply", recipe("dry", instance_type="g6.xlarge"))
    id = value(provision("start", "dry", "--detach", "--json"))["id"]
    whole.until(lambda: whole.service.runs.record(id).waiting is not None)
    assert "queued, capacity: " in provision("runs", "dry").out.decode()
    text = provision("status", id).out.decode()
    assert "\nnext try   " in text
    assert "\ntried      on-demand g6.xlarge" in text
    waiting = value(provision("status", id, "--json"))["run"]["waiting"]
    assert waiting["cause"] == "capacity"
    assert {"what", "code", "at"} == set(waiting["tried"][0])
    done = provision("stop", id)
    assert "provision wait" in done.out.decode()
    assert provision("wait", id).code == 81
    assert "had ended already" in provision("stop", id).out.decode()


def test_ids_and_names_as_in_docker(whole: Rig, provision: Provision, ended: dict[str, str]) -> None:
    """Ids are shown in 12 digits; any unambiguous beginning of one will do, and an ambiguous one is refused."""
    assert ended["good"][:12] in provision("runs").out.decode()
    assert ended["good"] not in provision("runs").out.decode()
    assert value(provision("status", ended["good"][:12], "--json"))["run"]["id"] == ended["good"]
    assert value(provision("status", ended["good"].upper(), "--json"))["run"]["id"] == ended["good"]
    for _ in range(17):
        whole.start("true", name="many", instance_type="p9.huge")
    firsts = [run.id[0] for run in whole.service.runs.records(RunFilter(limit=1000))]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    done = provision("status", twice)
    assert done.code == exits.INVALID
    assert "give more of the id" in done.err
    assert provision("wait", *(run.id for run in whole.service.runs.records(RunFilter(job="many")))).code == 85


def test_a_jobs_runs_are_its_own(provision: Provision, recipe: Write) -> None:
    """`runs JOB` means that owner's job, not another's of the same name."""
    provision("apply", recipe("shared"))
    provision("apply", recipe("shared", owner="other"))
    ids = {owner: provision("start", f"{owner}/shared").out.decode().strip() for owner in ("tester", "other")}
    assert [run["id"] for run in value(provision("runs", "shared", "--json"))] == [ids["tester"]]
    assert [run["id"] for run in value(provision("runs", "other/shared", "--json"))] == [ids["other"]]
    assert value(provision("runs", "nobody/shared", "--json")) == []


def test_logs(provision: Provision, ended: dict[str, str]) -> None:
    """The bytes alone on standard output; --tail, --attempt and --stream choose; nothing is said to be nothing."""
    line = b"a line of a scripted machine's output\n"
    whole_log = (line * 3)[:100]
    assert provision("logs", ended["good"]).out == whole_log
    assert provision("logs", ended["good"], "--follow").out == whole_log
    assert provision("logs", ended["good"], "-n", "1").out == whole_log[-24:]
    assert provision("logs", ended["good"], "-n", "2", "-f").out == whole_log[-62:]
    assert provision("logs", ended["good"], "-n", "0").out == b""
    assert provision("logs", ended["good"], "--attempt", "1", "--stream", "output").out == whole_log
    done = provision("logs", ended["good"], "--attempt", "2")
    assert (done.code, done.out) == (0, b"")
    assert "nothing was written" in done.err
    shown = [json.loads(each) for each in provision("logs", ended["good"], "--json").out.splitlines()]
    assert shown == [{"attempt": 1, "stream": "output", "offset": 0, "text": whole_log.decode()}]


def test_delete(provision: Provision, recipe: Write) -> None:
    """A job with a run that is not done is kept, and the line says which to stop; its runs outlive it."""
    provision("apply", recipe("gone", instance_type="p4d.24xlarge"))
    id = value(provision("start", "gone", "-d", "--json"))["id"]
    done = provision("delete", "gone")
    assert done.code == exits.CONFLICT
    assert f"provision stop {id[:12]}" in done.err
    provision("stop", id)
    provision("wait", id)
    assert set(value(provision("delete", "gone", "--json"))) == JOB
    assert provision("show", "gone").code == exits.NOT_FOUND
    assert provision("status", id).code == 0


def test_a_key_is_one_run(provision: Provision, recipe: Write) -> None:
    """The same key gives the same run, and other inputs under it are a conflict."""
    provision("apply", recipe("keyed"))
    words = ("start", "keyed", "--idempotency-key", "$(key)\n'")
    assert provision(*words).out == provision(*words).out
    done = provision(*words, "-e", "A=1")
    assert done.code == exits.CONFLICT
    assert done.err.count("\n") == 1


def test_schedule(provision: Provision, recipe: Write) -> None:
    """It shows the next five times in the zone and in UTC, until it is disabled; a daemon is asked for."""
    provision("apply", recipe("nightly", timezone="Asia/Tokyo", concurrency_policy="Forbid"))
    assert provision("schedule", "nightly").code == exits.NOT_FOUND
    done = provision("schedule", "nightly", "0 2 * * *", "--catchup", "all")
    head, *times = done.out.decode().splitlines()
    assert head == "tester/nightly: 0 2 * * * (Asia/Tokyo), Forbid, catch up all"
    assert [(time.split()[1:3], time.split()[4:]) for time in times] == [(["02:00:00", "JST"], ["17:00:00", "UTC"])] * 5
    assert "provision daemon" in done.err
    found = value(provision("schedule", "nightly", "--json"))
    assert set(found) == SCHEDULE
    assert (found["job"], found["schedule"], found["last"], len(found["next"])) == (
        "tester/nightly", "0 2 * * *", None, 5,
    )  # fmt: skip
    assert value(provision("schedules", "--json")) == [found | {"next": found["next"][:1]}]
    assert b"tester/nightly   0 2 * * *   Asia/Tokyo   never" in provision("schedules").out
    wrong = provision("schedule", "nightly", "0 2 * *")
    assert (wrong.code, wrong.err.count("\n")) == (exits.INVALID, 1)
    assert "write five fields" in wrong.err
    assert value(provision("schedule", "nightly", "--disable", "--json"))["next"] == []
    assert value(provision("schedules", "--json")) == []


def test_jobs_marks_a_job_that_apply_would_refuse_now(whole: Rig, provision: Provision, recipe: Write) -> None:
    """A schedule that an earlier version has stored goes on; the list of jobs says what to change."""
    assert provision("apply", recipe(name="marked")).code == 0
    store = whole.service.installation.store
    before = whole.service.jobs.record("marked")
    stored = json.loads(before.recipe)
    stored["spec"]["command"] = "--epochs 3"
    store.save([replace(before, recipe=json.dumps(stored))])
    marks = {job["name"]: job["apply_refuses"] for job in value(provision("jobs", "--json"))}
    (reason,) = marks.pop("marked")
    assert reason.startswith("spec.command: ")
    assert not any(marks.values())
    assert "tester/marked" in provision("jobs").err
    assert provision("delete", "marked").code == 0


def test_json_has_the_shapes_that_are_documented(provision: Provision, ended: dict[str, str]) -> None:
    """Every command's --json has exactly these fields; times are ISO 8601 in UTC."""
    id = ended["good"]
    jobs = value(provision("jobs", "--json"))
    assert [set(job) for job in jobs] == [JOB] * len(jobs)
    assert set(value(provision("show", "good", "--json"))) == JOB
    runs = value(provision("runs", "--json"))
    assert [set(run) for run in runs] == [RUN] * len(runs)
    assert set(value(provision("wait", id, "--json"))) == RUN
    assert [set(run) for run in value(provision("stop", id, "--json"))] == [RUN]
    status = value(provision("status", id, "--json"))
    assert set(status) == {"run", "attempts", "machines", "events"}
    assert [set(each) for each in status["attempts"]] == [ATTEMPT]
    assert [set(each) for each in status["machines"]] == [MACHINE]
    assert {frozenset(event) for event in status["events"]} == {frozenset({"at", "text"})}
    receipt = value(provision("receipt", id, "--json"))
    assert set(receipt) == RECEIPT
    assert {frozenset(phase) for phase in receipt["phases"]} == {frozenset(PHASE)}
    assert [set(bill) for bill in receipt["machines"]] == [BILL]
    assert set(receipt["machines"][0]["price"]) == {"dollars", "source", "at"}
    times = [receipt["created_at"], receipt["phases"][0]["began"], status["run"]["done_at"], jobs[0]["applied_at"]]
    assert all(len(at) == 24 and at[10] == "T" and at.endswith("Z") for at in times)
    assert value(provision("schema"))["$schema"]


@HERE
def test_json_of_what_only_the_control_host_does(provision: Provision) -> None:
    """Of `reap` and `takeover`."""
    assert value(provision("reap", "--json")) == []
    assert value(provision("takeover", "--json")) == {"mailboxes": []}


def test_tables_are_for_eyes_and_awk(provision: Provision, ended: dict[str, str]) -> None:
    """Each table has its header, and no command prints JSON unasked."""
    assert provision("jobs").out.startswith(b"JOB ")
    assert provision("runs").out.startswith(b"RUN ")
    assert b"BILLED SECONDS" in provision("receipt", ended["good"]).out
    assert b"done: no machine of it lives" in provision("status", ended["good"]).out
    assert provision("show", "good").out.startswith(b"schema_version")


@HERE
def test_reap_tells_the_journal(provision: Provision) -> None:
    """Off a terminal what it does is a line of JSON on standard error, as a daemon's is."""
    done = provision("reap")
    assert (done.code, done.out) == (0, b"")
    assert set(told := json.loads(done.err)) == {"at", "level", "text"}
    assert told["text"] == "no machine has outlived its time"
