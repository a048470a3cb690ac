"""A Docker engine and a registry of the tests' own, with images made from this computer's files.

As a program it runs a command with both up: DOCKER_HOST and PYTHON_IMAGE are in its environment.
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

REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: 127.0.0.1:{port}}}
"""
PROGRAMS = ("dockerd", "docker", "docker-registry", "busybox")
#: Engines ask PATH for it before they accept `--gpus`; the real one mounts the driver into the container.
NVIDIA_HOOK = "nvidia-container-runtime-hook"
#: What a Python job imports here, as folders beside each other.
PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py")
#: What no job here imports of Python's own library.
SUPERFLUOUS = (
    *("__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"),
    *("test", "tkinter", "turtledemo"),
)
DEADLINE = 60.0


@dataclass(frozen=True)
class DockerEngine:
    #: For DOCKER_HOST.
    host: str
    #: The registry's, as images name it.
    registry: str
    folder: Path

    def docker(self, *words: str, data: bytes | None = None) -> str:
        done = subprocess.run(["docker", f"--host={self.host}", *words], input=data, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def publish(self, name: str, tree: Path, *changes: str) -> str:
        """The image of the files in `tree`, in the registry alone; its name."""
        image = f"{self.registry}/{name}:1"
        packed = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
        self.docker("import", *(f"--change={change}" for change in changes), "-", image, data=packed)
        self.docker("push", image)
        self.docker("rmi", image)
        return image


@contextlib.contextmanager
def engine() -> Iterator[DockerEngine]:
    """Needs root and Debian's docker.io, docker-registry and busybox; fails where they are missing."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid():
        raise RuntimeError(f"a Docker engine of one's own needs root and {', '.join(missing or PROGRAMS)}")
    # Docker's sockets lie below it, whose names must be short.
    folder = Path(tempfile.mkdtemp(prefix="engine."))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = DockerEngine(f"unix://{folder}/docker.sock", f"127.0.0.1:{port}", folder)
    (folder / "registry.yml").write_text(REGISTRY.format(folder=folder / "images", port=port))
    hook = folder / "bin" / NVIDIA_HOOK
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    commands: Sequence[Sequence[str]] = (
        (
            "dockerd",
            f"--data-root={folder}/data",
            f"--exec-root={folder}/exec",
            f"--pidfile={folder}/pid",
            f"--host={made.host}",
            "--iptables=false",
            "--bridge=none",
        ),
        ("docker-registry", "serve", f"{folder}/registry.yml"),
    )
    environment = {**os.environ, "PATH": f"{hook.parent}:{os.environ['PATH']}"}
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        # What a daemon leaves mounted when it ends.
        stack.callback(subprocess.run, ["umount", f"{folder}/exec/netns/default"], capture_output=True)
        for command in commands:
            server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            stack.callback(server.wait)
            stack.callback(server.terminate)
        _until(lambda: _answers(port) and _works(made), folder / "log")
        yield made


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _works(made: DockerEngine) -> bool:
    with contextlib.suppress(RuntimeError):
        return bool(made.docker("version"))
    return False


def _until(condition: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"no engine after {DEADLINE:.0f} s; its log ends:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def shell_tree(folder: Path) -> Path:
    """The files of a small system: a shell, its tools, and the users root and job (1234:2345)."""
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
    ):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\njob:x:1234:2345::/home/jovyan:/bin/sh\n")
    return folder


def python_tree(folder: Path) -> Path:
    """The same with this computer's own Python as `python`, and boto3."""
    shell_tree(folder)
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    left_out = shutil.ignore_patterns(*SUPERFLUOUS)
    shutil.copytree(library, folder / library.relative_to("/"), ignore=left_out, symlinks=True)
    objects = [python, *library.glob("lib-dynload/*.so")]
    for needed in {path for each in objects for path in _needed(each)} | {python}:
        target = folder / needed.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(needed, target)
    packages = folder / library.relative_to("/") / "site-packages"
    for name in PACKAGES:
        source = Path(sysconfig.get_path("purelib")) / name
        if source.is_dir():
            shutil.copytree(source, packages / name, ignore=_superfluous)
        else:
            packages.mkdir(exist_ok=True)
            shutil.copy(source, packages / name)
    (folder / "bin/python").symlink_to(python)
    return folder


def _superfluous(folder: str, names: list[str]) -> list[str]:
    """botocore describes all of AWS in its data; what runs here needs S3."""
    data = folder.endswith("botocore/data")
    return [name for name in names if name == "__pycache__" or (data and "." not in name and name != "s3")]


def _needed(program: Path) -> Iterator[Path]:
    """The shared objects that it loads, the loader too."""
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
