"""The whole agent, end to end, on light machines."""

import hashlib
import shlex
import time

import pytest

from provisioner.core.protocol import codec, keys
from provisioner.core.protocol.messages import Orders, Started, Stop
from provisioner.core.protocol.words import STREAMS, Engine, Outcome, Step
from tests.agent.conftest import Site
from tests.polling import until


def test_a_command_that_exits_0_succeeds(site: Site) -> None:
    """Outcome, log, variables, spans and the EOF mark are all in the bucket when the machine has powered off."""
    order = site.order(
        'echo "$RUN_ID $GREETING"; pwd; echo problem >&2',
        start_script="echo setting up; pwd",
        environment={"GREETING": 'it\'s $HOME `date` "x"\nnew line'},
    )
    machine = site.run(order)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.SUCCEEDED, Step.COMMAND, 0), result.reason
    output = site.log(machine)
    folder = str(site.folder / "machines" / machine) + "/home/jovyan/workspace"
    assert output.decode() == f'run-1 it\'s $HOME `date` "x"\nnew line\n{folder}\nproblem\n'
    assert site.log(machine, "setup").decode() == f"setting up\n{folder}\n"
    for stream in STREAMS:
        end, data = result.streams[stream], site.log(machine, stream)
        assert (end.length, end.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        for chunk in end.chunks:
            part = data[chunk.offset : chunk.offset + chunk.length]
            assert hashlib.sha256(part).hexdigest() == chunk.sha256
    assert all(span.ended is not None and span.began <= span.ended for span in result.spans.values())
    reports = site.reports(machine)
    assert [report.sequence for report in reports] == list(range(1, len(reports) + 1))
    assert reports[-1].finished
    assert reports[-1].shipped == reports[-1].produced


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [("exit 3", 3, "exited with 3"), ("kill -9 $$", 137, "SIGKILL"), ("no-such-command", 127, "exited with 127")],
)
def test_a_command_that_fails_keeps_its_exit_code(site: Site, command: str, code: int, words: str) -> None:
    """The exit code is the process's own, or 128 + s if signal s ended it."""
    result = site.result(site.run(site.order(command)))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.COMMAND, code)
    assert words in result.reason


def test_failing_start_script_fails_the_run_before_the_command(site: Site) -> None:
    """The command never executes, and the outcome names the step."""
    machine = site.run(site.order("echo never", start_script="#!/bin/bash\n[[ 1 == 1 ]] && echo bash; exit 7"))
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.SETUP, 7)
    assert (site.log(machine, "setup"), site.log(machine)) == (b"bash\n", b"")
    assert site.get(keys.started_key(site.box(machine))) is None


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ('#!/bin/bash -u\na=(x y)\n[[ ${a[1]} == y ]] && echo "$GREETING"\nexit 7\n', 7, b"hello\n"),
        ("#!/usr/bin/env python3\nimport os, sys\nprint(os.environ['GREETING'])\nsys.exit(7)", 7, b"hello\n"),
        ("#! /bin/sh\nexec sh -c 'kill -9 $$'", 137, b""),
        ("#!/no/such/shell\n:", 127, None),
    ],
)
def test_command_with_an_interpreter_line_runs_under_it(
    site: Site, command: str, code: int, output: bytes | None
) -> None:
    """The exit code is the interpreter's, and the variables are set, as for a start script."""
    machine = site.run(site.order(command, environment={"GREETING": "hello", "IFS": "/"}))
    result = site.result(machine)
    assert (result.step, result.exit_code) == (Step.COMMAND, code), result.reason
    assert output is None or site.log(machine) == output


def test_command_with_an_interpreter_line_gets_the_signal_itself(site: Site) -> None:
    """No shell stands between the agent's SIGTERM and a command that saves a checkpoint."""
    machine = site.start(
        site.order("#!/bin/bash\ntrap 'echo saved; exit 5' TERM\necho up\nwhile :; do sleep 0.1; done")
    )
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_off(machine)
    assert site.result(machine).exit_code == 5
    assert site.log(machine).endswith(b"saved\n")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"command": "source activate train\ntrue"}, 0),
        ({"command": "x=(1 2)"}, 2),
        ({"command": "true", "start_script": "[[ -d / ]] && export A=1\ntrue"}, 0),
        ({"command": "true", "start_script": "set -euo pipefail"}, 2),
    ],
)
def test_bash_in_a_script_for_sh_is_named_in_the_reason(site: Site, changes: dict[str, str], code: int) -> None:
    """The outcome does not change. Without the hint, only one line of the log would show that sh skipped a command."""
    result = site.result(site.run(site.order(**changes)))
    assert result.outcome is (Outcome.FAILED if code else Outcome.SUCCEEDED)
    assert result.exit_code == code
    assert "#!/bin/bash" in result.reason


