"""Logs: every byte once and in order, for any size, any content and any trouble of the bucket."""

import contextlib
import hashlib
import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.core.protocol.words import Outcome
from provisioner.core.run.records import Run
from provisioner.ports.control.logs import LogGap, LogPiece, LogQuery
from provisioner.rehearsal.aws.calls import CONTROL
from provisioner.rehearsal.aws.faults import Effect, Rule, When
from tests.e2e.commands import PROVISION, settings_file
from tests.e2e.elsewhere import served
from tests.e2e.rig import Rig, rig

BIG = 200_000_000
#: A command whose output does not repeat.
COUNT = f"seq 1000000000 | head -c {BIG}"
#: Memory limit of the agent and a reader, in KiB: far below the log's size, and a few chunks above usual use.
MEMORY = 160_000


def peak(process: int) -> int:
    """Return the peak memory of the process in KiB, or 0 if it has ended."""
    found = re.search(r"VmHWM:\s*([0-9]+)", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) if found else 0


class Peak(threading.Thread):
    """Records the peak memory of the agents on machines under a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = str(folder).encode()
        self._over = threading.Event()
        #: The peak, in KiB.
        self.most = 0

    def run(self) -> None:
        while not self._over.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if self._folder in (line := (process / "cmdline").read_bytes()) and b"/agent" in line:
                        self.most = max(self.most, peak(int(process.name)))
                except OSError:
                    pass  # The process has just ended.

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.most


class Logs:
    """Runs that write logs at the same time, and the pieces that a follower of one of them got."""

    def __init__(self, whole: Rig, folder: Path) -> None:
        self.whole = whole
        self.binary = random.Random(7).randbytes(3_000_000)
        (folder / "binary").write_bytes(self.binary)
        self.peak = Peak(whole.folder / "machines")
        self.peak.start()
        # The job continues after line 20 when its reader has seen that line.
        go = folder / "go"
        os.mkfifo(go)
        held = os.open(go, os.O_RDWR)
        steady = f"for i in $(seq 40); do echo line $i; [ $i = 20 ] && read x <{go}; sleep 0.1; done; printf 'no end'"
        # The agents die when the bucket has the first bytes, and never ship the last ones.
        fatal = folder / "fatal"
        os.mkfifo(fatal)
        agent = '-f "${HOME%/home/*}/var/lib/provision/[a]gent"'
        suicide = f'test "$PROVISION_ATTEMPT" = 2 && exec echo alive; printf 1234; read x <{fatal}; '
        suicide += f"pkill -STOP {agent}; printf 5678; while sleep 0.05; do pkill -KILL {agent}; done"
        self.started = {
            "big": whole.start(COUNT, name="big"),
            "binary": whole.start(f"cat {folder}/binary; printf '\\303'; sleep 1.5; printf '\\251'", name="binary"),
            "steady": whole.start(steady, name="steady", start_script="echo up; echo up2"),
            "again": whole.start("echo attempt $PROVISION_ATTEMPT; exit 3", name="again", retries=1),
            "killed": whole.start(suicide, name="killed"),
        }
        # Faults of the control plane's S3 reads and of the machines' S3 writes.
        for effect, action, principal, skip in (
            (Effect.ERROR, "GetObject", CONTROL, 3),
            (Effect.RESET, "ListObjectsV2", CONTROL, 6),
            (Effect.ERROR, "PutObject", "machine", 10),
            (Effect.RESET, "PutObject", "machine", 20),
        ):
            rule = Rule(effect, When.AFTER, "s3", action, principal=principal, code="SlowDown", status=503, skip=skip)
            whole.double.faults.add(Rule(**{**vars(rule), "times": 10}))
        self.followed: list[LogPiece] = []
        for piece in whole.service.logs.follow(self.started["steady"].id, LogQuery(("setup", "output"))):
            assert isinstance(piece, LogPiece)
            self.followed.append(piece)
            if b"line 20\n" in piece.data:
                os.write(held, b"go\n")
        os.close(held)
        whole.double.faults.clear()
        whole.until(lambda: whole.log(self.started["killed"]) == b"1234")
        fatal.write_text("go\n")
        self.runs = dict(zip(self.started, whole.done(*self.started.values()), strict=True))
        self.memory = self.peak.stop()

    def outcome(self, name: str) -> tuple[Outcome, int | None]:
        verdict = self.runs[name].verdict
        assert verdict is not None
        return verdict.outcome, verdict.exit_code

    def read(self, run: Run, attempt: int | None = None, tail: int | None = None) -> list[LogPiece | LogGap]:
        return list(self.whole.service.logs.read(run.id, LogQuery(("output",), attempt, tail)))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    folder = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as patch, rig(folder / "rig", patch) as whole:
        patch.setenv("PROVISION_SETTINGS", str(settings_file(whole)))
        yield Logs(whole, folder)


@pytest.fixture(params=["here", "elsewhere"])
def way(request: pytest.FixtureRequest, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run `provision logs` locally, or as a client of a server."""
    with served(logs.whole, monkeypatch) if request.param == "elsewhere" else contextlib.nullcontext():
        yield


