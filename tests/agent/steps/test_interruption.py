"""A spot interruption: a job that is cut off is interrupted whatever its exit code; the done file means success."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provisioner.agent import node
from provisioner.agent.outcomes import Halt
from provisioner.agent.steps import executing
from provisioner.agent.watch import Watch
from provisioner.core.protocol import keys
from provisioner.core.protocol.messages import Notice, Orders, Stop, WorkOrder
from provisioner.core.protocol.words import Outcome, SignalCause, Step
from tests.agent.conftest import Site, sited
from tests.polling import until

NOW = 1_800_000_000.0

#: Longer than any test: the watcher reads the notice only once, at the start.
RARELY = "3600"
DONE_FILE = ': >"$PROVISION_DONE_FILE"'
#: Wait for a file that the test creates.
WAIT = 'until [ -e "$HOME/on" ]; do sleep 0.05; done'
SHUT_DOWN = 'echo stopping >"$HOME/../../run/system-state"'


# The rules


# Notices for which no signal was sent, with a node that is a stub


def still_node(said_at: float | None, *, seen: Notice | None = None, unnoticed_at: float = 0.0) -> Any:
    """Return a stub node whose command ended at `said_at`, or has no recorded end; `imds` is its next notice."""

    def look() -> None:
        made.looked += 1
        if isinstance(made.imds, OSError):
            raise made.imds
        if made.imds is None:
            made.unnoticed_at = time.time()
        made.notice = made.imds or made.notice

    made: Any = SimpleNamespace(
        job_dir=SimpleNamespace(said=lambda _: None if said_at is None else 0, said_at=said_at or 0.0),
        notice=seen,
        unnoticed_at=unnoticed_at,
        look_for_notice=look,
        machine=SimpleNamespace(launch_time=time.time()),
        order=SimpleNamespace(lifetime=600.0, scale=1),
        imds=None,
        looked=0,
    )
    return made


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list whose first item says whether the machine is shutting down."""
    answers = [False]
    monkeypatch.setattr(executing, "shutting_down", lambda: answers[0])
    return answers


@pytest.mark.usefixtures("systemd")
def test_a_notice_that_is_found_after_the_end_counts() -> None:
    """The notice may be older than the end: a trainer may read it before the agent does."""
    made = still_node(NOW)
    made.imds = Notice(NOW + 100, NOW + 1)
    cause = executing.interruption_of(made, "command")
    assert cause is not None
    assert (cause.outcome, cause.signal_cause) == (Outcome.INTERRUPTED, SignalCause.NOTICE)


@pytest.mark.usefixtures("systemd")
def test_a_notice_that_came_after_the_end_does_not_count() -> None:
    """A check after the end found no notice, so the command ended by itself."""
    late = Notice(NOW + 100, NOW + 9)
    made = still_node(NOW, seen=late, unnoticed_at=NOW + 3)
    assert executing.interruption_of(made, "command") is None
    made = still_node(NOW, unnoticed_at=NOW + 3)
    made.imds = late
    assert (executing.interruption_of(made, "command"), made.looked) == (None, 0)


@pytest.mark.usefixtures("systemd")
def test_notice_is_read_after_a_job_without_recorded_end() -> None:
    """The shell was killed too and recorded no end. The current time counts as the end, and the last check is older."""
    made = still_node(None, unnoticed_at=time.time() - 5)
    assert (executing.interruption_of(made, "command"), made.looked) == (None, 1)
    made.imds, made.unnoticed_at = Notice(NOW + 100, NOW), time.time() - 5
    assert executing.interruption_of(made, "command") is not None


def test_a_shutdown_without_a_notice_is_an_interruption(systemd: list[bool]) -> None:
    """Another process than the agent sends the signals. The agent asks systemd even if it cannot read the notice."""
    made = still_node(NOW)
    made.imds = OSError("no metadata service")
    assert executing.interruption_of(made, "command") is None
    systemd[0] = True
    cause = executing.interruption_of(made, "command")
    assert cause is not None
    assert (cause.outcome, cause.signal_cause) == (Outcome.INTERRUPTED, SignalCause.NONE)


def test_the_shutdown_of_our_own_fuse_is_no_interruption(systemd: list[bool]) -> None:
    """The fuse powers off a machine whose lifetime is over."""
    systemd[0] = True
    made = still_node(NOW)
    made.machine.launch_time -= 601
    assert executing.interruption_of(made, "command") is None