@pytest.mark.parametrize(
    "command",
    [
        "echo source: not found",
        "#!/bin/bash\necho 'sh: 1: source: not found'",
        "no-such-command; true",
        "cat no-file; true",
    ],
)
def test_other_messages_name_no_shell(site: Site, command: str) -> None:
    """Users ignore a hint that is often wrong."""
    result = site.result(site.run(site.order(command)))
    assert (result.outcome, "bash" in result.reason) == (Outcome.SUCCEEDED, False)


def stop(site: Site, machine: str, outcome: Outcome = Outcome.CANCELLED) -> None:
    site.give_orders(machine, Orders(stop=Stop(outcome, "the user asked", time.time())))


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.TIMED_OUT])
def test_a_stop_lets_the_job_save_its_work(site: Site, outcome: Outcome) -> None:
    """The job gets SIGTERM and ends within the grace; its exit code is recorded beside the outcome of the order."""
    machine = site.start(site.order("trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"))
    site.wait_output(machine, b"up")
    stop(site, machine, outcome)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (outcome, 5), result.reason
    assert "the user asked" in result.reason
    assert site.log(machine).endswith(b"saved\n")


def test_a_shell_goes_on_when_the_process_that_caught_sigterm_has_ended(site: Site) -> None:
    """A shell without a trap survives while its child saves, and has time for a short command afterwards."""
    child = "import signal,sys,time\ndef save(*_):\n time.sleep(1); print('saved'); sys.exit()\n"
    child += "signal.signal(signal.SIGTERM, save)\nprint('up', flush=True)\nwhile True: time.sleep(0.1)"
    machine = site.start(site.order(f"python3 -c {shlex.quote(child)}; echo after"))
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_off(machine)
    assert site.log(machine) == b"up\nsaved\nafter\n"
    assert (site.result(machine).outcome, site.result(machine).exit_code) == (Outcome.CANCELLED, 0)


def test_a_job_that_ignores_a_stop_is_ended_after_its_grace(site: Site) -> None:
    """SIGKILL follows SIGTERM, and no process of the job keeps running."""
    machine = site.start(site.order("trap '' TERM; echo up; while :; do sleep 0.1; done", stop_grace=1.0))
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.CANCELLED, 137)


#: A parent that exits at SIGTERM; its child gets SIGTERM afterwards and saves.
PARENT = "import os,signal,sys,time\nchild = os.fork()\ndef save(*_):\n"
PARENT += " if child: os._exit(7)\n time.sleep(1); os.write(1, b'saved\\n'); os._exit(0)\n"
PARENT += "signal.signal(signal.SIGTERM, save)\nif child: os.write(1, b'up\\n')\nwhile True: time.sleep(0.1)"


def test_a_process_that_outlives_the_command_has_the_rest_of_the_grace(site: Site) -> None:
    """The exit code is already known, but SIGKILL still waits for the grace."""
    machine = site.start(site.order(f"exec python3 -c {shlex.quote(PARENT)}"))
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_off(machine)
    assert (site.result(machine).exit_code, site.log(machine)) == (7, b"up\nsaved\n")


def test_a_server_of_the_start_script_is_there_while_the_command_saves(site: Site) -> None:
    """The server catches SIGTERM, and gets it only after the command has ended."""
    server = "import signal,sys,time\nsignal.signal(15, lambda *_: (open('ended', 'w'), sys.exit()))\n"
    server += "open('up', 'w')\nwhile True: time.sleep(0.1)"
    start = f"nohup python3 -c {shlex.quote(server)} & until [ -e up ]; do sleep 0.05; done"
    save = "sleep 0.7; [ -e ended ] || echo served; exit 5"
    command = f"trap {shlex.quote(save)} TERM; echo up; while :; do sleep 0.1; done"
    machine = site.start(site.order(command, start_script=start))
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_off(machine)
    assert site.log(machine).replace(b"Terminated\n", b"") == b"up\nserved\n"
    assert b"SIGKILL" not in site.log(machine, "system")


