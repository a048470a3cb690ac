"""Find the processes of a job in /proc, and send them SIGTERM in an order that lets the job save its work.

The first signals go to the topmost processes that catch SIGTERM: a trainer decides itself what becomes of its workers,
and `tee` must outlive the trainer whose last lines it writes. All other processes get theirs when those have ended.

The job's processes are the descendants of one process of ours that adopts orphans: the container's init, or the
job's first shell. So neither a session or process group of their own nor a double fork takes them out of sight.
/proc is the job's to fill: sizes and counts are bounded, and no name in it is trusted further than to choose an order.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

#: What waits for a process that has caught SIGTERM, a shell say, has so many seconds to end by itself.
SETTLE = 5.0

#: Seconds between two looks; a look that takes long, at a fork bomb, is followed by a longer pause.
PACE, SHARE = 0.1, 10.0

#: The most processes of this machine that one look reads, and the most bytes of one file in /proc.
MOST, SIZE = 1 << 16, 1 << 16

#: So many looks in a row find nothing when there is nothing.
LOOKS = 2

SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "ksh93", "mksh", "yash", "zsh"})

#: Signals as bits of SigCgt and SigIgn (proc_pid_status(5)).
TERM, INT, QUIT, XCPU = (1 << number - 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU))


@dataclass(frozen=True)
class Process:
    """One process, told apart from a later one of the same number by when it started, in clock ticks since boot."""

    pid: int
    start: int
    parent: int = field(compare=False)

    @property
    def name(self) -> str:
        return f"{self.pid}.{self.start}"


@dataclass(frozen=True)
class Habits:
    """What a process does about signals, by its masks and its name."""

    shell: bool = False
    caught: int = 0
    ignored: int = 0

    @property
    def catches(self) -> bool:
        return bool(self.caught & TERM)

    @property
    def ends_at_once(self) -> bool:
        """Whether this is a bash that runs an EXIT trap when SIGTERM comes, without waiting for its foreground.

        Such a bash catches every signal that would end it; one with a trap for SIGTERM alone catches that one.
        """
        return self.shell and bool(self.caught & XCPU)

    def in_background_of(self, shell: Habits) -> bool:
        """Whether the shell does not wait for this child: a script's `&` makes it ignore SIGINT and SIGQUIT (POSIX)."""
        both = INT | QUIT
        return self.ignored & both == both and not shell.ignored & INT


