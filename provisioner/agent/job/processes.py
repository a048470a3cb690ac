"""Find the processes of a job in /proc, and send them SIGTERM in an order that lets the job save its work.

The topmost processes that catch SIGTERM get it first: a trainer stops its workers itself, and `tee` must outlive the
trainer whose last lines it writes. The other processes get SIGTERM when the first ones have ended.

The job's processes are the descendants of one process that adopts orphans: the container's init, or the job's first
shell. So a process with its own session or process group, or one that forked twice, is found too. The job controls
what /proc shows of its processes. So the number and size of reads are limited, and a process's name only influences
the order of the signals.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

#: Seconds that a process, such as a shell, has to end by itself after the process that it waited for has ended.
SETTLE = 5.0

#: After a read of /proc that found a process, the pause is at least PACE seconds. Every pause is at least SHARE times
#: the duration of the read, because a fork bomb makes reads slow.
PACE, SHARE = 0.1, 10.0

#: Maximum number of this machine's processes that are read at once, and maximum bytes that are read of a file in /proc.
MOST, SIZE = 1 << 16, 1 << 16

#: The job has no process left when this many reads of /proc in a row find none.
LOOKS = 2

SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "ksh93", "mksh", "yash", "zsh"})

#: Signals as bits of SigCgt and SigIgn (proc_pid_status(5)).
TERM, INT, QUIT, XCPU = (1 << number - 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU))


@dataclass(frozen=True)
class Process:
    """One process, identified by its id and its start time (clock ticks since boot), because ids are reused."""

    pid: int
    start: int
    parent: int = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.pid}.{self.start}"


@dataclass(frozen=True)
class Habits:
    """How a process reacts to signals, according to its signal masks in /proc and its name."""

    shell: bool = False
    caught: int = 0
    ignored: int = 0

    @property
    def catches(self) -> bool:
        return bool(self.caught & TERM)

    @property
    def ends_at_once(self) -> bool:
        """Whether this is a bash with an EXIT trap: on SIGTERM it ends without waiting for its foreground process.

        Such a bash catches every signal that would end it; a bash that traps only SIGTERM catches only SIGTERM.
        """
        return self.shell and bool(self.caught & XCPU)

    def in_background_of(self, shell: Habits) -> bool:
        """Return whether `shell` started this process with `&` and does not wait for it.

        In a script, a command with `&` ignores SIGINT and SIGQUIT (POSIX).
        """
        both = INT | QUIT
        return self.ignored & both == both and not shell.ignored & INT


class Tree:
    """The processes of one job."""

    def __init__(self, root: Process, *, first_child_is_ours: bool = False) -> None:
        """`root` is the process that adopts the job's orphans: the job's first shell.

        With `first_child_is_ours` it is the container's init, and its first child is the job's first shell.
        """
        self.root = root
        self._first_child_is_ours = first_child_is_ours

    def look(self) -> tuple[list[Process], bool]:
        """Return the job's running processes, parents before their children, and whether the list is complete.

        A process whose parent ends while /proc is read may be missing. Raises OSError if /proc cannot be read.
        """
        with os.scandir("/proc") as entries:
            pids = list(islice((int(entry.name) for entry in entries if entry.name.isdigit()), MOST))
        children: dict[int, list[Process]] = {}
        for process in filter(None, map(find, pids)):
            children.setdefault(process.parent, []).append(process)
        top = children.get(self.root.pid, []) if alive(self.root) else []
        if self._first_child_is_ours and top:
            ours = min(top, key=lambda process: (process.start, process.pid))
            top = [process for process in top if process != ours] + children.get(ours.pid, [])
        found, known = list(top), {process.pid for process in top}
        for process in found:
            # A process id that is reused while /proc is read must not make this loop endless.
            below = [child for child in children.get(process.pid, []) if child.pid not in known]
            known.update(child.pid for child in below)
            found += below
        return found, len(pids) < MOST


@dataclass(frozen=True)
class Reached:
    """How far the sending of SIGTERM has progressed, as names of processes; a restarted agent continues from there."""

    #: The topmost processes that catch SIGTERM. The other processes get SIGTERM when these have ended.
    first: tuple[str, ...] = ()
    #: Descendants of the processes in `first`.
    below: tuple[str, ...] = ()
    #: All running processes that SIGTERM was sent to.
    sent: tuple[str, ...] = ()


class Termination:
    """Sends SIGTERM once to each process of a job: first to the processes that `choose` returns, then to the others."""

    def __init__(
        self, tree: Callable[[], Tree | None], daemons: Iterable[str], reached: Reached, say: Callable[[str], None]
    ) -> None:
        """`tree` returns None while the job has no process; `daemons` names processes that setup left running.

        `reached` is how far an earlier agent process has progressed.
        """
        self._tree = tree
        self._daemons = frozenset(daemons)
        self._say = say
        self._first, self._below, self._sent = (set(names) for names in (reached.first, reached.below, reached.sent))
        self._begun = bool(self._first or self._sent)
        #: The Unix time at which all processes of `_first` had ended, or None.
        self._ended_at: float | None = None
        self._due = 0.0
        self._empty = 0

    @property
    def reached(self) -> Reached:
        return Reached(*(tuple(sorted(names)) for names in (self._first, self._below, self._sent)))

    def turn(self, until: float, *, reported: bool) -> bool:
        """Send the signals that are due, and return whether any process of the job may still run.

        `until` is the Unix time of SIGKILL; `reported` is whether the job's first shell has reported the exit code.
        """
        began = time.monotonic()
        if began < self._due:
            return True
        try:
            tree = self._tree()
            seen, whole = tree.look() if tree else ([], True)
        except OSError:
            seen, whole = [], False
        # This read of /proc may miss a process whose parent ended meanwhile; the next read finds it.
        self._empty = 0 if seen or not whole else self._empty + 1
        if not self._begun:
            self._begin(seen)
        else:
            self._go_on(seen, until, reported=reported)
        now = time.monotonic()
        self._due = now + max(PACE if seen else 0.0, SHARE * (now - began))
        return self._empty < LOOKS

    def _begin(self, seen: list[Process]) -> None:
        if not seen:
            return
        self._begun = True
        choice = choose(seen, {process: habits(process.pid) for process in seen}, self._daemons)
        self._first = {process.name for process in choice.first}
        self._below = {process.name for process in choice.below}
        self._send(choice.now)
        rest = len(seen) - len(choice.now)
        words = f"; the other {rest} get SIGTERM when these have ended" if rest else ""
        self._say(f"SIGTERM was sent to {len(choice.now)} of the job's {len(seen)} processes{words}")

    def _go_on(self, seen: list[Process], until: float, *, reported: bool) -> None:
        names = {process.name for process in seen}
        # Drop ended processes: a job that forks without end must not fill the agent's memory.
        self._below &= names
        self._sent &= names
        if self._first & names:
            return
        now = time.time()
        if self._ended_at is None:
            self._ended_at = now
        pause = min(SETTLE, (until - self._ended_at) / 2) if self._first and not reported else 0.0
        settled = now >= self._ended_at + pause
        unsent = [process for process in seen if process.name not in self._sent]
        self._send([process for process in unsent if settled or process.name in self._below])

    def _send(self, processes: list[Process]) -> None:
        for process in processes:
            send(process, signal.SIGTERM)
            self._sent.add(process.name)


@dataclass(frozen=True)
class Choice:
    """The result of `choose`: `now` are the processes that get SIGTERM now, parents first.

    The other processes get SIGTERM when those in `first` have ended. `below` are the descendants of those in `first`.
    """

    now: list[Process]
    first: set[Process]
    below: set[Process]


def choose(seen: list[Process], habits: Mapping[Process, Habits], daemons: frozenset[str] = frozenset()) -> Choice:
    """Choose the topmost processes that catch SIGTERM; all processes if none catches it.

    A shell without a trap is skipped: in `sh -c "python train.py"` the trainer is chosen. A shell with a trap is
    chosen too. If the processes that such a shell waits for do not catch SIGTERM, they get SIGTERM at the same time,
    because the shell runs its trap only when they have ended. A bash with an EXIT trap ends at once on SIGTERM, so it
    is not chosen while a chosen process runs below it. Processes that setup left running, named in `daemons`, get
    SIGTERM later, because a trainer may need them to save its work.
    """
    by_pid = {process.pid: process for process in seen}
    children: dict[Process, list[Process]] = {}
    below: set[Process] = set()
    aside: set[Process] = set()
    for process in seen:
        parent = by_pid.get(process.parent)
        if parent is not None:
            children.setdefault(parent, []).append(process)
            if parent in below or (parent not in aside and habits[parent].catches and not habits[parent].shell):
                below.add(process)
        if process.name in daemons or parent in aside:
            aside.add(process)
    first: set[Process] = set()
    #: Ancestors of chosen processes.
    above: set[Process] = set()
    #: Processes that wait for a chosen process to end.
    waiting: set[Process] = set()
    along: set[Process] = set()
    for process in reversed(seen):
        if process in below or process in aside:
            continue
        own, under = habits[process], children.get(process, [])
        waited_for = [child for child in under if not (own.shell and habits[child].in_background_of(own))]
        if not above.isdisjoint(under):
            above.add(process)
        if not waiting.isdisjoint(waited_for):
            waiting.add(process)
        if own.catches and not (own.ends_at_once and process in above):
            if own.shell and process not in waiting:
                along.update(_with_descendants(waited_for, children))
            first.add(process)
            above.add(process)
            waiting.add(process)
    chosen = first | (along - below - aside)
    now = [process for process in seen if not first or process in chosen]
    return Choice(now, first, below)


def _with_descendants(processes: list[Process], children: Mapping[Process, list[Process]]) -> list[Process]:
    found = list(processes)
    for process in found:
        found += children.get(process, [])
    return found


def habits(pid: int) -> Habits:
    """Read how the process reacts to signals; a process that has ended catches and ignores none."""
    status, words = _read(pid, "status"), _read(pid, "cmdline").split(b"\0")
    # The job chooses the process name, which may look like a mask. The masks follow the name, so the last match counts.
    masks = {name: int(value, 16) for name, value in re.findall(rb"^(Sig...):\t([0-9a-f]+)$", status, re.MULTILINE)}
    names = [os.path.basename(word).lstrip(b"-").decode(errors="replace") for word in words[:2]]
    shell = names[0] in SHELLS or (names[0] == "busybox" and names[-1] in SHELLS)
    return Habits(shell, masks.get(b"SigCgt", 0), masks.get(b"SigIgn", 0))


def names(tree: Tree | None) -> list[str]:
    """Return the names of the job's processes; an empty list if /proc cannot be read."""
    try:
        return [process.name for process in tree.look()[0]] if tree else []
    except OSError:
        return []


