"""Output and exit code of each command without a terminal, as scripts use them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.faces.cli import exits
from tests.cli.conftest import HERE, Done, Provision
from tests.e2e.rig import Rig

pytestmark = pytest.mark.usefixtures("whole")

Write = Callable[..., str]

JOB = {
    *("id", "owner", "name", "revision", "created_at", "applied_at", "schedule", "recipe", "apply_refuses"),
    *("warnings", "hourly_dollars", "machine_lifetime"),
}
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
    *("certain_at", "done_at", "market", "instance_type", "dollars_at_least", "dollars_at_most", "scale"),
    *("last_attempt", "commands"),
}
ATTEMPT = {
    *("attempt", "rank", "instance_id", "bound_at", "step", "bytes_produced", "bytes_shipped", "heard_at"),
    *("report_due_at", "silent_since", "notice_at", "rebalance_at", "stop_sent_at", "stop_grace", "stop_ends_at"),
    *("outcome", "exit_code", "process_exit_code", "reason", "ended_at", "ended_in", "archived_at"),
}
MACHINE = {
    *("id", "type", "zone", "market", "state", "launch_time", "impaired_at", "ending_at", "ended_at"),
    *("end_wanted_for", "end_wanted_at", "end_asked_at", "price", "reservation"),
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
    "cost_limit",
}
PHASE = {
    *("name", "attempt", "rank", "beside", "billed", "began", "ended", "seconds", "source"),
    *("began_source", "began_error", "ended_source", "ended_error"),
}
USAGE = {"at", "first", "last", "by", "rows", "final", "estimated", "prices", "uncounted", "not_included"}
BILL = {
    *("rank", "disk_gib", "disk_gib_seconds_at_least", "disk_gib_seconds_at_most"),
    *("instance_id", "attempt", "instance_type", "zone", "market", "seconds_at_least", "seconds_at_most", "price"),
    *("dollars_at_least", "dollars_at_most", "disk_price", "disk_dollars_at_least", "disk_dollars_at_most"),
    "reservation",
    "free",
}


SCHEDULE = {"job", "schedule", "timezone", "concurrency_policy", "schedule_catchup", "last", "next"}


def value(done: Done) -> Any:
    return json.loads(done.out)


@pytest.fixture(scope="module")
def ended(whole: Rig) -> dict[str, str]:
    """Return the ids of two runs that are done: "bad" failed and "good" succeeded."""
    runs = [whole.start("true", name=name, use_spot_instance=True) for name in ("bad", "good")]
    return {run.job_name: run.id for run in whole.done(*runs)}


def test_apply_and_start(provision: Provision, recipe: Write) -> None:
    """`apply` prints the revision. `start` prints the id, warns that no daemon acts, and exits as the job does."""
    done = provision("apply", recipe("bad"))
    assert done.out.startswith(b"tester/bad: ")
    done = provision("start", "bad")
    id = done.out.decode().strip()
    assert len(id) == 32
    assert done.code == 3
    assert "no daemon acts" in done.err
    assert done.last_line == f"{id[:12]} failed: the command exited with 3 (exit code 3)"
    assert provision("start", "tester/bad", "--json").code == 3


def test_apply_and_start_at_once(provision: Provision, recipe: Write) -> None:
    """`apply --start` applies and starts; its --json shows the run."""
    done = provision("apply", recipe("good-at-once"), "--start", "--json")
    assert done.code == 0
    assert value(done)["job"] == "good-at-once"
    assert value(done)["outcome"] == "succeeded"


@HERE
def test_detach_launches_and_returns(provision: Provision, recipe: Write) -> None:
    """Without a daemon `start --detach` makes one pass, which launches; later commands continue the run."""
    provision("apply", recipe("detached"))
    done = provision("start", "detached", "--detach", "--json")
    assert done.code == 0
    run = value(done)
    # The machine may be in any state by now.
    assert run["attempt"] == 1
    assert "provision wait" in done.err
    assert provision("wait", run["id"][:8]).code == 0


@HERE
def test_with_a_daemon_start_returns_at_once(whole: Rig, provision: Provision, recipe: Write) -> None:
    """With a daemon `start` stores the run and exits with 0; `wait` waits for the daemon's result."""
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
    """The exit code is the first one that is not 0, in the order given; the last line names its run."""
    done = provision("wait", ended["good"], ended["bad"])
    assert done.code == 3
    assert done.last_line == f"exit code 3: that of run {ended['bad'][:12]}, the first that did not succeed"
    assert [each["outcome"] for each in value(provision("wait", *ended.values(), "--json"))] == ["failed", "succeeded"]
    assert provision("wait", ended["good"], ended["good"]).code == 0


def test_a_run_without_an_exit_code(provision: Provision, recipe: Write) -> None:
    """The exit code stands for the outcome, and the last line says so."""
    provision("apply", recipe("none", instance_type="g5g.xlarge", placement={"gpu": "none"}))
    done = provision("start", "none")
    assert done.code == 85
    assert "refused: g5g.xlarge: the AMI is for x86_64" in done.last_line
    assert done.last_line.endswith("(exit code 85: refused)")


