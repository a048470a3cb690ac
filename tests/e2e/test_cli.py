"""The command line as a user has it: real processes, a terminal, Ctrl-C, and light machines."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.states import State
from provisioner.ports.store import RunFilter
from provisioner.rehearsal.aws.faults import Effect, Rule
from tests.api.served import Server
from tests.e2e.commands import PROVISION, SESSION, Command, settings_file
from tests.e2e.elsewhere import served
from tests.e2e.processes import processes_with
from tests.e2e.rig import Rig, rig


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("cli")
    dry = [{"type": "p4d.24xlarge", "machines": 0}]
    with pytest.MonkeyPatch.context() as patch, rig(folder, patch, boot_delay="1s", capacity=dry) as whole:
        patch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
        yield whole


def apply(whole: Rig, name: str, command: str, **spec: Any) -> None:
    recipe = {"name": name, "image": "any", "instance_type": "g5.xlarge", "command": command, **spec}
    whole.service.jobs.apply(yaml.safe_dump({"type": "job", "spec": recipe}), "the test's recipe")


@dataclass(frozen=True)
class Interrupted:
    """A run, commands that watch it, and the state in which they all get Ctrl-C."""

    name: str
    when: State
    command: str = "echo done"
    words: tuple[tuple[str, ...], ...] = (("start",), ("wait",), ("logs", "-f"))
    spec: dict[str, Any] = field(default_factory=dict)


def test_ctrl_c_detaches_at_every_phase(whole: Rig, tmp_path: Path) -> None:
    """In every phase Ctrl-C ends a command at once with 130 and a hint; the runs continue."""
    go = tmp_path / "go"
    os.mkfifo(go)
    # Opened for reading and writing, so that no reader blocks on opening.
    held = os.open(go, os.O_RDWR)
    rows = [
        Interrupted("queued", State.QUEUED, spec={"instance_type": "p4d.24xlarge"}),
        Interrupted("launching", State.LAUNCHING, words=(("start", "--follow"),)),
        Interrupted("booting", State.BOOTING, words=(("start",),)),
        Interrupted(
            "preparing", State.PREPARING, words=(("start",), ("wait",)), spec={"start_script": f"read x <{go}"}
        ),
        Interrupted("running", State.RUNNING, f"read x <{go}; echo done"),
    ]
    whole.double.faults.add(Rule(Effect.DELAY, action="CreateFleet", seconds=3.0))
    ids: dict[str, str] = {}
    with ExitStack() as stack:
        started: dict[str, list[Command]] = {}
        for row in rows:
            apply(whole, row.name, row.command, **row.spec)
            word, *options = row.words[0]
            started[row.name] = [stack.enter_context(Command(tmp_path / row.name, word, row.name, *options))]
        for row in rows:
            ids[row.name] = _id_of(started[row.name][0])
            for word, *options in row.words[1:]:
                started[row.name].append(
                    stack.enter_context(Command(tmp_path / row.name, word, ids[row.name], *options))
                )
        waiting = list(rows)
        while waiting:
            for row in list(waiting):
                commands = started[row.name]
                # A command that has found its run prints a line.
                watching = all(command.err for command in commands)
                if whole.service.runs.record(ids[row.name]).state is row.when and (
                    watching or row.when is State.LAUNCHING
                ):
                    for command in commands:
                        command.signal(signal.SIGINT)
                    waiting.remove(row)
            threading.Event().wait(0.02)
        for row in rows:
            for command in started[row.name]:
                assert command.ended() == 130, command.err
                short = ids[row.name][:12]
                assert command.last_line.startswith("detached: "), command.err
                assert f"provision wait {short}" in command.last_line
                assert f"provision stop {short}" in command.last_line
                assert "Traceback" not in command.err
    whole.double.faults.clear()
    os.write(held, b"go\ngo\n")
    whole.service.runs.stop(ids["queued"])
    done = whole.done(*[whole.service.runs.record(id) for id in ids.values()])
    os.close(held)
    outcomes = {run.job_name: run.verdict.outcome for run in done if run.verdict}
    assert outcomes == {row.name: Outcome.SUCCEEDED for row in rows} | {"queued": Outcome.CANCELLED}
    assert all(run.attempt == (0 if run.job_name == "queued" else 1) for run in done)
    assert whole.double.alive() == []


def _id_of(start: Command) -> str:
    """Return the id that `start` prints first."""
    start.until(lambda: start.out.endswith(b"\n"))
    return start.out.decode().strip()


def test_daemons_take_turns(whole: Rig, tmp_path: Path) -> None:
    """With a daemon `start` returns at once; a second daemon takes over from a killed one; SIGTERM ends it."""
    apply(whole, "served", "echo served")
    with Command(tmp_path / "d", "daemon") as first, Command(tmp_path / "d", "daemon") as second:
        first.until(whole.service.operator.served)
        first.until(lambda: bool(first.err))
        second.until(lambda: bool(second.err))
        with Command(tmp_path / "s", "start", "served") as start:
            assert start.ended() == 0
            assert start.err == ""
        run = start.out.decode().strip()
        first.signal(signal.SIGKILL)
        first.ended()
        second.until(lambda: whole.service.runs.record(run).done_at is not None)
        second.signal(signal.SIGTERM)
        assert second.ended() == 0
        assert json.loads(second.last_line)["text"] == "stopped; runs continue on their machines"
    assert whole.log(whole.service.runs.record(run)) == b"served\n"
    assert not whole.service.operator.served()


def test_each_tick_is_started_once_by_many_processes(whole: Rig, tmp_path: Path) -> None:
    """Two daemons and `cron` start together, two days late. One daemon is killed; SIGTERM ends the other processes."""
    apply(whole, "ticking", "true", schedule="@every 1d", schedule_catchup="all")
    said = whole.service.operator.now() - 2.5 * 86400
    whole.service.installation.store.save([replace(whole.service.jobs.record("ticking"), scheduled_at=said)])
    with ExitStack() as stack:
        words = ("daemon", "daemon", "cron")
        first, second, cron = [stack.enter_context(Command(tmp_path / "t", word)) for word in words]
        for command in (first, second, cron):
            command.until(lambda command=command: bool(command.err))  # type: ignore[misc]
        cron.until(lambda: bool(whole.service.runs.records(RunFilter(job="ticking"))))
        first.signal(signal.SIGKILL)
        first.ended()
        second.until(
            lambda: all(run.done_at is not None for run in whole.service.runs.records(RunFilter(job="ticking")))
        )
        for command in (second, cron):
            command.signal(signal.SIGTERM)
            assert command.ended() == 0
        assert json.loads(cron.last_line)["text"] == "stopped; schedules start no runs until a daemon or cron runs"
    runs = whole.service.runs.records(RunFilter(job="ticking"))
    assert (len(runs), len({run.idempotency_key for run in runs})) == (2, 2)


@pytest.fixture(params=["here", "elsewhere"])
def way(request: pytest.FixtureRequest, whole: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run commands locally, or as clients of a server that acts."""
    elsewhere = request.param == "elsewhere"
    with served(whole, monkeypatch, daemon=True) if elsewhere else contextlib.nullcontext():
        yield