def alive(process: Process) -> bool:
    return find(process.pid) == process


def named(name: str) -> Process | None:
    """Return the process with that `Process.name`, or None if it has ended."""
    pid = name.partition(".")[0]
    process = find(int(pid)) if pid.isdigit() else None
    return process if process and process.name == name else None


def send(process: Process, number: signal.Signals) -> None:
    """Send the signal to this process, unless it has ended or belongs to another user."""
    try:
        if not hasattr(os, "pidfd_open"):
            # This Python was built for an old kernel, which has no pidfd. The race is improbable, because the kernel
            # reuses an id only after thousands of others.
            if alive(process):
                os.kill(process.pid, number)
            return
        handle = os.pidfd_open(process.pid)
        try:
            if alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
    except (ProcessLookupError, PermissionError):
        pass


def is_in_container(pid: int, container: str) -> bool:
    """Return whether the process runs on this machine, in the container with that id, and this user may signal it."""
    try:
        os.kill(pid, 0)
        return container.encode() in _read(pid, "cgroup")
    except OSError:
        return False


def kill_all(tree: Tree, patience: float) -> None:
    """Send SIGKILL to every process of the job, including newly forked ones, for at most `patience` seconds."""
    end, empty = time.monotonic() + patience, 0
    while empty < LOOKS and time.monotonic() < end:
        try:
            seen, whole = tree.look()
        except OSError:
            seen, whole = [], False
        empty = 0 if seen or not whole else empty + 1
        for process in seen:
            send(process, signal.SIGKILL)


def find(pid: int) -> Process | None:
    """Return the process with that id, or None if it has ended; a zombie counts as ended."""
    # The process name stands in parentheses, and may itself contain parentheses and spaces.
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    # Fields of proc_pid_stat(5), here from the third on: 3 is the state, 4 the parent, 20 threads, 22 the start time.
    if len(fields) < 20:
        return None
    state, parent, threads, start = fields[0], int(fields[1]), int(fields[17]), int(fields[19])
    if state in b"ZXx" and threads < 2:
        return None
    return Process(pid, start, parent)


def _read(pid: int, name: str) -> bytes:
    """Return the first SIZE bytes of a file of the process in /proc; b"" if it has ended. Raises OSError."""
    try:
        handle = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
        try:
            return os.read(handle, SIZE)
        finally:
            os.close(handle)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # With hidepid, processes of other users are hidden; the job's processes belong to this user.
        return b""