def test_a_waiting_run_says_why(whole: Rig, provision: Provision, recipe: Write) -> None:
    """`runs`, `status` and --json show why a run is queued, the launches tried, and the next try."""
    provision("apply", recipe("dry", instance_type="g6.xlarge"))
    id = value(provision("start", "dry", "--detach", "--json"))["id"]
    whole.until(lambda: whole.service.runs.record(id).waiting is not None)
    assert re.search(r"dry +queued .* capacity: ", provision("runs", "dry").out.decode())
    text = provision("status", id).out.decode()
    assert "\nnext try   " in text
    assert "\ntried      on-demand g6.xlarge" in text
    waiting = value(provision("status", id, "--json"))["run"]["waiting"]
    assert waiting["cause"] == "capacity"
    assert {"what", "code", "at"} == set(waiting["tried"][0])
    done = provision("stop", id)
    assert "provision wait" in done.out.decode()
    assert provision("wait", id).code == 81
    assert "has ended before" in provision("stop", id).out.decode()


def test_unique_id_prefix_is_accepted(provision: Provision, ended: dict[str, str]) -> None:
    """Ids are shown with 12 digits, and a unique prefix is accepted."""
    assert ended["good"][:12] in provision("runs").out.decode()
    assert ended["good"] not in provision("runs").out.decode()
    assert value(provision("status", ended["good"][:12], "--json"))["run"]["id"] == ended["good"]
    assert value(provision("status", ended["good"].upper(), "--json"))["run"]["id"] == ended["good"]


def test_a_jobs_runs_are_its_own(provision: Provision, recipe: Write) -> None:
    """`runs JOB` lists runs of that owner's job only, not of another owner's job with the same name."""
    provision("apply", recipe("shared"))
    provision("apply", recipe("shared", owner="other"))
    ids = {owner: provision("start", f"{owner}/shared").out.decode().strip() for owner in ("tester", "other")}
    assert [run["id"] for run in value(provision("runs", "shared", "--json"))] == [ids["tester"]]
    assert [run["id"] for run in value(provision("runs", "other/shared", "--json"))] == [ids["other"]]
    assert provision("runs", "nobody/shared", "--json").code == exits.NOT_FOUND


def test_logs(provision: Provision, ended: dict[str, str]) -> None:
    """Standard output has only the log; --tail, --attempt and --stream select, and an empty log is announced."""
    line = b"a line of a scripted machine's output\n"
    whole_log = (line * 3)[:100]
    assert provision("logs", ended["good"]).out == whole_log
    assert provision("logs", ended["good"], "--follow").out == whole_log
    assert provision("logs", ended["good"], "-n", "1").out == whole_log[-24:]
    assert provision("logs", ended["good"], "-n", "2", "-f").out == whole_log[-62:]
    assert provision("logs", ended["good"], "-n", "0").out == b""
    assert provision("logs", ended["good"], "--attempt", "1", "--stream", "output").out == whole_log
    done = provision("logs", ended["good"], "--attempt", "2")
    assert (done.code, done.out) == (exits.NOT_FOUND, b"")
    done = provision("logs", ended["good"], "--stream", "setup")
    assert (done.code, done.out) == (0, b"")
    assert "is empty" in done.err
    shown = [json.loads(each) for each in provision("logs", ended["good"], "--json").out.splitlines()]
    assert shown == [{"attempt": 1, "stream": "output", "offset": 0, "text": whole_log.decode(), "rank": 0}]


def test_delete(provision: Provision, recipe: Write) -> None:
    """A job with an unfinished run is not deleted, and the error names the run; the runs outlive their job."""
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


def test_revisions(provision: Provision, recipe: Write, tmp_path: Path) -> None:
    """Each `apply` that changes the recipe is listed with what changed, and an earlier recipe can be applied again."""
    for command in ("echo one", "echo two", "echo two"):
        provision("apply", recipe("revised", command=command))
    listed = provision("revisions", "revised")
    assert listed.code == 0, listed
    latest, first = (line.split() for line in provision("revisions", "revised").out.decode().splitlines()[1:])
    assert (latest[0], latest[-1], first[0]) == ("2", "command", "1")
    old = provision("revisions", "revised", "1")
    assert b"command: echo one" in old.out
    path = tmp_path / "old.yaml"
    path.write_bytes(old.out)
    assert provision("apply", str(path)).code == 0
    shown = value(provision("revisions", "revised", "--json"))
    assert [each["number"] for each in shown] == [3, 2, 1]
    assert value(provision("revisions", "revised", "3", "--json"))["recipe"]["spec"]["command"] == "echo one"
    assert provision("revisions", "revised", "9").code == exits.NOT_FOUND


def test_same_idempotency_key_gives_the_same_run(provision: Provision, recipe: Write) -> None:
    """The same key gives the same run; other inputs with it are a conflict."""
    provision("apply", recipe("keyed"))
    words = ("start", "keyed", "--idempotency-key", "$(key)\n'")
    assert provision(*words).out == provision(*words).out
    done = provision(*words, "-e", "A=1")
    assert done.code == exits.CONFLICT
    assert done.err.count("\n") == 1


