"""QEMU virtual machines, without root: each has a real boot, cloud-init, systemd, Docker, and a real power-off.

Each machine has QEMU's own network (slirp): the metadata service has the same address as on EC2, and the guest reaches
this computer's loopback at GATEWAY.
"""

import os
import random
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from provisioner.core.errors import ProvisionError
from provisioner.rehearsal.machines.host import Guest, place
from provisioner.rehearsal.machines.life import Life
from provisioner.rehearsal.machines.network import GATEWAY as GATEWAY
from provisioner.rehearsal.machines.virtual.image import Image
from provisioner.rehearsal.machines.virtual.monitor import SOCKET, Monitor

#: Multicast address, for private use (RFC 2365), of the network that connects the machines.
PEERS = "239.255.77.1"

#: Maximum number of machines that run at once: an emulated machine needs one or two processors while it boots.
AT_ONCE = 2

#: Seconds after which a machine is ended: no rehearsal takes longer, and a guest that hangs must not run for ever.
LIMIT = 7200.0

MEMORY_MIB = 1024

#: Limit of QEMU's cache of translated code; without it, the cache of an emulated guest takes a gigabyte.
TRANSLATED_MIB = 256

#: The simplest CPU that runs programs built for x86-64-v2: more features would be slower to emulate.
EMULATED_CPU = "Nehalem"

#: `apparmor=0`, because Docker runs no container if AppArmor is on without its tools. SELinux, auditing and mitigations
#: are off for speed.
KERNEL = "root=/dev/vda rw console=ttyS0 quiet panic=-1 apparmor=0 selinux=0 audit=0 mitigations=off"

#: Seconds that a capture may take, most of them for the guest's shutdown.
PATIENCE = 600.0

#: Name of the socket of QEMU's guest agent in the machine's folder, if the host has `way_in`.
WAY_IN = "way-in"


class NoMachine(ProvisionError):
    """This computer cannot make the machine's disk, or a copy of it."""


class _Machine:
    def __init__(self, image: str) -> None:
        #: Id of the machine's AMI.
        self.image = image
        #: None before the boot.
        self.life: Life | None = None
        #: Whether the machine has ended, or must not boot.
        self.over = False
        #: Messages of the rehearsal itself, shown before the machine's console output.
        self.note = ""


