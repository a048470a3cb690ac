"""A dead agent is restarted once and saves what it can of the run; the command never executes twice."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from provisioner.core.protocol import keys
from provisioner.core.protocol.messages import Orders, Secret, Stop
from provisioner.core.protocol.words import Attachment, Outcome, Step
from tests.agent.conftest import Site
from tests.polling import until

#: A command that prints a line at SIGTERM and exits.
HOLD = "trap 'echo saved; exit 5' TERM; echo up; while :; do sleep 0.1; done"


#: Wait for a file that the test creates.
WAIT = 'until [ -e "$HOME/on" ]; do sleep 0.05; done'


@pytest.mark.parametrize(
    ("command", "numbers"),
    [
        ("i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 7", 400),
        (f"seq 1000000; {WAIT}; seq 1000001 2000000; exit 7", 2_000_000),
    ],
    ids=["steady", "flood"],
)
def test_a_killed_agent_costs_neither_a_byte_nor_the_exit_code(site: Site, command: str, numbers: int) -> None:
    """The log has every line once and in order, the exit code is the command's, and reports continue."""
    machine = site.start(site.order(command))
    site.wait_output(machine, b"\n")
    (site.folder / "machines" / machine / "home/jovyan/on").touch()
    site.kill_agent(machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.FAILED, Step.COMMAND, 7), result.reason
    assert site.whole_log(machine) == b"".join(b"%d\n" % number for number in range(1, numbers + 1))
    assert b"the agent died at " in site.whole_log(machine, "system")
    reports = site.reports(machine)
    assert [report.sequence for report in reports] == sorted({report.sequence for report in reports})
    assert len({report.process for report in reports}) == 2
    assert reports[-1].finished
    began = [report.spans["command"].began for report in reports if "command" in report.spans]
    assert len(set(began)) == 1


def test_a_command_that_ends_while_there_is_no_agent_is_whole(site: Site) -> None:
    """The last output and the exit code are kept for the agent's successor."""
    suicide = "read -r _ _ _ agent _ </proc/$PPID/stat; kill -9 $agent; echo last words; exit 6"
    machine = site.run(site.order(f"echo first; {suicide}"))
    assert site.result(machine).exit_code == 6, site.result(machine).reason
    assert site.whole_log(machine) == b"first\nlast words\n"


def test_a_secret_that_is_cut_by_the_death_stays_hidden(site: Site) -> None:
    """One agent read the secret's first half, its successor the second."""
    secret = Secret(site.parameter("token", "hunter2-swordfish"), Attachment.VARIABLE, "TOKEN")
    halves = f'printf %s "it is ${{TOKEN%fish}}"; {WAIT}; echo "fish, ${{TOKEN}}."'
    machine = site.start(site.order(halves, secrets=(secret,)))
    folder = site.folder / "machines" / machine
    taken = folder / "run/provision-agent/output" / f"{0:015d}"
    until(lambda: taken.exists() and taken.stat().st_size, "the first half", lambda: site.host.console(machine))
    site.kill_agent(machine)
    (folder / "home/jovyan/on").touch()
    site.wait_off(machine)
    assert site.whole_log(machine) == b"it is ***, ***.\n"
    assert b"swordfish" not in site.everything_said(machine)


def stop(site: Site, machine: str) -> None:
    site.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))


def notice(site: Site, machine: str) -> None:
    site.metadata.announce(machine, float(int(time.time()) + 120))


