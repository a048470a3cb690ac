"""Jobs that save their work on SIGTERM, in the forms users write, and a server for their reports."""

import socketserver
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from tests.e2e.rig import Rig

#: The trainer: on SIGTERM it saves for one second and exits with 7. It reports to HOST:PORT, because a job's files are
#: lost with its machine and its output may be redirected.
TRAINER = """
import os, signal, socket, subprocess, sys, time

def report(word):
    with socket.create_connection(("HOST", PORT)) as connection:
        connection.sendall(f"{os.environ['RUN_ID']} {word}\\n".encode())

def save(*_):
    report("signalled")
    for part in range(20):
        print("saving part", part, flush=True)
        time.sleep(0.05)
    if workers and os.waitpid(-1, os.WNOHANG) != (0, 0):
        report("a worker died")
    report("saved")
    print("saved", flush=True)
    os._exit(7)

if sys.argv[1:] == ["supervise"]:
    sys.exit(subprocess.Popen([sys.executable, __file__], preexec_fn=os.setpgrp).wait())
workers = []
for _ in range(2 * (sys.argv[1:] == ["workers"])):
    workers.append(os.fork())
    if not workers[-1]:
        time.sleep(600)
signal.signal(signal.SIGTERM, save)
report("up")
time.sleep(600)
"""

#: The trainer's output after SIGTERM.
PRINTED = b"".join(b"saving part %d\n" % part for part in range(20)) + b"saved\n"


@dataclass(frozen=True)
class Form:
    """One way to start the trainer, with the expected result."""

    name: str
    line: str
    exit_code: int = 7
    #: The number of trainers that the line starts.
    trainers: int = 1
    output: bytes = PRINTED


FORMS = [
    Form("plain", "python3 trainer.py"),
    Form("exec", "exec python3 trainer.py"),
    Form("redirected", "python3 trainer.py >train.log 2>&1", output=b""),
    # A pipeline's exit code is that of its last command.
    Form("tee", "python3 trainer.py | tee train.log", exit_code=0),
    Form("bash", "bash -c 'set -o pipefail; python3 trainer.py | tee train.log'"),
    Form("workers", "python3 trainer.py workers | cat; exit 7"),
    Form("trapped", "trap 'exit 7' TERM; python3 trainer.py; echo never"),
    Form("setsid", "setsid python3 trainer.py & wait $!"),
    Form("supervisor", "python3 trainer.py supervise"),
    Form("nohup", "nohup python3 trainer.py >other.log 2>&1 & python3 trainer.py", trainers=2),
]


#: Ways to end a job, with the expected outcome.
ENDERS = {"limit": Outcome.TIMED_OUT, "stop": Outcome.CANCELLED, "notice": Outcome.INTERRUPTED}

SPECS: dict[str, dict[str, Any]] = {
    "limit": {},
    "stop": {},
    "notice": {"use_spot_instance": True, "retry": {"rerun": "before_start"}},
}


class Reports:
    """A TCP server at `port` of this computer that keeps the trainers' reports by run."""

    def __init__(self) -> None:
        words = self._words = defaultdict[str, list[str]](list)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                run, _, word = self.rfile.readline().decode().strip().partition(" ")
                words[run].append(word)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.port = int(self._server.server_address[1])

    def of(self, run: str) -> list[str]:
        return list(self._words[run])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def played(
    whole: Rig, reports: Reports, forms: Sequence[Form], *, runtime: str, notice: float, host: str, **spec: Any
) -> dict[tuple[str, str], Run]:
    """Start one run for every form and ender at once, end them, and return them when all are done.

    The key of a run is (form, ender). `runtime` is the limit for the ender "limit", in recipe notation; `notice` the
    seconds between a spot notice and the machine's end; `host` this computer's name as a job sees it.
    """
    trainer = TRAINER.replace("HOST", host).replace("PORT", str(reports.port))
    runs: dict[tuple[str, str], Run] = {}
    waited_for: list[tuple[Form, Run]] = []
    for form in forms:
        command = f"cat >trainer.py <<'END'\n{trainer}\nEND\n{form.line}\n"
        for ender in ENDERS:
            limits = {"limits": {"runtime": runtime}} if ender == "limit" else {}
            run = runs[form.name, ender] = whole.start(command, **limits, **SPECS[ender], **spec)
            if ender != "limit":
                waited_for.append((form, run))

    def up_or_over(form: Form, run: Run) -> bool:
        return len(reports.of(run.id)) == form.trainers or whole.service.runs.record(run.id).done_at is not None

    whole.until(lambda: all(up_or_over(form, run) for form, run in waited_for))
    for (_, ender), run in runs.items():
        if whole.service.runs.record(run.id).done_at is not None:
            continue
        if ender == "stop":
            whole.service.runs.stop(run.id)
        elif ender == "notice":
            whole.double.interrupt(whole.service.installation.store.nodes(run.id)[0].instance_id, notice=notice)
    return dict(zip(runs, whole.done(*runs.values()), strict=True))


def check(whole: Rig, reports: Reports, run: Run, form: Form, ender: str) -> None:
    """Assert that each trainer got one signal and saved once, and that its last lines and exit code are kept."""
    assert sorted(reports.of(run.id)) == sorted(["up", "signalled", "saved"] * form.trainers)
    assert run.verdict is not None
    code = None if ender == "notice" else form.exit_code
    assert (run.verdict.outcome, run.verdict.exit_code) == (ENDERS[ender], code), run.verdict
    assert run.verdict.process_exit_code == form.exit_code
    assert whole.log(run) == form.output
    system = whole.log(run, "system")
    assert (system.count(b"SIGTERM to the job"), system.count(b"SIGKILL")) == (1, 0), system
