"""A Docker engine and a registry for tests, with images made from this computer's files.

Run as a program, this module runs a command while engine and registry are up. It adds DOCKER_HOST and PYTHON_IMAGE to
the command's environment.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.rehearsal.machines.life import Life
from tests.ports import free_ports

REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
#: Lines to append to REGISTRY, so that the registry requires a login.
LOCK = """
auth: {{htpasswd: {{realm: images, path: {file}}}}}
"""
#: A user and a password, and the line of htpasswd for them (bcrypt).
LOGIN, HTPASSWD = "puller:open+sesame/it=s", "puller:$2y$05$abcdefghijklmnopqrstuu86brpczKvcfgboWCh1aNt7w9bKt9yZi"
PROGRAMS = ("dockerd", "docker", "docker-registry", "busybox")
#: An engine looks for this program in PATH before it accepts `--gpus`. The real one mounts the driver into the
#: container.
NVIDIA_HOOK = "nvidia-container-runtime-hook"
#: Packages that a Python job imports in these tests, in one folder.
PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")
#: Programs that apt and dpkg run. dpkg fails at the start if one is missing.
DEBIAN = ("apt-get", "dpkg", "dpkg-deb", "dpkg-split", "tar", "ldconfig")
#: Parts of Python's standard library that no job in these tests imports.
SUPERFLUOUS = (
    *("__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"),
    *("test", "tests", "tkinter", "turtledemo", "_tkinter.*"),
)
DEADLINE = 120.0
#: The script that runs all servers. A `Life` ends the servers with the tests, even if the tests are killed.
SERVERS = """
[ -z "$1" ] || { mkdir data && mount -t tmpfs -o "size=$1" tmpfs data; } || exit
shift
docker-registry serve registry.yml &
docker-registry serve private.yml &
exec dockerd --data-root="$PWD/data" --pidfile="$PWD/pid" --iptables=false --bridge=none "$@"
"""


@dataclass(frozen=True)
class DockerEngine:
    #: The value for DOCKER_HOST.
    host: str
    #: The registry's host and port, as an image name has them.
    registry: str
    folder: Path
    #: A second registry with the same images, which requires LOGIN.
    private_registry: str

    def docker(self, *words: str, data: bytes | None = None) -> str:
        done = subprocess.run(["docker", f"--host={self.host}", *words], input=data, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def publish(self, name: str, tree: Path, *changes: str) -> str:
        """Push an image of the files in `tree` to the registry, remove it from the engine, and return its name."""
        image = f"{self.registry}/{name}:1"
        packed = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
        self.docker("import", *(f"--change={change}" for change in changes), "-", image, data=packed)
        self.docker("push", image)
        self.docker("rmi", image)
        return image


@contextlib.contextmanager
def engine(disk: int | None = None) -> Iterator[DockerEngine]:
    """Run a Docker engine and two registries.

    Needs root and Debian's docker.io, docker-registry and busybox; raises RuntimeError if one is missing. `disk` limits
    the bytes that the engine's images and containers may take.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid():
        raise RuntimeError(f"a Docker engine of one's own needs root and {', '.join(missing or PROGRAMS)}")
    # Docker's sockets lie in this folder, and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="engine."))
    ports = free_ports(2)
    registries = [f"127.0.0.1:{port}" for port in ports]
    made = DockerEngine(f"unix://{folder}/docker.sock", registries[0], folder, registries[1])
    (folder / "htpasswd").write_text(f"{HTPASSWD}\n")
    for name, port, more in (("registry", ports[0], ""), ("private", ports[1], LOCK)):
        text = (REGISTRY + more).format(folder=folder / "images", port=port, file=folder / "htpasswd")
        (folder / f"{name}.yml").write_text(text)
    hook = folder / "bin" / NVIDIA_HOOK
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    words = [SERVERS, "servers", str(disk or ""), "--host", made.host, f"--exec-root={folder}/exec"]
    # Only these processes see the mounts; the mounts vanish with the last of them.
    command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", *words]
    environment = {**os.environ, "PATH": f"{hook.parent}:{os.environ['PATH']}"}
    life = Life(folder, command, environment, lambda: None)
    try:
        _until(lambda: all(map(_answers, ports)) and _works(made), life)
        yield made
    finally:
        life.end()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _works(made: DockerEngine) -> bool:
    with contextlib.suppress(RuntimeError):
        return bool(made.docker("version"))
    return False


def _until(condition: Callable[[], bool], life: Life) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"no engine after {DEADLINE:.0f} s; its log ends:\n{life.console[-2000:]}")
        time.sleep(0.05)