@pytest.mark.usefixtures("way")
def test_log_of_200_mb_is_read_with_bounded_memory(logs: Logs) -> None:
    """The archive equals the output, `provision logs` prints all of it, and no process has the whole log in memory."""
    assert logs.outcome("big") == (Outcome.SUCCEEDED, 0)
    wanted = subprocess.run(f"{COUNT} | sha256sum", shell=True, capture_output=True, text=True, check=True).stdout
    found, most = hashlib.sha256(), 0
    with subprocess.Popen([*PROVISION, "logs", logs.runs["big"].id], stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        while data := reading.stdout.read(1 << 20):
            found.update(data)
            most = max(most, peak(reading.pid))
    assert (found.hexdigest(), reading.returncode) == (wanted.split()[0], 0)
    assert 0 < most < MEMORY
    assert 0 < logs.memory < MEMORY


def test_tail_of_a_long_log_reads_only_its_last_chunk(logs: Logs) -> None:
    """--tail of a long log reads only its last chunk."""
    before = len(logs.whole.double.calls.of("s3", "GetObject", CONTROL))
    last = b"".join(piece.data for piece in logs.read(logs.runs["big"], tail=3) if isinstance(piece, LogPiece))
    assert len(logs.whole.double.calls.of("s3", "GetObject", CONTROL)) - before <= 4
    numbers = [int(line) for line in last.split()]
    assert last.count(b"\n") == 2
    assert numbers[1] == numbers[0] + 1


def test_finished_attempts_are_not_listed_again(logs: Logs) -> None:
    """Following the hundredth attempt costs no more than the first, and its cursor is as short."""
    run, service = logs.runs["again"].id, logs.whole.service

    def lists() -> int:
        return sum(run in str(call.parameters) for call in logs.whole.double.calls.of("s3", "ListObjectsV2", CONTROL))

    found = service.logs.page(run, LogQuery(("output",)))
    assert found.over
    before = lists()
    assert before
    assert service.logs.page(run, LogQuery(("output",)), found.cursor).pieces == ()
    assert lists() == before
    assert found.cursor == "-2.output.end"


def test_binary_output(logs: Logs) -> None:
    """Covers random bytes, and half a character whose other half comes later."""
    assert logs.outcome("binary") == (Outcome.SUCCEEDED, 0)
    assert logs.whole.log(logs.runs["binary"]) == logs.binary + "é".encode()


def test_a_follower_misses_nothing(logs: Logs) -> None:
    """While the bucket fails for reader and writer, each byte arrives once, in order, and while the job runs."""
    wanted = b"".join(b"line %d\n" % number for number in range(1, 41)) + b"no end"
    for stream, whole in (("setup", b"up\nup2\n"), ("output", wanted)):
        pieces = [piece for piece in logs.followed if piece.stream == stream]
        assert b"".join(piece.data for piece in pieces) == whole
        assert [piece.offset for piece in pieces] == [
            sum(len(before.data) for before in pieces[:index]) for index in range(len(pieces))
        ]


@pytest.mark.parametrize("lines", range(12))
def test_tail_across_chunks(logs: Logs, lines: int) -> None:
    """The last lines may be in several chunks; a last line without a line end counts."""
    pieces = logs.read(logs.runs["steady"], tail=lines)
    data = b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece))
    every = logs.whole.log(logs.runs["steady"]).splitlines(keepends=True)
    assert data == b"".join(every[len(every) - lines :])


def test_attempts_are_told_apart(logs: Logs) -> None:
    """All attempts are read in sequence, or one alone; --tail is for the last attempt."""
    run = logs.runs["again"]
    assert logs.outcome("again") == (Outcome.FAILED, 3)
    assert logs.whole.log(run) == b"attempt 1\nattempt 2\n"
    assert logs.whole.log(run, attempt=1) == b"attempt 1\n"
    assert [piece.data for piece in logs.read(run, tail=5) if isinstance(piece, LogPiece)] == [b"attempt 2\n"]


@pytest.mark.usefixtures("way")
def test_lost_bytes_are_reported(logs: Logs) -> None:
    """Lost bytes are reported as a gap with its offset, and in a line on standard error."""
    run = logs.runs["killed"]
    assert logs.outcome("killed") == (Outcome.SUCCEEDED, 0)
    *pieces, gap = logs.read(run, attempt=1)
    assert [piece.data for piece in pieces if isinstance(piece, LogPiece)] == [b"1234"]
    assert isinstance(gap, LogGap)
    assert gap.offset == 4
    assert not [each for each in logs.read(run, attempt=2) if isinstance(each, LogGap)]
    done = subprocess.run([*PROVISION, "logs", run.id], capture_output=True, check=True)
    assert done.stdout == b"1234alive\n"
    assert b"the log is incomplete: attempt 1, output, from byte 4" in done.stderr
