"""The order in which a job's processes get SIGTERM, for real processes and for constructed process trees."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.agent.job import processes
from provisioner.agent.job.engine import ADOPTING
from provisioner.agent.job.processes import INT, QUIT, TERM, XCPU, Habits, Process, Reached, Termination, Tree
from tests.polling import until

PLAIN, CATCHER, SHELL = Habits(), Habits(caught=TERM), Habits(shell=True)
TRAPPED, EXIT_TRAP = Habits(shell=True, caught=TERM), Habits(shell=True, caught=TERM | XCPU)
BEHIND, CATCHER_BEHIND = Habits(ignored=INT | QUIT), Habits(caught=TERM, ignored=INT | QUIT)

#: Processes as (pid, parent, habits), and the pids that get SIGTERM first.
TREES = {
    "nobody catches it": ([(2, 1, SHELL), (3, 2, PLAIN), (4, 2, PLAIN)], [2, 3, 4]),
    "a trainer in a shell": ([(2, 1, SHELL), (3, 2, CATCHER), (4, 3, PLAIN)], [3]),
    "workers that catch it": ([(2, 1, CATCHER), (3, 2, CATCHER)], [2]),
    "a pipeline": ([(2, 1, SHELL), (3, 2, CATCHER), (4, 2, PLAIN)], [3]),
    "shells in shells": ([(2, 1, SHELL), (3, 2, SHELL), (4, 3, CATCHER)], [4]),
    "a supervisor that does not catch it": ([(2, 1, PLAIN), (3, 2, CATCHER), (4, 2, CATCHER)], [3, 4]),
    "a trap that waits for a trainer": ([(2, 1, TRAPPED), (3, 2, CATCHER)], [2, 3]),
    "a trap that waits for a plain process": ([(2, 1, TRAPPED), (3, 2, PLAIN), (4, 3, PLAIN)], [2, 3, 4]),
    "a trap with a plain process behind it": ([(2, 1, TRAPPED), (3, 2, BEHIND)], [2]),
    "a trap that waits beside a trainer": ([(2, 1, TRAPPED), (3, 2, PLAIN), (4, 2, CATCHER_BEHIND)], [2, 3, 4]),
    "a trap that waits for a pipeline": ([(2, 1, TRAPPED), (3, 2, CATCHER), (4, 2, PLAIN)], [2, 3]),
    "a server behind what a trap waits for": (
        [(2, 1, TRAPPED), (3, 2, SHELL), (4, 3, PLAIN), (5, 3, CATCHER_BEHIND)],
        [2, 3, 4, 5],
    ),
    "an EXIT trap over a trainer": ([(2, 1, EXIT_TRAP), (3, 2, CATCHER)], [3]),
    "an EXIT trap with a trainer behind it": ([(2, 1, EXIT_TRAP), (3, 2, CATCHER_BEHIND)], [3]),
    "an EXIT trap over a plain process": ([(2, 1, EXIT_TRAP), (3, 2, PLAIN)], [2, 3]),
    "a job that ignores SIGINT": (
        [(2, 1, Habits(shell=True, caught=TERM, ignored=INT | QUIT)), (3, 2, BEHIND)],
        [2, 3],
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_topmost_processes_that_catch_sigterm_get_it_first(name: str) -> None:
    """A shell without a trap is skipped for its children. The child that a trap waits for also gets the signal."""
    rows, expected = TREES[name]
    habits = {Process(pid, 0, parent): own for pid, parent, own in rows}
    assert [process.pid for process in processes.choose(list(habits), habits).now] == expected


def test_a_daemon_of_setup_gets_sigterm_after_the_trainer() -> None:
    """A trainer may need the daemon in order to save. If only the daemon catches the signal, all processes get it."""
    server, below, trainer = Process(2, 0, 1), Process(3, 0, 2), Process(4, 0, 1)
    habits = {server: CATCHER, below: CATCHER, trainer: CATCHER}
    assert processes.choose(list(habits), habits, frozenset({server.name})).now == [trainer]
    habits[trainer] = PLAIN
    assert processes.choose(list(habits), habits, frozenset({server.name})).now == [server, below, trainer]


@contextlib.contextmanager
def job(script: str, shell: str = "sh") -> Iterator[Tree]:
    """Yield the process tree of a script, started as rehearsals start it; kill all its processes afterwards.

    The tree is ready when the script has written a line.
    """
    command = [sys.executable, "-I", "-S", "-c", ADOPTING, "sh", "-c", 'trap : TERM; "$@"; cat', "sh", shell, "-c"]
    process = subprocess.Popen([*command, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    root = processes.find(process.pid)
    assert root is not None
    tree = Tree(root)
    try:
        process.stdout.readline()
        yield tree
    finally:
        processes.kill_all(tree, 10.0)
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def python(program: str) -> str:
    return f"{sys.executable} -I -S -c '{program}'"


#: A trainer that records each SIGTERM and runs until a file exists.
SAVES = 'import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: open("%s", "a").write("x"))\n'
SAVES += 'print("up", flush=True)\nwhile not os.path.exists("%s"): time.sleep(0.01)'


def line(process: Process) -> bytes:
    """Return the process's command line, or b"" if it has ended."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return b""


def ended(tree: Tree) -> bool:
    """Return whether every process but the first shell's `cat` has ended."""
    return all(line(process) in (b"cat\x00", b"") for process in tree.look()[0])


def turns(termination: Termination, tree: Tree) -> bool:
    """Send the signals that are due, with SIGKILL due in an hour; return whether the job has ended."""
    termination.turn(time.time() + 3600, reported=False)
    return ended(tree)