def shell_tree(folder: Path) -> Path:
    """Write the files of a small system: a shell, its tools, and the users root and job (1234:2345)."""
    for name in ("bin", "etc", "tmp", "home/jovyan"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    shutil.copy(shutil.which("busybox") or "", folder / "bin/busybox")
    for name in (
        "sh",
        "cat",
        "id",
        "sleep",
        "ls",
        "pwd",
        "env",
        "stat",
        "df",
        "echo",
        "kill",
        "touch",
        "mkdir",
        "rm",
        "chmod",
        "tail",
        "base64",
        "find",
        "mv",
        "setsid",
        "tee",
        "nproc",
        "tar",
    ):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\njob:x:1234:2345::/home/jovyan:/bin/sh\n")
    return folder


def python_tree(folder: Path, more: Sequence[str] = ()) -> Path:
    """Write shell_tree's files and this computer's Python as `python`, with boto3 and the packages in `more`."""
    shell_tree(folder)
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    left_out = shutil.ignore_patterns(*SUPERFLUOUS)
    shutil.copytree(library, folder / library.relative_to("/"), ignore=left_out, symlinks=True)
    taken = [path for path in library.glob("lib-dynload/*.so") if (folder / path.relative_to("/")).exists()]
    # busybox has neither of these.
    programs = [Path(shutil.which(name) or name) for name in ("bash", "nohup")]
    _install(folder, [python, *programs, *taken])
    for program in programs:
        shutil.copy(program, folder / "bin" / program.name)
    # Ask Python for its folder of packages: Debian's Python uses another path.
    where = [str(python), "-I", "-c", "import site; print(site.getsitepackages()[0])"]
    packages = folder / subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip().lstrip("/")
    packages.mkdir(parents=True, exist_ok=True)
    for name in (*PACKAGES, *more):
        source = Path(sysconfig.get_path("purelib")) / name
        if source.is_dir():
            shutil.copytree(source, packages / name, ignore=_superfluous)
        else:
            shutil.copy(source, packages / name)
    for name in ("python", "python3"):
        (folder / "bin" / name).symlink_to(python)
    # Compile now: an emulated machine takes 15 s to compile the modules it needs.
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", str(folder), str(folder)]
    subprocess.run([python, *compiling], check=True)
    return folder


def debian_tree(folder: Path, source: str) -> Path:
    """Write python_tree's files with pip, apt and dpkg; no package is installed.

    `source` is a line of sources.list.
    """
    python_tree(folder, ["pip"])
    methods = [Path("/usr/lib/apt/methods", name) for name in ("http", "store")]
    _install(folder, [*(Path(shutil.which(name) or name) for name in DEBIAN), *methods])
    for name in ("diff", "start-stop-daemon"):
        (folder / "bin" / name).symlink_to("busybox")
    for name in ("dpkg/info", "dpkg/updates", "apt/lists/partial"):
        (folder / "var/lib" / name).mkdir(parents=True)
    for name in ("var/cache/apt/archives/partial", "var/log/apt", "etc/apt/apt.conf.d", "etc/apt/preferences.d"):
        (folder / name).mkdir(parents=True)
    (folder / "var/lib/dpkg/status").touch()
    shutil.copytree("/usr/share/dpkg", folder / "usr/share/dpkg")
    # The system has no user _apt, so apt must fetch as root.
    (folder / "etc/apt/apt.conf").write_text('APT::Sandbox::User "root";\n')
    (folder / "etc/apt/sources.list").write_text(f"{source}\n")
    return folder


def _install(folder: Path, programs: Sequence[Path]) -> None:
    """Copy the programs and the libraries they need, each to its own path."""
    for needed in {*programs, *(library for each in programs for library in _needed(each))}:
        target = folder / needed.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(needed, target)


def _superfluous(folder: str, names: list[str]) -> list[str]:
    """Return the names to leave out: caches, and botocore's data for every service but S3."""
    data = folder.endswith("botocore/data")
    return [name for name in names if name == "__pycache__" or (data and "." not in name and name != "s3")]


def _needed(program: Path) -> Iterator[Path]:
    """Yield the shared objects that the program loads, with the loader."""
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    for line in told.splitlines():
        words = [word for word in line.split() if word.startswith("/")]
        if words:
            yield Path(words[-1])


def main(command: Sequence[str]) -> int:
    with engine() as made:
        image = made.publish("python", python_tree(made.folder / "tree"), "ENV PATH=/bin")
        environment = {**os.environ, "DOCKER_HOST": made.host, "PYTHON_IMAGE": image}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
