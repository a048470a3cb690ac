"""Run a machine; end all its processes when its command exits, or when the process that booted it exits.

    supervisor.py FOLDER [COMMAND...]     standard input: a pipe; its end of file ends the machine

Every process of the machine, even one that has detached itself, is a descendant of this process. Without a command,
this process only keeps the folder until the end of file.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

#: <linux/prctl.h>: orphans of our descendants become our children.
PR_SET_CHILD_SUBREAPER = 36

#: Seconds for which the folder's removal is retried: machines whose folders lie in it may be ending at the same time.
LEAVING = 60.0


def supervise(folder: Path, command: list[str]) -> None:
    """Run the command; return when no process of the machine is left and its folder is removed."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL) if command else None
        while True:
            ready, _, _ = select.select([sys.stdin.fileno(), woken], [], [])
            if woken not in ready or (machine and machine.pid in _reap(woken)):
                break
    finally:
        _end_all()
        _remove_containers(folder.name)
        _remove(folder)


def _remove(folder: Path) -> None:
    end = time.monotonic() + LEAVING
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def _reap(woken: int) -> set[int]:
    """Reap the children that have ended, and return their process ids."""
    os.read(woken, 4096)
    ended = set()
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended.add(pid)
    except ChildProcessError:
        pass
    return ended


def _end_all() -> None:
    while True:
        for pid in _descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            # The process's name, in parentheses, may contain any characters, also parentheses.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found, rest = [], [os.getpid()]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def _remove_containers(machine: str) -> None:
    """Remove the machine's containers: with a real container engine, the job is no descendant of this process."""
    if os.environ.get("PROVISION_REAL_DOCKER"):
        docker = os.environ["PROVISION_REAL_DOCKER"]
        listed = subprocess.run(
            [docker, "ps", "--all", "--quiet", f"--filter=label=provision.machine={machine}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.stdout.split():
            subprocess.run([docker, "rm", "--force", *listed.stdout.split()], capture_output=True, check=False)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), sys.argv[2:])