@pytest.mark.parametrize("left", ["setsid sleep 601 &", "(setsid sleep 601 &)", "sh -c 'sleep 601 & sleep 600' &"])
def test_detached_processes_of_a_job_are_found(left: str) -> None:
    """A new session or a double fork does not hide a process, and its end is noticed."""
    with job(f"{left}\necho up; sleep 600") as tree:
        until(lambda: b"sleep\x00601\x00" in map(line, tree.look()[0]), "the process")
        termination = Termination(lambda: tree, (), Reached(), lambda _: None)
        until(lambda: turns(termination, tree), "the end of the job")


def test_the_others_get_sigterm_when_the_first_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes get SIGTERM only when the first have ended, and each process gets it once."""
    monkeypatch.setattr(processes, "PACE", 0.0)
    monkeypatch.setattr(processes, "SHARE", 0.0)
    marks, go = tmp_path / "marks", tmp_path / "go"
    trainer = python(SAVES % (marks, go))
    with job(f"sleep 601 & {trainer}; sleep 602") as tree:
        said: list[str] = []
        termination = Termination(lambda: tree, (), Reached(), said.append)
        for _ in range(3):
            termination.turn(time.time() + 3600, reported=True)
        until(lambda: marks.exists() and marks.read_text(), "the signal")
        assert said == ["SIGTERM was sent to 1 of the job's 3 processes; the other 2 get SIGTERM when these have ended"]
        [first] = termination.reached.first
        assert termination.reached.sent == (first,)
        go.touch()
        until(lambda: turns(termination, tree), "the end of the others")
        assert marks.read_text() == "x"


def test_an_agent_that_takes_over_signals_no_process_again(tmp_path: Path) -> None:
    """The successor sends no second SIGTERM. Processes that have had none get it when the first have ended."""
    marks, go = tmp_path / "marks", tmp_path / "go"
    with job(f"sleep 601 & {python(SAVES % (marks, go))}") as tree:
        one = Termination(lambda: tree, (), Reached(), lambda _: None)
        turns(one, tree)
        until(lambda: marks.exists() and marks.read_text(), "the signal")
        other = Termination(lambda: tree, (), one.reached, lambda _: None)
        turns(other, tree)
        assert other.reached == one.reached
        go.touch()
        until(lambda: turns(other, tree), "the end of the others")
        assert marks.read_text() == "x"


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_background_job_is_distinguished_from_foreground_child(shell: str) -> None:
    """Both shells make background jobs ignore SIGINT and SIGQUIT; /proc shows that and their traps."""
    with job("trap : TERM; sleep 601 & echo up; sleep 602; :", shell) as tree:
        until(lambda: sum(line(process).startswith(b"sleep") for process in tree.look()[0]) == 2, "both sleeps")
        seen = tree.look()[0]
        habits = {process: processes.habits(process.pid) for process in seen}
        assert (habits[seen[0]].shell, habits[seen[0]].catches, habits[seen[0]].ends_at_once) == (True, True, False)
        behind = [process for process in seen[1:] if habits[process].in_background_of(habits[seen[0]])]
        assert [line(process) for process in behind] == [b"sleep\x00601\x00"]


def test_a_bash_that_runs_an_exit_trap_at_sigterm_is_known() -> None:
    """At SIGTERM, a bash with an EXIT trap would clean up while its trainer is still saving."""
    with job("trap : EXIT; echo up; sleep 601; :", "bash") as tree:
        assert processes.habits(tree.look()[0][0].pid).ends_at_once


def test_a_hostile_name_is_not_taken_for_a_mask(tmp_path: Path) -> None:
    """Brackets, spaces and line breaks in a process's name must not change its parsed parent or signals."""
    program = tmp_path / ") R 1 1\nSigCgt:\tff"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        found = processes.find(process.pid)
        assert found is not None
        assert found.parent == os.getpid()
        until(lambda: line(found).startswith(os.fsencode(program)), "the program")
        assert not processes.habits(process.pid).catches
    finally:
        process.kill()
        process.wait()


def test_reused_pid_is_not_signalled() -> None:
    """A process is identified by its pid and its start time."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        found = processes.find(process.pid)
        assert found is not None
        processes.send(Process(found.pid, found.start - 1, found.parent), signal.SIGKILL)
        assert processes.named(found.name) == found
        assert processes.named(f"{found.pid}.{found.start - 1}") is None
        processes.send(found, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        assert not processes.alive(found)
    finally:
        process.kill()
        process.wait()


def test_zombie_counts_as_ended() -> None:
    """A zombie counts as ended, so it does not use up the grace."""
    process = subprocess.Popen(["true"])
    until(lambda: processes.find(process.pid) is None, "its end")
    process.wait()


def test_incomplete_process_scan_does_not_count_as_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fork bomb not all processes are read, and the missing ones may be alive."""
    with job("echo up; sleep 600") as tree:
        termination = Termination(lambda: tree, (), Reached(), lambda _: None)
        with monkeypatch.context() as patch:
            patch.setattr(processes, "MOST", 1)
            patch.setattr(processes, "SHARE", 0.0)
            assert [termination.turn(time.time() + 60, reported=True) for _ in range(3)] == [True] * 3
            assert termination.reached == Reached()


def test_sigkill_ends_a_job_that_keeps_forking() -> None:
    """A job that forks endlessly is killed with all its descendants."""
    with job("echo up; while :; do setsid sleep 600 & sleep 0.01; done") as tree:
        until(lambda: len(tree.look()[0]) > 10, "some of them")
        processes.kill_all(tree, 10.0)
        until(lambda: ended(tree), "their end")
