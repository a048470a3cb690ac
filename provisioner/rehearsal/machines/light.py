"""Light machines: each is a process tree that runs the real user-data and agent without root."""

import functools
import itertools
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from provisioner.core.errors import ProvisionError
from provisioner.rehearsal.machines import doubles, network
from provisioner.rehearsal.machines.host import Guest, place
from provisioner.rehearsal.machines.life import PYTHON, Life

#: The folder that a light machine gets from its AMI, relative to the machine's folder.
BAKED = "opt/provision"

HERE = Path(__file__).parent

#: The ports of machines that share this computer's network. Linux gives ports from 32768 on to outgoing connections.
PORTS = range(20_000, 32_768)

#: Maximum seconds of the trial whether a machine can have its own network.
TRIAL = 30.0


class NotSafe(ProvisionError):
    """The machine is not booted: one of its commands is missing, or would be this computer's own."""


class LightHost:
    """Runs machines in folders under `folder`; each machine's folder is removed when the machine ends."""

    def __init__(
        self,
        folder: Path,
        *,
        docker: bool = False,
        gpus: Callable[[str], int] | None = None,
        environment: Callable[[Guest], Mapping[str, str]] = lambda _: {},
        disk: Callable[[Guest], int | None] = lambda _: None,
        sandbox: bool = True,
        own_networks: bool = True,
        binds: Callable[[Path], Sequence[str]] = lambda _: (),
    ) -> None:
        """`docker` lets the machines use this computer's own Docker engine, at DOCKER_HOST.

        `gpus` returns how many GPUs an instance type shows; by default, every type shows 8. `environment` returns
        variables that are added to the machine's own, also those that simulate faults (PROVISION_GPUS,
        PROVISION_ECC_ERRORS, PROVISION_KERNEL_LOG, PROVISION_BLOCK_DEVICES, PROVISION_DOCKER). `disk` returns the size,
        in bytes, of the machine's own disk, or None if it has none; the disk is in this computer's memory, and exists
        in a sandbox only.
        Without `sandbox`, or if bubblewrap does not work, a machine is a plain process tree.

        With `own_networks`, each machine of a run with several of them has its own network and host name, if this
        process may make them. All other machines share this computer's network. `binds` returns more options of the
        sandbox for the machine with that folder, such as those that give it a /tmp of its own.
        """
        self._folder = folder
        self._docker = _which("docker") if docker else ""
        self._gpus = gpus or (lambda _: 8)
        self._environment = environment
        self._disk = disk
        self.sandboxed = sandbox and _bubblewrap_works()
        self._own_networks = own_networks
        self._binds = binds
        self._closing = ExitStack()
        self._machines: dict[str, Life] = {}
        #: The ports of machines that share this computer's network, by address; and the addresses by instance id.
        self._ports: dict[str, socket.socket] = {}
        self._addresses: dict[str, str] = {}
        #: The baked files of captured AMIs: one folder for each AMI that has any.
        self._images = folder / "images"

    def address(self, number: int, together: bool) -> str:
        # All of 127/8 is this computer's loopback.
        if not together:
            return f"127.{place(number)}"
        if self._switch is not None:
            return network.address(number)
        port, claim = _claim()
        # The last two numbers are the port: the leader's address is all that the ranks of a run know of their leader
        # (ProcessEngine.port).
        address = f"127.1.{port >> 8}.{port & 255}"
        self._ports[address] = claim
        return address

    @functools.cached_property
    def _switch(self) -> int | None:
        """The namespace that connects the machines' own networks; None if this process cannot make such networks."""
        if self._docker or not (self._own_networks and self.sandboxed):
            return None
        try:
            switch = network.switch()
        except OSError:
            return None
        folder = self._folder.resolve() / "trial"
        try:
            (folder / "etc").mkdir(parents=True)
            trial = [*self._connected(switch, folder, network.address(1), "1", None), "true"]
            subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=TRIAL)
        except (OSError, subprocess.SubprocessError):
            os.close(switch)
            return None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._closing.callback(os.close, switch)
        return switch

    def boot(self, guest: Guest, powered_off: Callable[[str], None]) -> None:
        folder = self._folder.resolve() / guest.instance_id
        disk = self._disk(guest) if self.sandboxed else None
        environment = self._furnish(folder, guest, disk)
        if network.has(guest.address) and self._switch is not None:
            ports = ",".join(str(urlsplit(url).port) for url in (guest.aws_url, guest.metadata_url))
            wrapper: Sequence[str] = self._connected(self._switch, folder, guest.address, ports, disk)
        elif guest.hosts:
            own = folder / "etc/hosts"
            own.write_text(f"{Path('/etc/hosts').read_text()}\n{guest.hosts}")
            wrapper = self._wrapper(folder, disk, ("--ro-bind", str(own), os.path.realpath("/etc/hosts")))
        else:
            wrapper = self._wrapper(folder, disk)
        command = [*wrapper, *PYTHON, str(HERE / "init.py"), str(folder)]
        self._addresses[guest.instance_id] = guest.address
        self._machines[guest.instance_id] = Life(folder, command, environment, lambda: powered_off(guest.instance_id))

    def end(self, instance_id: str) -> None:
        if machine := self._machines.get(instance_id):
            machine.end()
        if port := self._ports.pop(self._addresses.pop(instance_id, ""), None):
            port.close()

    def console(self, instance_id: str) -> str:
        machine = self._machines.get(instance_id)
        return machine.console if machine else ""

    def capture(self, instance_id: str, image_id: str) -> None:
        baked = self._folder / instance_id / BAKED
        if baked.is_dir():
            shutil.copytree(baked, self._images / image_id)

    def forget(self, image_id: str) -> None:
        shutil.rmtree(self._images / image_id, ignore_errors=True)

    def close(self) -> None:
        for machine in list(self._machines.values()):
            machine.end()
        shutil.rmtree(self._images, ignore_errors=True)
        for port in self._ports.values():
            port.close()
        self._closing.close()

    def _furnish(self, folder: Path, guest: Guest, disk: int | None) -> dict[str, str]:
        """Fill the machine's folder; return its environment, which inherits only DOCKER_HOST. Raises NotSafe."""
        pipe, commands = folder / "run/systemd.pipe", folder / "bin"
        for name in ("root", "run", "tmp", "etc/systemd/system"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("home", "var"):
            target = folder / "disk" / name if disk else folder / name
            target.mkdir(parents=True, exist_ok=True)
            if disk:
                (folder / name).symlink_to(target)
        if (image := self._images / guest.image_id).is_dir():
            shutil.copytree(image, folder / BAKED)
        os.mkfifo(pipe)
        (folder / "user-data").write_text(guest.user_data)
        real = ["docker"] if self._docker else []
        doubles.install(commands, pipe, self._gpus(guest.instance_type), real)
        path = os.pathsep.join([str(commands), *_system_path()])
        if reaching := doubles.reaching_out(commands, path, real):
            raise NotSafe(
                f"cannot boot a light machine: {', '.join(reaching)} would run this computer's own programs, not the "
                f"doubles in {commands}; check that files in that folder can be executed"
            )
        return {
            "PATH": path,
            "HOME": str(folder / "root"),
            "TMPDIR": str(folder / "tmp"),
            "PROVISION_ROOT": str(folder),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": guest.metadata_url,
            "AWS_ENDPOINT_URL": guest.aws_url,
            "AWS_REGION": guest.region,
            **({"PROVISION_REAL_DOCKER": self._docker} if self._docker else {}),
            **({"DOCKER_HOST": os.environ["DOCKER_HOST"]} if self._docker and "DOCKER_HOST" in os.environ else {}),
            **({"PROVISION_GPU_FAULT": guest.gpu_fault} if guest.gpu_fault else {}),
            **self._environment(guest),
        }

    def _connected(self, switch: int, folder: Path, address: str, ports: str, disk: int | None) -> list[str]:
        """Return the words that run a command in its own network and in the sandbox, with the machine's own names."""
        network.furnish(folder / "etc", address)
        # The computer's own file may be a link to a file in /run, which is empty in the sandbox.
        files = {f"{folder}/etc/{name}": os.path.realpath(f"/etc/{name}") for name in ("hosts", "resolv.conf")}
        names = [word for own, path in files.items() for word in ("--ro-bind", own, path)]
        program = [*PYTHON, str(HERE / "network.py"), f"/proc/{os.getpid()}/fd/{switch}"]
        return [*program, address, ports, network.name_server(), *self._wrapper(folder, disk, names)]

    def _wrapper(self, folder: Path, disk: int | None, names: Sequence[str] = ()) -> Sequence[str]:
        """Return the sandbox's command, if any: it makes the computer's files read-only and hides service sockets.

        `names` are options for the files with the machine's own names.
        """
        if not self.sandboxed:
            return ()
        socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        pids, engine = ["--unshare-pid"], []
        if self._docker and Path(socket).exists():
            engine = ["--bind", socket, socket, "--cap-add", "CAP_CHOWN"]
            if os.geteuid() == 0:
                # As on a real machine, the agent must see the containers' processes and send signals to them.
                pids, engine = [], [*engine, "--cap-add", "CAP_KILL"]
        own = ["--size", str(disk), "--tmpfs", str(folder / "disk")] if disk else []
        return (
            *("bwrap", *pids, "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev"),
            *("--proc", "/proc", "--tmpfs", "/run", *engine, *self._binds(folder)),
            *("--bind", str(folder), str(folder), *own, *names, "--"),
        )


def _claim() -> tuple[int, socket.socket]:
    """Return a port at which no program listens; other rehearsals do not get it until the socket is closed."""
    first = random.randrange(len(PORTS))
    for port in itertools.chain(PORTS[first:], PORTS[:first]):
        claim = socket.socket(socket.AF_UNIX)
        try:
            # The kernel removes this name, which is not in the file system, when this process ends.
            claim.bind(f"\0provision-rehearsal-port-{port}")
            with socket.create_server(("", port)):
                return port, claim
        except OSError:
            claim.close()
    raise NotSafe(f"cannot launch a light machine: no port of {PORTS[0]} to {PORTS[-1]} is free")


def _which(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        raise NotSafe(f"{command} is not installed on this computer: install it, or rehearse without --docker")
    return found


def _system_path() -> list[str]:
    """Return the folders of this computer's commands, and the folder of git if it is another one."""
    usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    git = shutil.which("git")
    return usual if git is None or os.path.dirname(git) in usual else [*usual, os.path.dirname(git)]


def _bubblewrap_works() -> bool:
    """Return whether bubblewrap works: it may be installed and lack the right to make a namespace."""
    if shutil.which("bwrap") is None:
        return False
    probe = [
        "bwrap",
        "--unshare-pid",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/run",
        "true",
    ]
    return subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
