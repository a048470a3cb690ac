"""Allow SSH logins to this machine with the key that the work order names."""

from __future__ import annotations

import os
from pathlib import Path

from provisioner.agent.machine import files
from provisioner.agent.node import Node


def let_in(node: Node) -> None:
    """Add the key to root's authorized keys, and set `node.host_keys`.

    An OSError is only logged, because the work does not need SSH.
    """
    if not node.order.authorized_key:
        return
    try:
        _authorize(Path(f"{node.paths.root}/root/.ssh"), node.order.authorized_key)
        node.host_keys = _host_keys(Path(f"{node.paths.root}/etc/ssh"))
    except OSError as error:
        node.say(f"SSH login is not available: {error}")
        return
    node.say(
        "SSH login is allowed with the run's key"
        if node.host_keys
        else "SSH login is not available: this machine has no SSH host keys"
    )


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
    """Return the public host keys, each as `kind base64`, without the comment that follows."""
    words = [path.read_text().split() for path in sorted(folder.glob("ssh_host_*_key.pub"))]
    return tuple(" ".join(each[:2]) for each in words if len(each) > 1)
