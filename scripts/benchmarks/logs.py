"""Measure the path of a job's output: pipe, pump, mask, spool and shipper, to a bucket that discards it.

    python -m scripts.benchmarks.logs

This command runs the bucket: it prints the bucket's URL, and exits when standard input ends.
"""

import base64
import contextlib
import http.server
import os
import random
import shlex
import shutil
import statistics
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from provisioner.agent.job.job_dir import JobDir
from provisioner.agent.logs.mask import Mask
from provisioner.agent.logs.pipe_journal import PipeJournal
from provisioner.agent.logs.pump import Pump
from provisioner.agent.logs.shipper import Shipper
from provisioner.agent.logs.spool import Spool
from provisioner.agent.machine.paths import Settings
from provisioner.agent.mailbox import Mailbox
from provisioner.rehearsal.aws.metadata import Credentials, Metadata
from provisioner.rehearsal.machines.host import Guest
from scripts.benchmarks import job
from scripts.benchmarks.figures import Figure, of_samples

#: Limit of the spool in bytes, as in a work order.
SPOOL_LIMIT = 2 << 30


def throughput(folder: Path, quick: bool) -> Iterator[Figure]:
    """Log throughput of a job that only writes, compared with a bare pipe, and the agent's CPU seconds per GB."""
    size, times = (32, 1) if quick else (256, 5)
    for name, data in (("text", job.text(16 * job.MB)), ("random", random.Random(1).randbytes(16 * job.MB))):
        (folder / name).write_bytes(data)
    cases = [
        (f"{kind}-{secrets}-secrets", size, ["cat", *[str(folder / kind)] * (size // 16)], SECRETS[secrets])
        for kind, secrets in (("text", "no"), ("text", "3"), ("text", "10"), ("text", "10+key"), ("random", "10+key"))
    ]
    small = 2 if quick else 20
    cases.append(("100-byte-writes", small, _job(folder / "seconds", "small", small), SECRETS["10+key"]))
    with _sink():
        for name, amount, words, secrets in cases:
            bare, logged, used = [], [], []
            for _ in range(times):
                bare.append(amount / _bare(words))
                seconds, cpu = _logged(folder, words, secrets)
                logged.append(amount / seconds)
                used.append(cpu * 1000 / amount)
            yield of_samples(f"log-{name}", logged, "MB/s", statistics.median(bare), aim=">= 100")
            yield of_samples(f"log-{name}-cpu", used, "s/GB")


def slowdown(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds of a command that computes and prints, with its output logged, compared with a bare pipe."""
    seconds, times = (1, 1) if quick else (4, 5)

    def told() -> float:
        return float((folder / "seconds").read_text())

    with _sink():
        for name, work in (
            ("1-MB/s", ["steady", 1, seconds]),
            ("10-MB/s", ["steady", 10, seconds]),
            ("10-MB/s-by-line", ["lines", 10, seconds]),
            ("bursts-of-5-MB", ["bursts", 5, seconds]),
        ):
            bare, logged, used = [], [], []
            for _ in range(times):
                _bare(_job(folder / "seconds", *work))
                bare.append(told())
                took, cpu = _logged(folder, _job(folder / "seconds", *work), SECRETS["10+key"])
                logged.append(told())
                used.append(100 * cpu / took)
            yield of_samples(f"slowdown-{name}", logged, "s", statistics.median(bare), aim="ratio <= 1.1")
            yield of_samples(f"slowdown-{name}-cpu", used, "% of a core")


def _tokens() -> Iterator[bytes]:
    chance = random.Random(2)

    def some(length: int) -> str:
        return "".join(chance.choices(string.ascii_letters + string.digits, k=length))

    yield from (f"{begin}{some(length)}".encode() for begin, length in (("hf_", 34), ("ghp_", 36), ("", 40)))
    yield from (f"AKIA{some(16)}".encode(), f"sk-{some(48)}".encode(), f"postgres://u:{some(9)}@db:5432/x".encode())
    yield from (b"correct-horse", b"tr0ub4dor&3", f'{{"user": "me", "key": "{some(20)}"}}'.encode(), some(32).encode())


def _key() -> bytes:
    body = base64.b64encode(random.Random(3).randbytes(1800))
    lines = [body[at : at + 70] for at in range(0, len(body), 70)]
    return b"\n".join([b"-----BEGIN OPENSSH PRIVATE KEY-----", *lines, b"-----END OPENSSH PRIVATE KEY-----", b""])


GUEST = Guest("i-1", "g5.xlarge", "ami-1", "us-east-1", "us-east-1a", "spot", 0.0, "10.0.0.1", "", "", "")

TEN = list(_tokens())
SECRETS = {"no": [], "3": TEN[:3], "10": TEN, "10+key": [*TEN, _key()]}


def _bare(words: Sequence[str]) -> float:
    """Return the seconds of the command when its output is read and discarded."""
    began = time.monotonic()
    subprocess.run(["sh", "-c", f"{shlex.join(words)} | cat >/dev/null"], check=True)
    return time.monotonic() - began


def _logged(folder: Path, words: Sequence[str], secrets: Sequence[bytes]) -> tuple[float, float]:
    """Run the command as the agent does, until the bucket has its output; return seconds and agent CPU seconds."""
    job_dir = JobDir.make(folder / "exchange", {}, {}, shlex.join(words))
    spool, mask = Spool(folder / "spool", SPOOL_LIMIT), Mask()
    mask.add(secrets)
    pump = Pump(job_dir.output, spool.stream("output"), mask, PipeJournal(folder / "tape", 0))
    mailbox = Mailbox(Settings(bucket="bench", prefix="", region="us-east-1", role_id="role"), "i-1", print)
    shipper = Shipper(spool, mailbox.chunk, lambda: False)
    with subprocess.Popen(["sh", str(job_dir.folder / "entry")]) as shell:
        began, used = time.monotonic(), time.process_time()
        pump.start()
        shipper.start()
        job_dir.go()
        while job_dir.said("command") is None:
            time.sleep(0.01)
        pump.finish()
        shipper.finish()
        took, cpu = time.monotonic() - began, time.process_time() - used
        shell.kill()
    for name in ("spool", "tape"):
        shutil.rmtree(folder / name)
    return took, cpu


def _job(*words: object) -> list[str]:
    return [sys.executable, job.__file__, *map(str, words)]


class _Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = memoryview(bytearray(1 << 20))
        rest = int(self.headers["Content-Length"])
        while rest:
            rest -= self.rfile.readinto(body[: min(rest, len(body))])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def _sink() -> Iterator[None]:
    """Run the bucket in a process of its own, and a metadata service; set this process's environment to use both."""
    words = [sys.executable, "-m", "scripts.benchmarks.logs"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        metadata = Metadata(lambda _: Credentials("key", "secret", "token", time.time() + 86400), "role")
        metadata.start()
        metadata.add(GUEST)
        with mock.patch.dict(
            os.environ, AWS_ENDPOINT_URL=url, AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url(GUEST.instance_id)
        ):
            yield
        metadata.close()
        process.communicate()


def _serve() -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    _serve()
