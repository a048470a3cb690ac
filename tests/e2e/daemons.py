"""Control planes in separate processes that tests kill, forked from a process with all modules imported."""

import os
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

from provisioner.settings import Settings

#: Reads settings as JSON lines, forks a control plane for each, and prints its process id.
ZYGOTE = """
import os, signal, sys
import boto3, botocore.loaders, botocore.session
from provisioner import wiring
from provisioner.settings import Settings

# Reading botocore's descriptions takes most of a client's making: once is enough for all.
loader = botocore.loaders.Loader()
botocore.loaders.create_loader = lambda *_: loader
botocore.session.create_loader = botocore.loaders.create_loader
for service in ("ec2", "iam", "s3", "ssm"):
    boto3.session.Session(region_name="us-east-1").client(service, aws_access_key_id="a", aws_secret_access_key="b")
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        service = wiring.service(Settings.model_validate_json(line), "daemon")
        parent = os.getppid()
        service.operator.drive(lambda: os.getppid() != parent)
        os._exit(0)
    print(pid, flush=True)
"""


class Daemons:
    """A context manager that kills the processes it started."""

    def __enter__(self) -> Self:
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._started: set[int] = set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in list(self._started):
            self.kill(pid)
        self._zygote.communicate()

    def start(self, settings: Settings) -> int:
        """Start a control plane that acts until it is killed; return its process id."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(settings.model_dump_json(exclude_unset=True) + "\n")
        self._zygote.stdin.flush()
        pid = int(self._zygote.stdout.readline())
        self._started.add(pid)
        return pid

    def kill(self, pid: int) -> None:
        """Send SIGKILL; a process that has already ended is no error."""
        self._started.discard(pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