@pytest.mark.parametrize(
    ("cause", "limit", "outcome"),
    [
        (stop, 60.0, Outcome.CANCELLED),
        (notice, 60.0, Outcome.INTERRUPTED),
        (lambda *_: None, 10.0, Outcome.TIMED_OUT),
    ],
    ids=["stop", "notice", "limit"],
)
def test_stop_notice_and_limit_work_after_an_agents_death(
    site: Site, cause: Callable[[Site, str], None], limit: float, outcome: Outcome
) -> None:
    """The command gets SIGTERM once and its grace; the exit code is kept. The limit counts from the command's start."""
    machine = site.start(site.order(HOLD, runtime_limit=limit, lifetime=7800.0), age=7200)
    site.wait_output(machine, b"up")
    site.kill_agent(machine)
    cause(site, machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (outcome, 5), result.reason
    # The shell prints that its `sleep` was terminated.
    assert site.whole_log(machine).replace(b"Terminated\n", b"") == b"up\nsaved\n"
    span = result.spans["command"]
    assert span.ended is not None
    assert span.ended - span.began >= (limit if outcome is Outcome.TIMED_OUT else 0.0)


def test_a_stop_goes_on_under_the_next_agent(site: Site) -> None:
    """The job has had SIGTERM: it gets no second one, and the grace is not restarted."""
    count = "trap 'n=$((n+1)); echo term $n' TERM; echo up; while :; do sleep 0.1; done"
    machine = site.start(site.order(count, stop_grace=10.0))
    site.wait_output(machine, b"up")
    stop(site, machine)
    site.wait_output(machine, b"term 1\n")
    site.kill_agent(machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.CANCELLED, 137), result.reason
    assert site.whole_log(machine).replace(b"Terminated\n", b"") == b"up\nterm 1\n"


def test_a_command_that_has_not_begun_never_does(site: Site) -> None:
    """The agent is killed during the start script: the run is lost, and the reason names the step."""
    machine = site.start(site.order("echo never", start_script="echo up; sleep 600"))
    site.wait_output(machine, b"up", "setup")
    site.kill_agent(machine)
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.step, result.exit_code) == (Outcome.LOST, Step.SETUP, None)
    assert result.reason == "the agent died at setup, before the command began"
    assert (site.whole_log(machine, "setup"), site.whole_log(machine)) == (b"up\n", b"")
    assert site.get(keys.started_key(site.box(machine))) is None


def test_a_job_that_died_with_its_agent_is_lost(site: Site) -> None:
    """The job's exit code is unknown."""
    machine = site.start(site.order("read -r _ _ _ agent _ </proc/$PPID/stat; echo up; kill -9 $PPID $agent"))
    site.wait_off(machine)
    result = site.result(machine)
    assert (result.outcome, result.exit_code) == (Outcome.LOST, None)
    assert result.reason == "the agent died at command, and no process of the command is left"


def test_a_result_that_is_settled_stays_as_it_is(site: Site) -> None:
    """The agent is killed while it waits for the cloud to end the machine: the result stays, and the wait goes on."""
    machine = site.start(site.order(HOLD))
    site.wait_output(machine, b"up")
    notice(site, machine)
    until(lambda: any(report.finished for report in site.reports(machine)), "the last report")
    before, told = site.result(machine), len(site.reports(machine))
    site.kill_agent(machine)
    until(lambda: any(report.finished for report in site.reports(machine)[told:]), "the last report, anew")
    assert site.result(machine) == before
    assert site.whole_log(machine, "system").endswith(b"takes the spot machine back; the command exited with 5\n")
    assert machine not in site.off


def test_an_agent_that_dies_twice_is_not_started_again(site: Site) -> None:
    """The unit's OnFailure powers the machine off, without a result."""
    machine = site.start(site.order(HOLD))
    site.wait_output(machine, b"up")
    site.kill_agent(machine)
    os.kill(site.agent(machine), signal.SIGKILL)
    site.wait_off(machine)
    assert site.get(keys.result_key(site.box(machine))) is None
    assert site.log(machine) == b"up\n"


def test_the_fuse_ends_a_machine_whose_agents_hang(site: Site) -> None:
    """The fuse powers the machine off without help of either agent."""
    machine = site.start(site.order(HOLD))
    site.wait_output(machine, b"up")
    site.kill_agent(machine)
    os.kill(site.agent(machine), signal.SIGSTOP)
    (site.folder / "machines" / machine / "var/lib/provision/fuse").write_text(f"{int(time.time())}\n")
    site.wait_off(machine)
    assert "the fuse has expired" in site.host.console(machine)
