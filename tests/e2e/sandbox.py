"""Light machines, and builders with a real sshd: each in a sandbox where our scripts are root of nothing else."""

import email
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from provisioner.core.hostkeys import END
from provisioner.rehearsal.host import Guest
from provisioner.rehearsal.machines.light import LightHost

SSHD = """\
Port {port}
ListenAddress {address}
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
Subsystem sftp internal-sftp
SetEnv PATH=/doubles:/usr/bin:/bin
"""

DOUBLES = {
    "sudo": '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n',
    # `never` is no image of any registry; `slow` takes its time and says when it begins.
    "docker": """#!/bin/sh
echo "$*" >>/opt/docker.log
for image; do :; done
case "$1 $image" in
pull*never*) echo "pull access denied for never"; exit 1 ;;
pull*slow*) echo "slow begins"; exec sleep 600 ;;
pull*) printf 'layer 1\\rlayer 2\\ndone\\n' ;;
version*) echo 20.10 ;;
image*) echo "${image%:*}@sha256:5555555555555555555555555555555555555555555555555555555555555555" ;;
esac
""",
}


class SandboxHost(LightHost):
    """A guest whose user-data lets somebody in is a builder; all others are light machines."""

    def __init__(self, folder: Path, port: int, *, impostor: bool = False) -> None:
        """With `impostor` the console tells another host key than the machine has."""
        super().__init__(folder)
        self._port, self._impostor = port, impostor
        self._builders: dict[str, subprocess.Popen[bytes]] = {}
        self._consoles: dict[str, str] = {}
        #: Every file of the captured machine, with its size.
        self.kept: dict[str, int] = {}

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        parts = {part.get_content_type(): part for part in email.message_from_string(guest.user_data).walk()}
        if "text/cloud-config" not in parts:
            super().boot(guest, powered_off)
            return
        root = self._folder / guest.instance_id
        config = bytes(parts["text/cloud-config"].get_payload(decode=True)).decode()
        self._furnish_builder(root, guest, json.loads(config.removeprefix("#cloud-config\n")))
        script = bytes(parts["text/x-shellscript"].get_payload(decode=True))
        (root / "tmp/part").write_bytes(script)
        told = subprocess.run([*_sandbox(root), "sh", "/tmp/part"], capture_output=True, text=True, check=True).stdout
        if self._impostor:
            told = told.replace(END, "").replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAA") + END
        self._consoles[guest.instance_id] = f"Booting\n{told}"
        server = [*_sandbox(root), "/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_config"]
        self._builders[guest.instance_id] = subprocess.Popen(
            server, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _furnish_builder(self, root: Path, guest: Guest, config: dict[str, list[str]]) -> None:
        for name in ("etc/ssh", "var/log", "var/lib/cloud/instance", "home/ubuntu/.ssh", "root", "opt", "tmp", "run"):
            (root / name).mkdir(parents=True)
        (root / "etc/passwd").write_text("ubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n")
        (root / "etc/machine-id").write_text("0123\n")
        (root / "var/log/cloud-init.log").write_text("what this machine did\n")
        (root / "home/ubuntu/.ssh/authorized_keys").write_text("\n".join(config["ssh_authorized_keys"]) + "\n")
        key = root / "etc/ssh/ssh_host_ed25519_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (root / "etc/ssh/sshd_config").write_text(SSHD.format(port=self._port, address=guest.public_address))
        (root / "doubles").mkdir()
        for name, script in DOUBLES.items():
            (root / "doubles" / name).write_text(script)
            (root / "doubles" / name).chmod(0o755)

    def end(self, instance_id: str) -> None:
        if server := self._builders.pop(instance_id, None):
            server.kill()
            server.wait()
            shutil.rmtree(self._folder / instance_id)
        super().end(instance_id)

    def console(self, instance_id: str) -> str:
        return self._consoles.get(instance_id) or super().console(instance_id)

    def capture(self, instance_id: str, image_id: str) -> None:
        root = self._folder / instance_id
        self.kept = {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}
        super().capture(instance_id, image_id)

    def close(self) -> None:
        for instance_id in list(self._builders):
            self.end(instance_id)
        super().close()


def _sandbox(root: Path) -> list[str]:
    """This computer's programs to read, and folders of the machine's own in the place of all else."""
    own = [
        word
        for name in ("etc", "var", "home", "root", "opt", "tmp", "run")
        for word in ("--bind", f"{root}/{name}", f"/{name}")
    ]
    links = [word for name in ("bin", "sbin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")]
    return [
        *("bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid", "--die-with-parent"),
        *("--ro-bind", "/usr", "/usr", *links, *own, "--ro-bind", f"{root}/doubles", "/doubles"),
        *("--proc", "/proc", "--dev", "/dev", "--setenv", "PATH", "/doubles:/usr/bin:/bin", "--"),
    ]