@pytest.mark.usefixtures("way")
def test_status_line_is_overwritten_in_place(whole: Rig) -> None:
    """A status line is overwritten in place and never mixes with the job's lines.

    --env and --command override the recipe.
    """
    apply(whole, "shown", "echo never", environment_variables={"WHO": "recipe", "KEPT": "kept"})
    command = """printf half; sleep 1.5; echo " and half of $WHO $KEPT $RUN_ID" """
    shown = on_terminal("start", "shown", "--follow", "--command", command, "--env", "WHO=me", "-e", "RUN_ID=mine")
    assert re.search(r"\r\x1b\[K[0-9a-f]{12} (launching|booting|preparing: \w+), \d+ s", shown)
    # Nothing is printed between the two halves of the job's line.
    assert "half and half of me kept mine\r\n" in shown
    *_, last = shown.rstrip().split("\n")
    assert re.fullmatch(r"(.*\x1b\[K)?[0-9a-f]{12} succeeded: the command exited with 0 \(exit code 0\)", last)


CLIPBOARD, TITLE = r"\033]52;c;ZXZpbA==\007", r"\033]0;title\033\\"


@pytest.mark.usefixtures("way")
def test_escape_sequences_of_a_job_are_removed_unless_raw(whole: Rig, tmp_path: Path) -> None:
    """`start --follow` and `logs` remove the job's escape sequences; --raw and pipes keep every byte."""
    apply(whole, "steers", f"""printf 'a{CLIPBOARD}{TITLE}b\\033[31mred\\033[2J\\n'""")
    shown = on_terminal("start", "steers", "--follow", "--json")
    assert "\x1b]" not in shown
    assert "ab\x1b[31mred" in shown
    run = whole.service.runs.records(RunFilter(job="steers"))[0].id
    shown = on_terminal("logs", run)
    assert shown == "ab\x1b[31mred\r\n\x1b[0m"
    raw = on_terminal("logs", run, "--raw")
    assert raw == "a\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x1b\\b\x1b[31mred\x1b[2J\r\n"
    with Command(tmp_path, "logs", run) as piped:
        assert piped.ended() == 0
        assert piped.out == raw.replace("\r\n", "\n").encode()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("leave", ["q", "\x03"])
