"""Run the job as one container with Docker's command line; its image is pulled over Docker's API."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provisioner.agent.fetch.pull import engine_version, is_here, named_by_digest, pull
from provisioner.agent.job import processes
from provisioner.agent.job.engine import MASTER_PORT, Termination
from provisioner.agent.job.processes import Process, Reached, Tree
from provisioner.agent.machine.files import inside
from provisioner.agent.machine.tools import (
    CHANGE,
    OVERDUE,
    Output,
    Program,
    Tools,
    ask,
    kill,
    lines_of,
    output,
    spawn,
)
from provisioner.agent.outcomes import Ended, outcome_of
from provisioner.core.protocol.keys import container_name
from provisioner.core.protocol.messages import WorkOrder
from provisioner.core.protocol.words import Step

#: The path of the job folder in the container.
EXCHANGE = "/run/provision"
#: Maximum bytes that are read of the tar with an image's /etc/passwd or /etc/group.
TABLE = 1 << 20


class ContainerEngine:
    """Runs the start script and the command in one container, which shares only the network with the machine."""

    def __init__(
        self,
        order: WorkOrder,
        machine: str,
        files: Path,
        job_dir: Path,
        say: Callable[[str], None],
    ) -> None:
        """`files` contains the job's folders, so that the job never gets the machine's folders with the same paths."""
        self.name = container_name(order.run, order.attempt, order.rank)
        self._order = order
        self._machine = machine
        self._files = str(files)
        self._job_dir = job_dir
        self._say = say
        self._process: Program | None = None
        self._words: list[str] = []
        self._made = False
        self._adopted = False
        self._init: Process | None = None
        self._api = ""

    def wait(self, tools: Tools) -> None:
        # The version is not kept here: the next steps may restart Docker.
        engine_version(tools)

    def has_image(self, tools: Tools) -> bool:
        image = self._order.image
        return named_by_digest(image) and is_here(image, tools, self._version(tools))

    def pull(self, tools: Tools, login: bytes | None) -> None:
        pull(self._order.image, login, tools, self._version(tools))

    def _version(self, tools: Tools) -> str:
        """Return the version of Docker's API; Docker is queried only once."""
        self._api = self._api or engine_version(tools)
        return self._api

    def folder(self, path: str) -> str:
        return inside(self._files, path)

    def seen(self, path: str) -> str:
        return path

    def folders(self) -> list[str]:
        answer = ask(["docker", "info", "--format", "{{.DockerRootDir}}"])
        return [self._files, *([] if answer.code else [answer.text])]

    def host(self, name: str, address: str) -> str:  # noqa: ARG002 - `create` makes the name resolve
        return name

    def port(self, leader: str) -> int:  # noqa: ARG002 - each machine has its own ports
        return MASTER_PORT

    def create(self, hosts: Mapping[str, str]) -> None:
        """Create the container, replacing that of an earlier try, and give the job's folders to the image's user."""
        ask(["docker", "rm", "--force", "--", self.name], CHANGE)
        self._made = True
        created = ask(self._create_command(hosts), CHANGE)
        if created.code:
            raise Ended(
                outcome_of(created.text),
                Step.SETUP,
                f"the container cannot be created: {created.text}",
            )
        user = ask(["docker", "inspect", "--format", "{{.Config.User}}", "--", self.name]).text
        owner = self._owner(user)
        for path in self._mounts():
            self._give(self.folder(path), *owner)

    def _create_command(self, hosts: Mapping[str, str]) -> list[str]:
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        shm_size = half if self._order.shm_size is None else self._order.shm_size
        mounts = [(self.folder(path), path) for path in self._mounts()]
        mounts.append((str(self._job_dir), EXCHANGE))
        return [
            "docker",
            "create",
            f"--name={self.name}",
            f"--label=provision.machine={self._machine}",
            "--entrypoint=sh",
            "--init",
            # docker-init is tini: without this variable it forwards a signal to its child only.
            "--env=TINI_KILL_PROCESS_GROUP=1",
            "--network=host",
            *(f"--add-host={name}:{address}" for name, address in hosts.items()),
            # Libraries for communication between machines lock memory (NCCL, "Troubleshooting": "Memory limits").
            *(["--ulimit=memlock=-1", "--ulimit=stack=67108864"] if hosts else []),
            *(["--gpus=all"] if self._order.gpus else []),
            f"--shm-size={shm_size}",
            "--log-driver=none",
            *(f"--mount={_csv('type=bind', f'source={source}', f'target={target}')}" for source, target in mounts),
            f"--workdir={self._order.working_directory}",
            "--",
            self._order.image,
            f"{EXCHANGE}/entry",
        ]

    def _mounts(self) -> list[str]:
        """Return the working directory, and the path of each repository outside of it."""
        directory = self._order.working_directory
        beneath = directory.rstrip("/") + "/"
        elsewhere = [r.path for r in self._order.repositories if r.path != directory and not r.path.startswith(beneath)]
        return [directory, *elsewhere]

    def _owner(self, user: str) -> tuple[int, int]:
        """Return the image's user id and group id; names are looked up in the image's /etc/passwd and /etc/group."""
        name, _, group = user.partition(":")
        users, groups = self._table("/etc/passwd"), self._table("/etc/group")
        row = next((row for row in users if row[0] == name or row[2:3] == [name]), None)
        uid = int(row[2]) if row else int(name) if name.isdigit() else 0
        gid = int(row[3]) if row else 0
        if group:
            named = next((row for row in groups if row[0] == group), None)
            gid = int(named[2]) if named else int(group) if group.isdigit() else gid
        return uid, gid

    def _table(self, path: str) -> list[list[str]]:
        command = ["docker", "cp", f"{self.name}:{path}", "-"]
        _, data = output(command, CHANGE, wanted=Output.NO_ERRORS, most=TABLE)
        rows = (line.split(":") for line in first_file(data).splitlines())
        return [row for row in rows if len(row) > 3 or path.endswith("group")]

    def _give(self, folder: str, uid: int, gid: int) -> None:
        try:
            os.chown(folder, uid, gid)
            for parent, folders, files in os.walk(folder):
                for name in folders + files:
                    os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)
        except PermissionError as error:
            self._say(f"{folder} keeps its owner, so the job may be unable to write to it: {error}")

    def start(self) -> None:
        command = ["docker", "start", "--attach", self.name]
        self._process = spawn(command, Output.ALL)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: Program) -> None:
        for line in lines_of(process):
            self._words = [*self._words[-2:], line]
            self._say(f"docker: {line}")

    def exit_code(self) -> int | None:
        assert self._process is not None
        code = self._process.poll()
        if code is None or not self._adopted:
            return code
        state = self._state()
        if state.get("Running"):
            # The container still runs: `docker wait` ended because Docker was not available for a while.
            self._wait()
            return None
        return int(str(state.get("ExitCode", 137)))

    def left(self) -> list[str]:
        return processes.names(self.tree())

    def termination(self, daemons: Sequence[str], reached: Reached, say: Callable[[str], None]) -> Termination:
        if self.tree() is None and self._process is not None and self._state().get("Running"):
            return _Broadcast(self.name, reached)
        return processes.Termination(self.tree, daemons, reached, say)

    def tree(self) -> Tree | None:
        # The tree of the container's processes below its init.
        if self._init is None and self._process is not None:
            words = ask(["docker", "inspect", "--format", "{{.State.Pid}} {{.Id}}", "--", self.name]).text.split()
            if len(words) == 2 and words[0].isdigit() and processes.is_in_container(int(words[0]), words[1]):
                self._init = processes.find(int(words[0]))
        return Tree(self._init, first_child_is_ours=True) if self._init else None

    def kill(self) -> None:
        if self._made and ask(["docker", "rm", "--force", "--", self.name], CHANGE).code == OVERDUE and self._init:
            # Docker hangs. The kernel ends all processes of a container with its init.
            processes.send(self._init, signal.SIGKILL)
        if self._process is not None:
            kill(self._process)

    def last_words(self) -> str:
        return "; ".join([*self._words, str(self._state().get("Error", ""))]).strip("; ")

    def out_of_memory(self) -> bool:
        return bool(self._state().get("OOMKilled"))

    def adopt(self) -> bool:
        self._made = self._adopted = True
        state = self._state()
        if state and not state.get("Running"):
            self._words = ["the container ended while no agent was running: the end of its log may be missing"]
        self._wait()
        return bool(state)

    def _wait(self) -> None:
        self._process = spawn(["docker", "wait", self.name])

    def _state(self) -> dict[str, object]:
        answer = ask(["docker", "inspect", "--format", "{{json .State}}", "--", self.name])
        return {} if answer.code else dict(json.loads(answer.text))


