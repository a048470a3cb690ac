"""Virtual machines by QEMU, without root: a kernel that boots, cloud-init, systemd, Docker, and power that goes off.

Each one's network is QEMU's own (slirp): the metadata service is where EC2 has it, and this computer's loopback
is GATEWAY to the guest.
"""

import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from provisioner.core.errors import ProvisionError
from provisioner.rehearsal.host import Guest
from provisioner.rehearsal.machines.image import Image
from provisioner.rehearsal.machines.life import Life

#: Under it the guest reaches what listens on this computer's 127.0.0.1.
GATEWAY = "169.254.169.2"

#: Emulated, each wants two processors for itself while it boots.
AT_ONCE = 2

#: In seconds. No rehearsal needs one for longer, and a guest that hangs must not stay for ever.
LIMIT = 7200.0

MEMORY_MIB = 1024

#: For translated code, of which emulated guests would keep a gigabyte otherwise.
TRANSLATED_MIB = 256

#: What programs built for x86-64-v2 need, and no more: whatever it could do beyond would take longer to emulate.
EMULATED_CPU = "Nehalem"

#: Docker runs no container where AppArmor is on and its tools are not there; the rest is for speed.
KERNEL = "root=/dev/vda rw console=ttyS0 quiet panic=-1 apparmor=0 selinux=0 audit=0 mitigations=off"

#: The socket, in the machine's folder, where QEMU's guest agent is met, if the host has a way in.
WAY_IN = "way-in"


class NoMachine(ProvisionError):
    """This computer cannot hold the machine."""


class _Machine:
    def __init__(self) -> None:
        #: From its boot on.
        self.life: Life | None = None
        #: It has ended, or must not begin.
        self.over = False
        #: What the rehearsal has to say on the machine's console.
        self.note = ""


class NotKept(ProvisionError):
    """A virtual machine's disk goes with it."""


class QemuHost:
    """Plays machines from `image`, with their disks in folders under `folder`.

    At most `at_once` run; a further one is on, as EC2 sees it, and boots when another has ended.
    """

    def __init__(
        self,
        folder: Path,
        image: Image,
        *,
        gpus: Callable[[str], int] | None = None,
        at_once: int = AT_ONCE,
        limit: float = LIMIT,
        way_in: bool = False,
        ssh_port: int | None = None,
    ) -> None:
        """`gpus` says how many an instance type shows; `limit`, in seconds, ends each machine.

        With a `way_in` QEMU's guest agent can be asked to run commands as the machine's root. Each machine's sshd
        answers at `ssh_port` of its public address, a loopback address of its own.
        """
        self.ssh_port = ssh_port
        self._folder = folder
        self._image = image
        self._gpus = gpus or (lambda _: 0)
        self._at_once = at_once
        self._limit = limit
        self._way_in = way_in
        self._machines: dict[str, _Machine] = {}
        #: Held while a machine begins or ends, so that nobody meets one in between.
        self._places = threading.Condition()

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        machine = self._machines[guest.instance_id] = _Machine()
        threading.Thread(
            target=self._begin, args=(guest, machine, powered_off), name=f"boot {guest.instance_id}", daemon=True
        ).start()

    def end(self, instance_id: str) -> None:
        machine = self._machines.get(instance_id)
        if machine is None:
            return
        with self._places:
            life = machine.life
            machine.over = life is None
            self._places.notify_all()
        if life is not None:
            life.end()
            self._leave(machine)

    def console(self, instance_id: str) -> str:
        machine = self._machines.get(instance_id)
        if machine is None:
            return ""
        return machine.note + (machine.life.console if machine.life else "")

    def capture(self, instance_id: str, image_id: str) -> None:  # noqa: ARG002 - nothing is kept
        raise NotKept(f"the disk of {instance_id} is not kept: images of virtual machines are not rehearsed")

    def consoles(self) -> dict[str, str]:
        """Of every machine there ever was, by its id."""
        return {instance_id: self.console(instance_id) for instance_id in list(self._machines)}

    def close(self) -> None:
        for instance_id in list(self._machines):
            self.end(instance_id)

    def folder(self, instance_id: str) -> Path:
        """Where the machine's own files are while it lives."""
        return self._folder.resolve() / instance_id

    def _begin(self, guest: Guest, machine: _Machine, powered_off: Callable[[str], None]) -> None:
        def off() -> None:
            self._leave(machine)
            powered_off(guest.instance_id)

        with self._places:
            if self._full():
                machine.note = f"rehearsal: {self._at_once} virtual machines run, and this one waits for its turn\n"
            self._places.wait_for(lambda: machine.over or not self._full())
            if machine.over:
                return
            try:
                machine.life = self._boot(guest, off)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the machine is not on
                machine.note += f"rehearsal: this machine cannot boot: {error}\n"
        off()

    def _full(self) -> bool:
        running = sum(one.life is not None and not one.over for one in self._machines.values())
        return running >= self._at_once

    def _leave(self, machine: _Machine) -> None:
        with self._places:
            machine.over = True
            self._places.notify_all()

    def _boot(self, guest: Guest, off: Callable[[], None]) -> Life:
        folder = self.folder(guest.instance_id)
        folder.mkdir(parents=True)
        overlay = ("-f", "qcow2", "-F", "raw", "-b", str(self._image.disk), str(folder / "disk"))
        made = subprocess.run(
            ["qemu-img", "create", "-q", *overlay],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise NoMachine(made.stderr.strip())
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        # It says so on the console when it cuts the power.
        limited = ("timeout", "--verbose", "--signal=KILL", str(self._limit))
        return Life(folder, [*limited, *self._command(guest)], environment, off)

    def _command(self, guest: Guest) -> Sequence[str]:
        accelerator, cpu = self._image.accelerator, "host"
        if accelerator == "tcg":
            accelerator, cpu = f"tcg,thread=multi,tb-size={TRANSLATED_MIB}", EMULATED_CPU
        # EC2's own begins like this (EC2 User Guide, "Detect whether a host is an EC2 instance").
        serial = f"ec2{uuid.uuid5(uuid.NAMESPACE_URL, guest.instance_id)}"[:8] + str(uuid.uuid4())[8:]
        network = (
            f"user,id=net,ipv6=off,net=169.254.169.0/24,host={GATEWAY},dhcpstart=169.254.169.15,"
            f"guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 {guest.open_metadata()}"
        )
        if self.ssh_port:
            network += f",hostfwd=tcp:{guest.public_address}:{self.ssh_port}-:22"
        way_in = (
            *("-chardev", f"socket,id=way-in,path={WAY_IN},server=on,wait=off", "-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=way-in,name=org.qemu.guest_agent.0"),
        )
        return [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", cpu),
            *("-smp", "2", "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-serial", "stdio"),
            *("-smbios", f"type=1,manufacturer=Amazon EC2,product={guest.instance_type},uuid={serial},serial={serial}"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", f"{KERNEL} rehearsal.gpus={self._gpus(guest.instance_type)}"),
            *("-drive", "if=none,id=disk,file=disk,format=qcow2,cache=unsafe,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", network, "-device", f"virtio-net-pci,netdev=net,mac={guest.mac},romfile="),
            *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
            *(way_in if self._way_in else ()),
        ]
