"""Light machines with a real sshd, each in a sandbox without root; Docker is a script there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from provisioner.rehearsal.machines.host import Guest
from provisioner.rehearsal.machines.light import LightHost
from tests.e2e.sandbox import SSHD, sandboxed

#: A double of Docker: the job's container is the machine itself, in the job's folder.
DOCKER = """#!/bin/sh
verb=$1; shift
case $verb in
container) [ ! -e /tmp/no-container ] && echo true || { echo "Error: No such container: $4" >&2; exit 1; } ;;
exec)
    while :; do case $1 in -*) shift ;; *) break ;; esac; done
    shift
    mkdir -p /home/jovyan/workspace && cd /home/jovyan/workspace && exec "$@" ;;
esac
"""


#: An SSH key that the AMI already accepts.
SOMEBODY = "ssh-ed25519 AAAA somebody"


class EnteredHost(LightHost):
    """A host whose machines accept SSH at their public address and `port`."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self.port = port
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        root = self._folder / guest.instance_id
        for name in ("etc/ssh", "root", "doubles", "opt", "tmp", "home", "var", "run"):
            (root / name).mkdir(parents=True)
        # Give the sandbox's user the name root.
        (root / "etc/passwd").write_text("root:x:1000:1000::/root:/bin/sh\n")
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "etc/ssh/ssh_host_ed25519_key")],
            check=True,
        )
        (root / "etc/ssh/sshd_config").write_text(SSHD.format(port=self.port, address=guest.public_address))
        (root / "root/.ssh").mkdir()
        (root / "root/.ssh/authorized_keys").write_text(SOMEBODY)
        (root / "doubles/docker").write_text(DOCKER)
        (root / "doubles/docker").chmod(0o755)

        def off(instance_id: str) -> None:
            self.cut(instance_id)
            powered_off(instance_id)

        super().boot(guest, off)
        self._daemons[guest.instance_id] = subprocess.Popen(
            [*sandboxed(root), "/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_config"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self, instance_id: str) -> None:
        self.cut(instance_id)
        super().end(instance_id)

    def cut(self, instance_id: str) -> None:
        if daemon := self._daemons.pop(instance_id, None):
            daemon.kill()
            daemon.wait()

    def folder(self, instance_id: str) -> Path:
        """Return the root folder of the machine."""
        return self._folder / instance_id