def first_file(data: bytes) -> str:
    """Return the text of a tar's first member; "" if that is not a complete regular file, or the tar is damaged.

    The tar comes from an image and is not trusted: nothing of it is written to disk.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as archive:
            member = archive.next()
            file = archive.extractfile(member) if member and member.isreg() else None
            return file.read().decode(errors="replace") if file else ""
    except (tarfile.TarError, ValueError):
        return ""


class _Broadcast:
    """Sends SIGTERM to all processes of a container at once, with Docker's commands.

    Only rehearsals need this class: there the processes may belong to another kernel or user. On a real machine the
    agent is root and runs on the same kernel as Docker.
    """

    def __init__(self, name: str, reached: Reached) -> None:
        self._name = name
        self._sent = bool(reached.sent)
        self._left = True
        self._due = 0.0

    @property
    def reached(self) -> Reached:
        return Reached(sent=(self._name,) if self._sent else ())

    def turn(self, until: float, *, reported: bool) -> bool:  # noqa: ARG002 - all processes get SIGTERM at once
        if not self._sent:
            self._sent = ask(["docker", "kill", "--signal=TERM", self._name]).code == 0
        elif time.monotonic() >= self._due:
            listed = ask(["docker", "top", self._name, "-eo", "pid"])
            # Three lines are not counted: the heading, the init, and the job's first shell, which waits for the agent.
            self._left = listed.code == 0 and len(listed.text.splitlines()) > 3
            self._due = time.monotonic() + 1.0
        return self._left


def _csv(*fields: str) -> str:
    """Return the fields as a line of CSV for Docker's --mount option; a path may contain commas and quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