def test_a_notice_is_passed_on_by_the_agent_that_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first agent died after reading the notice and before sending SIGTERM; its successor sends it."""
    known = Notice(NOW + 120, NOW)
    monkeypatch.setattr(node, "notice", lambda: dataclasses.replace(known, seen=NOW + 1))
    made: Any = SimpleNamespace(notice=known, halt=Halt(), rebalance_at=NOW, job_dir=None, unnoticed_at=0.0)
    made.order = SimpleNamespace(scale=1, commands=None)
    made.look_for_notice = lambda: node.Node.look_for_notice(made)
    Watch(made).react_to_notice()
    assert made.halt.cause is not None
    assert made.halt.cause.outcome is Outcome.INTERRUPTED


def test_times_of_the_signals_count_from_when_a_notice_was_first_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each later look would leave the last bytes of the log less time."""
    known = Notice(NOW + 24, NOW)
    monkeypatch.setattr(node, "notice", lambda: dataclasses.replace(known, seen=NOW + 10))
    made: Any = SimpleNamespace(notice=known)
    assert node.Node.look_for_notice(made) == known


# On light machines


@pytest.fixture
def blind(tmp_path: Path, aws_url: str) -> Iterator[Site]:
    """Yield a site whose agents read the notice only at their start and after the job's end."""
    with sited(tmp_path, aws_url, PROVISION_NOTICE_INTERVAL=RARELY) as made:
        yield made


def old(site: Site, command: str, **changes: object) -> WorkOrder:
    """Return an order for a machine past its first hour, which powers itself off after a notice."""
    return site.order(command, lifetime=7800.0, **changes)


def announce(site: Site, machine: str, seconds: float = 120) -> None:
    site.metadata.announce(machine, float(int(time.time() + seconds)))


def go_on(site: Site, machine: str) -> None:
    (site.folder / "machines" / machine / "home/jovyan/on").touch()


def ended(site: Site, machine: str) -> tuple[Outcome, int | None, SignalCause | None]:
    site.wait_off(machine)
    result = site.result(machine)
    return result.outcome, result.exit_code, result.signal_cause


TRAINER = """
import signal, sys, time
def save(*_):
    time.sleep(0.3)
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
while True: time.sleep(0.1)
"""


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("form", ["{}", "exec {}", "{}; echo after >&2", "bash -c {quoted}"])
def test_a_trainer_that_saves_and_exits_0_is_interrupted(site: Site, form: str, shell: str) -> None:
    """The outcome is the same with and without `exec`, whether sh is dash or bash."""
    trainer = f"{sys.executable} -c {shlex.quote(TRAINER)}"
    machine = site.boot(age=7200)
    (site.folder / "machines" / machine / "bin/sh").symlink_to(f"/bin/{shell}")
    site.assign(machine, old(site, form.format(trainer, quoted=shlex.quote(trainer))))
    site.wait_output(machine, b"up")
    announce(site, machine)
    outcome, _, cause = ended(site, machine)
    assert (outcome, cause) == (Outcome.INTERRUPTED, SignalCause.NOTICE)
    assert b"saved" in site.log(machine)


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [
        ("exit 0", Outcome.INTERRUPTED, 0),
        ("exit 4", Outcome.INTERRUPTED, 4),
        (f"{DONE_FILE}; exit 0", Outcome.SUCCEEDED, 0),
        (f"{DONE_FILE}; exit 4", Outcome.INTERRUPTED, 4),
        ('mkdir "$PROVISION_DONE_FILE"; exit 0', Outcome.SUCCEEDED, 0),
        ('ln -s /nowhere "$PROVISION_DONE_FILE"; exit 0', Outcome.SUCCEEDED, 0),
        ('rm -rf "${PROVISION_DONE_FILE%/*}"; exit 0', Outcome.INTERRUPTED, 0),
    ],
)
def test_a_spot_notice_is_passed_on(site: Site, end: str, outcome: Outcome, code: int) -> None:
    """The job gets SIGTERM; reports and result have the notice. Only the done file makes the exit a success."""
    machine = site.start(old(site, f"trap '{end}' TERM; echo up; while :; do sleep 0.1; done"), age=7200)
    site.wait_output(machine, b"up")
    announce(site, machine)
    assert ended(site, machine) == (outcome, code, SignalCause.NOTICE)
    assert site.result(machine).notice is not None
    assert any(report.notice for report in site.reports(machine) if not report.finished)


def test_the_start_script_cannot_say_that_the_command_is_done(site: Site) -> None:
    """The start script has no PROVISION_DONE_FILE."""
    script = ': "${PROVISION_DONE_FILE:-none}"; echo "it is ${PROVISION_DONE_FILE:-none}"'
    machine = site.run(
        site.order('[ -n "$PROVISION_DONE_FILE" ] && [ ! -e "$PROVISION_DONE_FILE" ]', start_script=script)
    )
    assert site.result(machine).outcome is Outcome.SUCCEEDED, site.result(machine).reason
    assert site.log(machine, "setup") == b"it is none\n"