class Tree:
    """The processes of one job."""

    def __init__(self, root: Process, *, first_child_is_ours: bool = False) -> None:
        """`root` adopts the job's orphans; the job's first shell may be the root itself or its first child."""
        self.root = root
        self._first_child_is_ours = first_child_is_ours

    def look(self) -> tuple[list[Process], bool]:
        """Return the processes that have not ended, parents before their children, and whether these are all.

        A process whose parent ends during the look may be missing. Raises OSError where /proc cannot be read.
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
            # A number that was used twice during the look must not lead in circles.
            below = [child for child in children.get(process.pid, []) if child.pid not in known]
            known.update(child.pid for child in below)
            found += below
        return found, len(pids) < MOST


@dataclass(frozen=True)
class Reached:
    """How far SIGTERM has come, as names of processes: for an agent process that has to take over."""

    #: The topmost that catch it, which the others wait for.
    first: tuple[str, ...] = ()
    #: What was below those.
    below: tuple[str, ...] = ()
    #: All that it was sent to and that have not ended.
    sent: tuple[str, ...] = ()


class Termination:
    """SIGTERM to each process of a job, once: first to those that `choose` names, then to the others."""

    def __init__(
        self, tree: Callable[[], Tree | None], daemons: Iterable[str], reached: Reached, say: Callable[[str], None]
    ) -> None:
        """`tree` returns None while the job has no process; `daemons` are names of processes that setup has left.

        `reached` is what an earlier agent process has done of it.
        """
        self._tree = tree
        self._daemons = frozenset(daemons)
        self._say = say
        self._first, self._below, self._sent = (set(names) for names in (reached.first, reached.below, reached.sent))
        self._begun = bool(self._first or self._sent)
        #: When the first ones had ended.
        self._ended_at: float | None = None
        self._due = 0.0
        self._empty = 0

    @property
    def reached(self) -> Reached:
        return Reached(*(tuple(sorted(names)) for names in (self._first, self._below, self._sent)))

    def turn(self, until: float, *, reported: bool) -> bool:
        """Send what is due, and return whether any process of the job may be left.

        `until` is when SIGKILL follows; `reported` says that the job's first shell has told the exit code.
        """
        began = time.monotonic()
        if began < self._due:
            return True
        try:
            tree = self._tree()
            seen, whole = tree.look() if tree else ([], True)
        except OSError:
            seen, whole = [], False
        # A look may miss a process whose parent ended meanwhile; the next one finds it.
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
        words = f"; the other {rest} get it when these have ended" if rest else ""
        self._say(f"SIGTERM was sent to {len(choice.now)} of the job's {len(seen)} processes{words}")

    def _go_on(self, seen: list[Process], until: float, *, reported: bool) -> None:
        names = {process.name for process in seen}
        # A job that forks without end must not fill the memory.
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
    """Who gets SIGTERM now, parents first; of these the ones to wait for; and what is below those."""

    now: list[Process]
    first: set[Process]
    below: set[Process]


def choose(seen: list[Process], habits: Mapping[Process, Habits], daemons: frozenset[str] = frozenset()) -> Choice:
    """Choose the topmost processes that catch SIGTERM; all processes, where none catches it.

    Shells are looked through: `sh -c "python train.py"` is the trainer. A shell with a trap is one of the first,
    too; where the processes that it waits for do not catch the signal, they get it at the same time, because the trap
    runs only when they have ended. A bash with an EXIT trap would end at once, so it comes later where there is a
    process to wait for below it. What setup has left, by name in `daemons`, comes later: a trainer may need it to save.
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
    #: Those with one of the first below them, and those that end only when one of the first has ended.
    above: set[Process] = set()
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
    """Read what the process does about signals; one that has ended does nothing."""
    status, words = _read(pid, "status"), _read(pid, "cmdline").split(b"\0")
    # The masks come after the name, which is the job's own text.
    masks = {name: int(value, 16) for name, value in re.findall(rb"^(Sig...):\t([0-9a-f]+)$", status, re.MULTILINE)}
    names = [os.path.basename(word).lstrip(b"-").decode(errors="replace") for word in words[:2]]
    shell = names[0] in SHELLS or (names[0] == "busybox" and names[-1] in SHELLS)
    return Habits(shell, masks.get(b"SigCgt", 0), masks.get(b"SigIgn", 0))


def names(tree: Tree | None) -> list[str]:
    """Return the names of the tree's processes, as far as they can be seen."""
    try:
        return [process.name for process in tree.look()[0]] if tree else []
    except OSError:
        return []


def alive(process: Process) -> bool:
    return find(process.pid) == process


def named(name: str) -> Process | None:
    """Return the process of that name; None when it has ended."""
    pid = name.partition(".")[0]
    process = find(int(pid)) if pid.isdigit() else None
    return process if process and process.name == name else None


def send(process: Process, number: signal.Signals) -> None:
    """Send the signal to this very process, if it has not ended and is this user's."""
    try:
        if not hasattr(os, "pidfd_open"):
            # A Python that was built for an old kernel: a number is used again only after thousands of others.
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
    """Whether this very machine has that process in the container of that id, and lets this user signal it."""
    try:
        os.kill(pid, 0)
        return container.encode() in _read(pid, "cgroup")
    except OSError:
        return False


def kill_all(tree: Tree, patience: float) -> None:
    """SIGKILL to every process of the tree, and to those that they fork meanwhile, for at most `patience` seconds."""
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
    """Return the process of that number; None when it has ended, even if its parent does not know yet."""
    # The name in brackets may hold anything, brackets and spaces too.
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    # Numbers as in proc_pid_stat(5), less the two before: 3 is the state, 4 the parent, 20 threads, 22 the start.
    if len(fields) < 20:
        return None
    state, parent, threads, start = fields[0], int(fields[1]), int(fields[17]), int(fields[19])
    if state in b"ZXx" and threads < 2:
        return None
    return Process(pid, start, parent)


def _read(pid: int, name: str) -> bytes:
    """Return the beginning of the process's file in /proc; empty when it has ended. Raises OSError."""
    try:
        handle = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
        try:
            return os.read(handle, SIZE)
        finally:
            os.close(handle)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # Where processes are hidden from other users (hidepid), the job's are this user's all the same.
        return b""