#: A daemon that saves at SIGTERM and prints a line about it.
DAEMON = "import signal,sys,time\ndef save(*_):\n time.sleep(0.5); print('daemon saved', flush=True); sys.exit()\n"
DAEMON += "signal.signal(signal.SIGTERM, save)\nprint('daemon up', flush=True)\nwhile True: time.sleep(0.1)"


def test_background_process_of_a_finished_command_gets_sigterm_and_time_to_end(site: Site) -> None:
    """The command exits by itself; its background process saves, and the outcome is the command's."""
    wait = "until [ -s up ]; do sleep 0.05; done; cat up"
    machine = site.run(
        site.order(f"setsid nohup python3 -c {shlex.quote(DAEMON)} >up 2>&1 & {wait}; tail -f up & exit 3")
    )
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 3), result.reason
    assert site.log(machine).startswith(b"daemon up\n")
    assert b"SIGKILL" not in site.log(machine, "system")


def test_background_process_that_ignores_sigterm_is_killed(site: Site) -> None:
    """SIGKILL follows after five seconds: no process may keep a machine without work."""
    machine = site.run(site.order("(trap '' TERM; while :; do sleep 0.1; done) & echo over"))
    assert site.result(machine).outcome is Outcome.SUCCEEDED
    span = site.result(machine).spans["command"]
    assert span.ended is not None
    assert span.ended - span.began >= 5.0


def test_a_daemon_of_the_start_script_outlives_setup_and_ends_with_the_job(site: Site) -> None:
    """A server for the command keeps running after setup, and gets SIGTERM when the command has ended."""
    start = f"nohup python3 -c {shlex.quote(DAEMON)} &"
    machine = site.run(site.order("sleep 0.5; echo over", start_script=start))
    assert site.result(machine).outcome is Outcome.SUCCEEDED
    assert (site.log(machine), site.log(machine, "setup")) == (b"over\n", b"daemon up\ndaemon saved\n")


def test_stop_during_setup_cancels_before_the_command(site: Site) -> None:
    """A start script is stopped as a command is, and the command never executes."""
    machine = site.start(site.order("echo never", start_script="echo up; sleep 600"))
    site.wait_output(machine, b"up", "setup")
    stop(site, machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step) == (Outcome.CANCELLED, Step.SETUP)
    assert site.get(keys.started_key(site.box(machine))) is None


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"command": "sleep 600", "runtime_limit": 0.5}, Step.COMMAND),
        ({"command": ":", "start_script": "sleep 600", "setup_limit": 0.5}, Step.SETUP),
    ],
)
def test_limits_are_enforced_on_the_machine(site: Site, changes: dict[str, object], step: Step) -> None:
    """The machine enforces the limits without the control plane; the outcome names the limit."""
    result = site.result(site.run(site.order(**changes)))  # type: ignore[arg-type]
    assert (result.outcome, result.step, result.exit_code) == (Outcome.TIMED_OUT, step, 143)
    assert f"limits.{'setup' if step is Step.SETUP else 'runtime'} of 0.5 s" in result.reason


def test_binary_output_through_a_small_spool_survives_byte_for_byte(site: Site) -> None:
    """While the spool is full the job waits; no byte is dropped or changed."""
    program = "import sys\nfor i in range(3000): sys.stdout.buffer.write(bytes(range(256)) * 4 + i.to_bytes(4, 'big'))"
    machine = site.run(site.order(f"python3 -c {shlex.quote(program)}", spool_limit=200_000))
    expected = b"".join(bytes(range(256)) * 4 + i.to_bytes(4, "big") for i in range(3000))
    assert site.result(machine).outcome is Outcome.SUCCEEDED
    assert hashlib.sha256(site.log(machine)).digest() == hashlib.sha256(expected).digest()
    assert max(chunk.length for chunk in site.result(machine).streams["output"].chunks) <= 200_000


def test_rebalance_recommendation_is_reported_and_ends_nothing(site: Site) -> None:
    """A rebalance recommendation is in the reports and in a file that the job can watch; it ends nothing."""
    command = 'echo up; until [ -s "$PROVISION_REBALANCE_FILE" ]; do sleep 0.1; done; echo moving'
    machine = site.start(site.order(command))
    site.wait_output(machine, b"up")
    site.metadata.recommend(machine)
    site.wait_off(machine)
    assert (site.result(machine).outcome, site.log(machine)) == (Outcome.SUCCEEDED, b"up\nmoving\n")
    assert site.result(machine).notice is None
    assert any(report.rebalance_at for report in site.reports(machine))