def test_schedule(provision: Provision, recipe: Write) -> None:
    """`schedule` shows the next five times in the zone and in UTC until it is disabled, and warns if no daemon runs."""
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
    assert b"tester/nightly  0 2 * * *  Asia/Tokyo  never" in provision("schedules").out
    wrong = provision("schedule", "nightly", "0 2 * *")
    assert (wrong.code, wrong.err.count("\n")) == (exits.INVALID, 1)
    assert "write five fields" in wrong.err
    assert value(provision("schedule", "nightly", "--disable", "--json"))["next"] == []
    assert value(provision("schedules", "--json")) == []


def test_jobs_marks_a_job_that_apply_would_refuse_now(whole: Rig, provision: Provision, recipe: Write) -> None:
    """A job stored by an earlier version keeps its schedule; `jobs` says what to change."""
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
    """Each command's --json has exactly these fields; times are ISO 8601 in UTC."""
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
    assert {frozenset(event) for event in status["events"]} == {frozenset({"at", "text", "who"})}
    receipt = value(provision("receipt", id, "--json"))
    assert set(receipt) == RECEIPT
    assert {frozenset(phase) for phase in receipt["phases"]} == {frozenset(PHASE)}
    assert [set(bill) for bill in receipt["machines"]] == [BILL]
    assert set(receipt["machines"][0]["price"]) == {"dollars", "source", "at"}
    usage = value(provision("usage", "--by", "job", "--json"))
    assert set(usage) == USAGE
    assert {frozenset(row) for row in usage["rows"]} == {frozenset({"group", "final", "estimated"})}
    times = [receipt["created_at"], receipt["phases"][0]["began"], status["run"]["done_at"], jobs[0]["applied_at"]]
    assert all(len(at) == 24 and at[10] == "T" and at.endswith("Z") for at in times)
    assert value(provision("schema"))["$schema"]


@HERE
def test_json_of_what_only_the_control_host_does(provision: Provision) -> None:
    """Covers `reap` and `takeover`."""
    assert value(provision("reap", "--json")) == []
    assert value(provision("takeover", "--json")) == {"mailboxes": []}


def test_tables_have_headers_and_json_needs_its_option(provision: Provision, ended: dict[str, str]) -> None:
    """Each table has a header, and no command prints JSON without --json."""
    assert provision("jobs").out.startswith(b"JOB ")
    assert provision("runs").out.startswith(b"RUN ")
    assert b"BILLED SECONDS" in provision("receipt", ended["good"]).out
    assert b"done: all of its machines are terminated" in provision("status", ended["good"]).out
    assert provision("show", "good").out.startswith(b"schema_version")


@HERE
def test_reap_writes_json_lines_to_standard_error(provision: Provision) -> None:
    """Without a terminal `reap` writes JSON lines to standard error, as a daemon does."""
    done = provision("reap")
    assert (done.code, done.out) == (0, b"")
    assert set(told := json.loads(done.err)) == {"at", "level", "text"}
    assert told["text"] == "no machine has exceeded its lifetime"


def test_apply_names_the_changed_fields(provision: Provision, recipe: Write) -> None:
    """Values are not shown, because variables may be private."""
    assert provision("apply", recipe("changing")).out == b"tester/changing: new job, revision 1\n"
    assert provision("apply", recipe("changing")).out == b"tester/changing: unchanged, revision 1\n"
    changed = recipe("changing", environment_variables={"KEY": "hunter2"}, limits={"runtime": "2h"})
    done = provision("apply", changed)
    assert done.out == b"tester/changing: revision 2, changed: environment_variables.KEY, limits.runtime\n"
    scheduled = provision("apply", recipe("changing", schedule="0 2 * * *")).out.decode().splitlines()
    assert scheduled[1].startswith("next start by its schedule: ")
    assert provision("delete", "changing").code == 0


def test_failed_command_shows_the_end_of_its_log(provision: Provision, ended: dict[str, str]) -> None:
    """`wait` and `status` show the last lines, and the command that prints the whole log."""
    done = provision("wait", ended["bad"])
    assert f"the whole log: provision logs {ended['bad'][:12]}" in done.err.splitlines()
    assert "  a line of a scripted machine's output" in done.err.splitlines()
    assert "  a line of a scripted machine's output" in provision("status", ended["bad"]).out.decode().splitlines()


def test_runs_shows_duration_type_and_cost(provision: Provision, ended: dict[str, str]) -> None:
    head, *lines = provision("runs").out.decode().splitlines()
    assert head.split() == ["RUN", "JOB", "STATE", "AGE", "TIME", "TYPE", "COST", "REASON"]
    row = next(line.split() for line in lines if line.startswith(ended["good"][:12]))
    assert row[2] == "succeeded"
    assert row[5] == "g5.xlarge"
    assert row[6].startswith("$0.0")


def test_reason_is_shown_once(provision: Provision, ended: dict[str, str]) -> None:
    text = provision("status", ended["bad"]).out.decode()
    assert text.count("the command exited with 3") == 1