class QemuHost:
    """Runs machines from `image` or from AMIs captured from such machines; the disks are in folders under `folder`.

    At most `at_once` machines run. A further machine is `running` in EC2, but boots only when another one has ended.
    """

    def __init__(
        self,
        folder: Path,
        image: Image,
        *,
        gpus: Callable[[str], int] | None = None,
        at_once: int = AT_ONCE,
        processors: int = 2,
        limit: float = LIMIT,
        way_in: bool = False,
        ssh_port: int | None = None,
        second_disk: Path | None = None,
    ) -> None:
        """`gpus` returns how many GPUs an instance type shows; each machine is ended after `limit` seconds.

        An emulated machine gains from a second processor only if this computer has an idle one for it.

        With `way_in`, QEMU's guest agent can run commands as the machine's root. Each machine's sshd answers at
        `ssh_port` of its public address, a loopback address of its own. The disk image `second_disk` is each machine's
        /dev/vdb, read-only.
        """
        self.ssh_port = ssh_port
        self._folder = folder
        self._image = image
        self._gpus = gpus or (lambda _: 0)
        self._at_once = at_once
        self._processors = processors
        self._limit = limit
        self._way_in = way_in
        self._second_disk = second_disk
        # The port is random, because another process of this computer may run machines, too.
        self._peers_port = random.randrange(20_000, 30_000)
        self._machines: dict[str, _Machine] = {}
        #: For each AMI with a kept disk, the AMI whose disk is the backing file of that disk; and all forgotten AMIs.
        self._kept_on: dict[str, str] = {}
        self._forgotten: set[str] = set()
        #: Held while a machine begins or ends, so that no thread sees a state in between.
        self._places = threading.Condition()

    def address(self, number: int, together: bool) -> str:  # noqa: ARG002 - all machines have the same network
        return f"10.{place(number)}"

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        machine = self._machines[guest.instance_id] = _Machine(guest.image_id)
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

    def capture(self, instance_id: str, image_id: str) -> None:
        """Shut the guest down, keep a copy of its disk, and boot the guest again, as EC2 does.

        The shutdown writes the guest's whole file system to the disk. The kept disk has only the differences from the
        disk of the machine's AMI.
        """
        machine = self._machines[instance_id]
        disk, kept = self.folder(instance_id) / "disk", self._kept(image_id)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with Monitor(disk.parent, PATIENCE) as monitor:
            monitor.execute("set-action", shutdown="pause")
            monitor.execute("system_powerdown")
            monitor.wait_for("STOP")
            kind, base = self._backing(machine.image)
            self._kept_on[image_id] = machine.image
            _qemu_img("convert", "-U", "-O", "qcow2", "-F", kind, "-B", base, str(disk), str(kept))
            monitor.execute("set-action", shutdown="poweroff")
            monitor.execute("system_reset")
            monitor.wait_for("RESET")
            monitor.execute("cont")

    def forget(self, image_id: str) -> None:
        with self._places:
            self._forgotten.add(image_id)
            self._tidy()

    def consoles(self) -> dict[str, str]:
        """Return the console output of every machine that ever existed, by instance id."""
        return {instance_id: self.console(instance_id) for instance_id in list(self._machines)}

    def close(self) -> None:
        for instance_id in list(self._machines):
            self.end(instance_id)
        shutil.rmtree(self._folder / "images", ignore_errors=True)

    def folder(self, instance_id: str) -> Path:
        """Return the folder of the machine's own files, which exists while the machine lives."""
        return self._folder.resolve() / instance_id

    def _kept(self, image_id: str) -> Path:
        return self._folder.resolve() / "images" / image_id

    def _backing(self, image_id: str) -> tuple[str, str]:
        """Return format and path of the backing file for disks of this AMI: its kept disk, or else the guest image."""
        kept = self._kept(image_id)
        return ("qcow2", str(kept)) if kept.exists() else ("raw", str(self._image.disk))

    def _begin(self, guest: Guest, machine: _Machine, powered_off: Callable[[str], None]) -> None:
        def off() -> None:
            self._leave(machine)
            powered_off(guest.instance_id)

        with self._places:
            if self._full():
                machine.note = f"rehearsal: waiting to boot: {self._at_once} virtual machines run, the maximum\n"
            self._places.wait_for(lambda: machine.over or not self._full())
            if machine.over:
                return
            try:
                machine.life = self._boot(guest, off)
                return
            except Exception as error:  # noqa: BLE001 - after any error, the machine is not running
                machine.note += f"rehearsal: this machine cannot boot: {error}\n"
        off()

    def _full(self) -> bool:
        running = sum(one.life is not None and not one.over for one in self._machines.values())
        return running >= self._at_once

    def _leave(self, machine: _Machine) -> None:
        with self._places:
            machine.over = True
            self._tidy()
            self._places.notify_all()

    def _tidy(self) -> None:
        """Delete the kept disks of forgotten AMIs that no live machine's disk or other kept disk is based on."""
        alive = {one.image for one in self._machines.values() if not one.over}
        while idle := self._forgotten & self._kept_on.keys() - alive - set(self._kept_on.values()):
            for image_id in idle:
                del self._kept_on[image_id]
                self._kept(image_id).unlink(missing_ok=True)

    def _boot(self, guest: Guest, off: Callable[[], None]) -> Life:
        folder = self.folder(guest.instance_id)
        folder.mkdir(parents=True)
        kind, base = self._backing(guest.image_id)
        try:
            _qemu_img("create", "-q", "-f", "qcow2", "-F", kind, "-b", base, str(folder / "disk"))
        except NoMachine:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        # `--verbose` writes to the console when the limit ends the machine.
        limited = ("timeout", "--verbose", "--signal=KILL", str(self._limit))
        return Life(folder, [*limited, *self._command(guest)], environment, off)

    def _command(self, guest: Guest) -> Sequence[str]:
        # The MAC address of the second interface: that of the first interface, with another first byte.
        peer, gpus = f"06{guest.mac[2:]}", self._gpus(guest.instance_type)
        fault = f"rehearsal.gpu={guest.gpu_fault} " if guest.gpu_fault else ""
        accelerator, cpu = self._image.accelerator, "host"
        if accelerator == "tcg":
            accelerator, cpu = f"tcg,thread=multi,tb-size={TRANSLATED_MIB}", EMULATED_CPU
        # A UUID of EC2 begins with `ec2` (EC2 User Guide, "Detect whether a host is an EC2 instance").
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
        second_disk = (
            *("-drive", f"if=none,id=second,file={self._second_disk},format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=second"),
        )
        return [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", accelerator, "-cpu", cpu),
            *("-smp", str(self._processors), "-m", str(MEMORY_MIB)),
            *("-nodefaults", "-display", "none", "-serial", "stdio"),
            *("-smbios", f"type=1,manufacturer=Amazon EC2,product={guest.instance_type},uuid={serial},serial={serial}"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", f"{KERNEL} {fault}rehearsal.gpus={gpus} rehearsal.peer={peer},{guest.address}"),
            *("-drive", "if=none,id=disk,file=disk,format=qcow2,cache=unsafe,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", network, "-device", f"virtio-net-pci,netdev=net,mac={guest.mac},romfile="),
            # The machines of this host share a second network, over multicast on this computer's loopback.
            *("-netdev", f"socket,id=peers,mcast={PEERS}:{self._peers_port},localaddr=127.0.0.1"),
            *("-device", f"virtio-net-pci,netdev=peers,mac={peer},romfile="),
            *("-qmp", f"unix:{SOCKET},server=on,wait=off"),
            *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
            *(way_in if self._way_in else ()),
            *(second_disk if self._second_disk else ()),
        ]


def _qemu_img(*words: str) -> None:
    # qemu-img must end with the thread that waits for it.
    command = ["setpriv", "--pdeathsig", "KILL", "qemu-img", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoMachine(done.stderr.strip())