def test_top_leaves_the_terminal_as_it_was(whole: Rig, leave: str) -> None:
    """Keys are not echoed while it runs; q or Ctrl-C restores the cursor and the terminal's modes."""
    run = whole.start("sleep 60")
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    words = [sys.executable, "-c", SESSION, *PROVISION, "top"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        shown = b""
        while run.id[:8].encode() not in shown:
            shown += os.read(ours, 65536)
        assert b"\x1b[?25l" in shown
        assert termios.tcgetattr(theirs) != before
        os.write(ours, leave.encode())
        while not shown.endswith((b"\x1b[?25h\x1b[?1049l", b"\x1b[?1049l\x1b[?25h")):
            shown += os.read(ours, 65536)
        assert process.wait() == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    whole.service.runs.stop(run.id)
    whole.done(run)


def test_top_outlives_its_server(whole: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """During a server outage the screen stays and shows when the outage began; afterwards it is updated again."""
    runs = [whole.start("true")]
    ours, theirs = pty.openpty()
    shown = b""

    def until(text: str) -> None:
        nonlocal shown
        while text.encode() not in shown:
            shown += os.read(ours, 65536)

    with ExitStack() as stack:
        with Server(whole.settings, acting=False) as server:
            monkeypatch.delenv("PROVISION_SETTINGS")
            monkeypatch.setenv("PROVISION_URL", server.url)
            monkeypatch.setenv("PROVISION_TOKEN", server.token("tester", admin=True))
            process = stack.enter_context(
                subprocess.Popen([*PROVISION, "top"], stdin=theirs, stdout=theirs, stderr=theirs)
            )
            stack.callback(process.kill)
            until(runs[0].id[:8])
        until("no server since ")
        with Server(whole.settings, acting=False, port=server.port):
            runs.append(whole.start("true"))
            until(runs[1].id[:8])
            os.write(ours, b"q")
            until("\x1b[?1049l")
            assert process.wait() == 0
    os.close(ours)
    os.close(theirs)
    whole.done(*runs)


def on_terminal(*words: str) -> str:
    """Run the command on a terminal; return all its output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*PROVISION, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        pass  # Linux raises this when the last process has closed the terminal.
    os.close(ours)
    assert process.wait() == 0, shown
    return shown.decode()


def test_simultaneous_rehearsals_leave_nothing_behind(tmp_path: Path) -> None:
    """Rehearsals are independent. After Ctrl-C, SIGTERM or kill -9 in any phase, nothing of a rehearsal is left."""
    recipe = tmp_path / "recipe.yaml"
    spec = {"name": "rehearsed", "image": "any", "instance_type": "g5.xlarge", "command": "echo up; sleep 600"}
    recipe.write_text(yaml.safe_dump({"type": "job", "spec": spec}))
    with ExitStack() as stack:

        def rehearse(name: str, *words: str) -> tuple[Command, Path]:
            folder = tmp_path / f"{name}-tmp"
            folder.mkdir()
            command = Command(tmp_path / name, "rehearse", *words, environment={"TMPDIR": str(folder)})
            return stack.enter_context(command), folder

        coming, coming_folder = rehearse("coming", str(recipe))
        killed, killed_folder = rehearse("killed", str(recipe))
        stopped, stopped_folder = rehearse("stopped", str(recipe))
        served, served_folder = rehearse("served", "--serve", "--json")
        # End this rehearsal while it starts.
        coming.until(lambda: any(coming_folder.iterdir()))
        coming.signal(signal.SIGTERM)
        served.until(lambda: "the double is up" in served.err)
        environment = json.loads(served.out)["environment"]
        start = stack.enter_context(
            Command(tmp_path / "start", "apply", str(recipe), "--start", environment=environment)
        )

        killed.until(lambda: killed.out == b"up\n")
        killed.signal(signal.SIGKILL)
        killed.ended()
        while processes_with(str(killed_folder)) or any(killed_folder.iterdir()):
            threading.Event().wait(0.02)

        stopped.until(lambda: stopped.out == b"up\n")
        assert processes_with(str(stopped_folder))
        stopped.signal(signal.SIGINT)
        # A second signal changes nothing.
        stopped.signal(signal.SIGINT)

        start.until(lambda: "running" in start.err)
        with Command(tmp_path / "runs", "runs", "--json", environment=environment) as runs:
            assert runs.ended() == 0
        assert [run["id"] for run in json.loads(runs.out)] == [start.out.decode().strip()]
        served.signal(signal.SIGINT)
        ends = ((coming, coming_folder, 130), (stopped, stopped_folder, 130), (served, served_folder, 0))
        for command, folder, code in ends:
            assert command.ended() == code, command.err
            assert command.last_line == "the double is down, and nothing of it is left"
            assert "Traceback" not in command.err
            assert processes_with(str(folder)) == []
            assert list(folder.iterdir()) == []