def test_machine_waits_for_the_interruption_in_its_first_hour(site: Site) -> None:
    """In its first hour the machine does not power itself off after a notice, even if its work is done."""
    machine = site.start(site.order("trap 'exit 1' TERM; echo up; while :; do sleep 0.1; done"))
    site.wait_output(machine, b"up")
    site.metadata.announce(machine, time.time() + 120)
    until(lambda: any(report.finished for report in site.reports(machine)), "the last report")
    assert site.result(machine).outcome is Outcome.INTERRUPTED
    assert machine not in site.off


def test_machine_without_a_work_order_powers_off_by_its_boot_fuse(site: Site) -> None:
    """A machine without a work order powers itself off."""
    machine = site.boot(boot_fuse=4)
    site.wait_off(machine)
    assert "fuse" in site.host.console(machine)


def test_machine_powers_off_at_the_end_of_the_work_orders_lifetime(site: Site) -> None:
    """The work order's lifetime, counted from the launch, replaces the boot fuse."""
    machine = site.start(site.order("sleep 600", lifetime=106.0), age=100)
    site.wait_off(machine)
    assert site.get(keys.result_key(site.box(machine))) is None


def test_command_started_by_another_agent_is_lost_not_rerun(site: Site) -> None:
    """Another agent's `started` mark means that the command may have run: the run is lost, not run twice."""
    machine = site.boot()
    site.put(keys.started_key(site.box(machine)), codec.encode(Started("another", time.time())))
    site.assign(machine, site.order("echo never"))
    site.wait_off(machine)
    result = site.result(machine)
    reason = "the command was started before, and none of its processes was found on this machine"
    assert (result.outcome, result.reason) == (Outcome.LOST, reason)
    assert site.log(machine) == b""


def test_command_cut_off_by_a_machine_restart_is_lost(site: Site) -> None:
    """After a restart of the machine, the container's exit code is not the command's."""
    machine = site.boot()
    home = site.folder / "machines" / machine / "var/lib/provision"
    home.mkdir(parents=True, exist_ok=True)
    (home / "boot").write_text("another boot\n")
    site.put(keys.started_key(site.box(machine)), codec.encode(Started("another", time.time())))
    site.assign(machine, site.order("echo never"))
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.LOST, None)
    assert result.reason == "the machine was restarted while the command ran"


HOSTILE = "'; touch $HOME/pwned; echo \"`touch $HOME/pwned`$(touch $HOME/pwned)\\ \n\t*?~!#&|<>"


def test_shell_metacharacters_outside_the_command_are_not_interpreted(site: Site) -> None:
    """Shell metacharacters in every other field arrive unchanged."""
    order = site.order(
        'printf %s "$X"; find "$HOME/../.." -name pwned | wc -l',
        environment={"X": HOSTILE},
        working_directory="/home/jovyan/../../" + HOSTILE.replace("/", "_"),
        job=HOSTILE,
        owner=HOSTILE,
        image=HOSTILE,
    )
    machine = site.run(order)
    assert site.log(machine).decode() == HOSTILE + "0\n", site.result(machine).reason


@pytest.mark.parametrize("environment", [{"A B": "x"}, {"A": "\0"}, {"A;touch x": "x"}])
def test_invalid_environment_variable_is_refused(site: Site, environment: dict[str, str]) -> None:
    """Another attempt would fail too, so the outcome is REFUSED."""
    result = site.result(site.run(site.order(":", environment=environment)))
    assert (result.outcome, result.step, result.exit_code) == (Outcome.REFUSED, Step.SETUP, None)


@pytest.mark.parametrize("changes", [{"engine": Engine.CONTAINER}, {"gpus": 9}])
def test_a_broken_machine_loses_the_run(site: Site, changes: dict[str, object]) -> None:
    """A missing engine, or too few or broken GPUs, is the machine's fault, so another machine may try."""
    result = site.result(site.run(site.order(":", **changes)))
    assert (result.outcome, result.exit_code) == (Outcome.LOST, None), result.reason
