"""Light machines, and builders with a real sshd, each in a sandbox that limits the AMI scripts to the machine."""

import email
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from provisioner.core.cloud.host_keys import END
from provisioner.rehearsal.machines.host import Guest
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

DIGEST = f"sha256:{'5' * 64}"

#: A double of Docker's engine: no registry has `never`, `slow` takes ten minutes, all other images are pulled at once.
ENGINE = f"""#!/usr/bin/python3
import http.server, json, socketserver, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        never, slow = "fromImage=never" in self.path, "fromImage=slow" in self.path
        self.send_response(404 if never else 200)
        self.end_headers()
        if slow:
            self.wfile.flush()
            time.sleep(600)
        event = {{"message": "pull access denied for never"}} if never else {{"status": "Digest: {DIGEST}"}}
        self.wfile.write(json.dumps(event).encode())

    def log_message(self, *said):
        pass

socketserver.ThreadingUnixStreamServer("/var/run/docker.sock", Handler).serve_forever()
"""

DOUBLES = {
    "sudo": '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n',
    "docker": f"""#!/bin/sh
for image; do :; done
case "$1" in
version) echo 1.41 20.10 ;;
image) echo "${{image%:*}}@{DIGEST}" ;;
esac
""",
    "dockerd": ENGINE,
}


class SandboxHost(LightHost):
    """A host whose guests are builders if their user-data has an SSH key, and light machines otherwise."""

    def __init__(self, folder: Path, port: int, *, impostor: bool = False) -> None:
        """With `impostor` the console shows another host key than the machine has."""
        super().__init__(folder)
        self._port, self._impostor = port, impostor
        #: The processes of each builder; they end their own children.
        self._builders: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._consoles: dict[str, str] = {}
        #: Every file of the captured machine, with its size.
        self.kept: dict[str, int] = {}

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        if "ssh_authorized_keys" not in guest.user_data:
            super().boot(guest, powered_off)
            return
        parts = {part.get_content_type(): part for part in email.message_from_string(guest.user_data).walk()}
        root = self._folder / guest.instance_id
        config = bytes(parts["text/cloud-config"].get_payload(decode=True)).decode()
        self._furnish_builder(root, guest, json.loads(config.removeprefix("#cloud-config\n")))
        script = bytes(parts["text/x-shellscript"].get_payload(decode=True))
        (root / "tmp/part").write_bytes(script)
        told = subprocess.run([*sandboxed(root), "sh", "/tmp/part"], capture_output=True, text=True, check=True).stdout
        if self._impostor:
            told = told.replace(END, "").replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAA") + END
        self._consoles[guest.instance_id] = f"Booting\n{told}"
        self._builders[guest.instance_id] = [
            subprocess.Popen([*sandboxed(root), *words], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for words in (["dockerd"], ["/usr/sbin/sshd", "-D", "-f", "/etc/ssh/sshd_config"])
        ]

    def _furnish_builder(self, root: Path, guest: Guest, config: dict[str, list[str]]) -> None:
        for name in (
            "etc/ssh",
            "var/log",
            "var/run",
            "var/lib/cloud/instance",
            "home/ubuntu/.ssh",
            "root",
            "opt",
            "tmp",
            "run",
        ):
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
        if processes := self._builders.pop(instance_id, None):
            for process in processes:
                process.kill()
                process.wait()
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


def sandboxed(root: Path) -> list[str]:
    """Return the command for a sandbox with this computer's programs read-only and the machine's own folders."""
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
