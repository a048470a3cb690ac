"""What the kernel says: it alone knows of GPUs that broke and of processes that it killed."""

from __future__ import annotations

import re
from pathlib import Path

from provisioner.agent.machine.tools import ask

#: One process of many, or of a container with a memory limit of its own; before Linux 4.20 "Kill process".
KILLED = re.compile(r"[Oo]ut of memory: Kill(?:ed)? process (\d+) \((.*?)\) (?:total-vm|score)")


def messages(after: str = "") -> list[str]:
    """The lines of the kernel's log that follow `after`, oldest first; all that it still holds when that one is gone.

    Each begins with its time since boot, so that no two are alike. Empty where the log cannot be read.
    """
    try:
        answer = ask(["dmesg"])
    except OSError:
        return []
    lines = answer.text.splitlines() if not answer.code else []
    return lines[lines.index(after) + 1 :] if after and after in lines else lines


def latest() -> str:
    """The newest line, for a later look at what follows."""
    return next(reversed(messages()), "")


def boot() -> bytes:
    """What names this boot of the machine (Linux, random(4)); empty where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


def killed(lines: list[str]) -> list[str]:
    """The processes that the kernel killed since it had no memory left, in words."""
    return [f"{found[2]} (process {found[1]})" for found in map(KILLED.search, lines) if found]
