"""Read the kernel's log, the only record of GPUs that broke and of processes that the kernel killed."""

from __future__ import annotations

import re
from pathlib import Path

from provisioner.agent.machine.tools import ask

#: Maximum seconds to wait for the kernel's log.
PATIENCE = 10.0

#: The message about a process that the kernel killed because the machine, or a container with its own memory limit, had
#: no memory left. Before Linux 4.20 it has "Kill process".
KILLED = re.compile(r"[Oo]ut of memory: Kill(?:ed)? process (\d+) \((.*?)\) (?:total-vm|score)")


def messages(after: str = "") -> list[str]:
    """Return the lines of the kernel's log that follow the line `after`, oldest first; all lines if `after` is missing.

    Each line begins with its time since boot, so no two lines are equal. Empty if the log cannot be read.
    """
    try:
        answer = ask(["dmesg"], PATIENCE)
    except OSError:
        return []
    lines = answer.text.splitlines() if not answer.code else []
    return lines[lines.index(after) + 1 :] if after and after in lines else lines


def latest() -> str:
    """Return the newest line of the kernel's log, to pass to `messages` later; empty if there is none."""
    return next(reversed(messages()), "")


def boot() -> bytes:
    """Return the id of this boot of the machine (Linux, random(4)); empty if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


def killed(lines: list[str]) -> list[str]:
    """Return, as text, the processes that the kernel killed because no memory was left."""
    return [f"{found[2]} (process {found[1]})" for found in map(KILLED.search, lines) if found]