@pytest.mark.parametrize(
    ("end", "outcome"),
    [("exit 0", Outcome.INTERRUPTED), ("exit 9", Outcome.INTERRUPTED), (f"{DONE_FILE}; exit 0", Outcome.SUCCEEDED)],
)
def test_a_notice_that_the_job_reads_before_the_agent_is_an_interruption(
    blind: Site, end: str, outcome: Outcome
) -> None:
    """The agent sends no signal, and reads the notice once more after the command has ended."""
    machine = blind.start(old(blind, f"echo up; {WAIT}; {end}"), age=7200)
    blind.wait_output(machine, b"up")
    announce(blind, machine)
    go_on(blind, machine)
    assert ended(blind, machine)[::2] == (outcome, SignalCause.NOTICE)
    assert blind.result(machine).notice is not None


def test_a_start_script_that_a_notice_cuts_off_is_interrupted(site: Site, blind: Site) -> None:
    """Whether the agent or another process sends the signal, the command never executes and no retry is used."""
    for where, script in ((site, "trap 'exit 0' TERM; echo up; sleep 600 & wait"), (blind, f"echo up; {WAIT}; exit 1")):
        machine = where.start(old(where, "echo never", start_script=script), age=7200)
        where.wait_output(machine, b"up", "setup")
        announce(where, machine)
        go_on(where, machine)
        outcome, _, cause = ended(where, machine)
        assert (outcome, cause) == (Outcome.INTERRUPTED, SignalCause.NOTICE)
        assert where.result(machine).step is Step.SETUP
        assert where.get(keys.started_key(where.box(machine))) is None


@pytest.mark.parametrize(("code", "done"), [(0, False), (143, False), (0, True)])
def test_a_machine_that_is_shut_down_interrupts_its_job(site: Site, code: int, done: bool) -> None:
    """An example is systemd's SIGTERM on a machine that a user shuts down by hand."""
    said = f"{DONE_FILE}; " if done else ""
    machine = site.run(site.order(f"{said}{SHUT_DOWN}; exit {code}"))
    outcome = Outcome.SUCCEEDED if done else Outcome.INTERRUPTED
    assert ended(site, machine) == (outcome, code, SignalCause.NONE)


@pytest.mark.parametrize(("end", "outcome"), [("exit 0", Outcome.INTERRUPTED), (DONE_FILE, Outcome.SUCCEEDED)])
def test_an_interruption_goes_on_under_the_next_agent(site: Site, end: str, outcome: Outcome) -> None:
    """The successor did not send the signal, but knows its cause and finds the done file of the first agent."""
    command = f"trap 'echo term; {WAIT}; {end}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    machine = site.start(old(site, command), age=7200)
    site.wait_output(machine, b"up")
    announce(site, machine, 24)
    site.wait_output(machine, b"term\n")
    site.kill_agent(machine)
    go_on(site, machine)
    assert ended(site, machine) == (outcome, 0, SignalCause.NOTICE)


@pytest.mark.parametrize("notice_first", [True, False])
def test_a_stop_beside_a_notice_cancels(site: Site, notice_first: bool) -> None:
    """In either order the outcome is CANCELLED, because the user does not want another attempt."""
    command = f"trap 'echo term; {WAIT}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    machine = site.start(old(site, command), age=7200)
    site.wait_output(machine, b"up")

    def stop() -> None:
        site.give_orders(machine, Orders(stop=Stop(Outcome.CANCELLED, "the user asked", time.time())))

    def seen(text: bytes) -> None:
        until(lambda: text in site.log(machine, "system"), str(text), lambda: site.host.console(machine))

    def notice() -> None:
        announce(site, machine)

    both = ((notice, b"spot interruption notice"), (stop, b"ordered to stop"))
    for act, text in both if notice_first else both[::-1]:
        act()
        seen(text)
    go_on(site, machine)
    first = SignalCause.NOTICE if notice_first else SignalCause.STOP
    assert ended(site, machine) == (Outcome.CANCELLED, 0, first)


def test_a_short_notice_leaves_time_to_save(site: Site) -> None:
    """Some clouds give ten seconds; the job gets at least half of them."""
    machine = site.start(old(site, "trap 'sleep 2; echo saved; exit 0' TERM; echo up; sleep 600 & wait"), age=7200)
    site.wait_output(machine, b"up")
    announce(site, machine, 11)
    assert ended(site, machine) == (Outcome.INTERRUPTED, 0, SignalCause.NOTICE)
    assert b"saved\n" in site.log(machine)


def test_the_result_says_that_a_limit_sent_the_signal(site: Site) -> None:
    """A command that ended by itself has no signal cause."""
    machine = site.run(site.order("trap 'exit 0' TERM; echo up; sleep 600 & wait", runtime_limit=1.0))
    assert ended(site, machine) == (Outcome.TIMED_OUT, 0, SignalCause.LIMIT)
    assert ended(site, site.run(site.order("exit 3"))) == (Outcome.FAILED, 3, SignalCause.NONE)
