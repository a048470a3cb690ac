"""The way in to this machine, for whoever holds the key that the work order names."""

from __future__ import annotations

import os
from pathlib import Path

from provisioner.agent.machine import files
from provisioner.agent.node import Node


def let_in(node: Node) -> None:
    """Authorize the key as root's, beside what is there, and tell by what to know this machine.

    The work is done all the same where that cannot be.
    """
    if not node.order.authorized_key:
        return
    try:
        _authorize(Path(f"{node.paths.root}/root/.ssh"), node.order.authorized_key)
        node.host_keys = _host_keys(Path(f"{node.paths.root}/etc/ssh"))
    except OSError as error:
        node.say(f"nobody can be let in: {error}")
        return
    node.say("the run's key may enter this machine" if node.host_keys else "no sshd here: nobody can be let in")


def _authorize(folder: Path, key: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    file = folder / "authorized_keys"
    lines = file.read_text(errors="surrogateescape").splitlines() if file.exists() else []
    if key not in lines:
        text = "".join(f"{line}\n" for line in [*lines, key])
        files.replace(file, text.encode(errors="surrogateescape"))
    os.chmod(file, 0o600)


def _host_keys(folder: Path) -> tuple[str, ...]:
    """Each `kind base64`: what follows is a comment."""
    words = [path.read_text().split() for path in sorted(folder.glob("ssh_host_*_key.pub"))]
    return tuple(" ".join(each[:2]) for each in words if len(each) > 1)
