"""Attack a control plane through mailboxes; measure other owners' runs, the server's memory, and its answers."""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from provisioner import wiring
from provisioner.core.protocol.codec import encode
from provisioner.core.protocol.keys import log_prefix, result_key
from provisioner.core.protocol.messages import Notice, Report, Result, Span
from provisioner.core.protocol.words import Outcome, Step
from scripts.benchmarks.cloud import PROVISION, Cloud, recipe
from scripts.benchmarks.figures import figure, line, of_samples, quantile
from scripts.benchmarks.scale import resident

MB = 1_000_000
#: Share of the whole time that passes before the attack. The baselines are measured in this time.
QUIET = 0.25
#: Seconds between two prints of the figures so far, so that a measure that fails later has printed some.
SHOWN_EVERY = 600.0
#: Seconds between two starts of the quiet owner's runs, between two rounds of an observer's requests, and between two
#: attacks.
START_EVERY, LOOK_EVERY, DEED_EVERY = 2.0, 1.0, 1.0
#: Seconds between two reports of 300 MB; and between two runs that end with a result of 50 MB.
LARGE_EVERY, END_EVERY = 20.0, 15.0
#: Number of hostile machines, and number of followers of a log that has no line break.
BOXES, FOLLOWERS = 4, 8
#: Bytes of the log without a line break, and of each of its chunks, which are as large as those of an agent.
LOG, CHUNK = 200 * MB, 8 << 20
#: Number of chunks of the log of a run that ends.
CHUNKS = 5000
#: Kinds of attacks; each tick does one of them for each machine.
KINDS = ("4 MB report", "flood", "numbers", "times", "deep", "no text", "many spans", "names")
#: Limits of the verdict: the slowdown of starts, and the growth of the memory in MiB.
SLOWER, LARGER = 1.5, 50.0
#: First number of forged reports; a machine's own agent counts from 1.
FIRST_SEQUENCE = 1_000_000
#: Numbers that are not valid times; some are not valid JSON.
NUMBERS = ("NaN", "Infinity", "-1e15", "9e15", "1e400", "1" + "0" * 400, "253402300800", "-62135596801", "null")


@dataclass
class Seen:
    """The measurements, separate for the time before (False) and during (True) the attack."""

    #: Seconds from the trigger of a quiet owner's run until it runs; seconds until its log's tail arrives.
    starts: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    tails: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    memory: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    answers: Counter[str] = field(default_factory=Counter)
    #: Answers with status 5xx and requests without an answer, by endpoint.
    failed: Counter[str] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)


class Attack:
    """A server and its callers; each caller is a thread that runs until `over` is set."""

    def __init__(self, cloud: Cloud, url: str, process: int, tokens: dict[str, str], dice: random.Random) -> None:
        self._cloud, self._url, self._process, self._tokens, self._dice = cloud, url, process, tokens, dice
        self.seen = Seen()
        self.over = threading.Event()
        #: Set when the attack begins.
        self.hostile = threading.Event()
        self._sequences: Counter[str] = Counter()
        #: Runs of hostile machines by mailbox; then the mailbox and the run whose log has no line break.
        self._boxes: dict[str, str] = {}
        self._endless = self._endless_run = ""
        self._ended: list[str] = []
        #: The next kinds of attacks, shuffled, so that each kind is equally frequent.
        self._deck: list[str] = []
        #: The double answers one request at a time.
        self._asking = threading.Lock()

    def _client(self, owner: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._tokens[owner]}"}
        return httpx.Client(base_url=self._url, headers=headers, timeout=60, trust_env=False)

    def _ask(self, client: httpx.Client, method: str, path: str, name: str, **options: Any) -> Any:
        """Return the JSON of an answer with status 200, else None; count failures."""
        try:
            answer = client.request(method, path, **options)
        except httpx.HTTPError:
            self.seen.failed[name] += not self.over.is_set()
            return None
        self.seen.answers[f"{answer.status_code // 100}xx"] += 1
        if answer.status_code >= 500:
            self.seen.failed[name] += 1
        return answer.json() if answer.status_code == 200 else None

    def _start(self, client: httpx.Client, job: str) -> str:
        """Return the id of a new run; empty if it was not started."""
        answer = self._ask(client, "POST", f"/api/jobs/{job}/start", "start")
        return str(answer["run"]["id"]) if answer else ""

    # The quiet owner

    def starts(self) -> None:
        """Start a run every START_EVERY seconds, and measure when it runs."""
        with self._client("quiet") as client:
            while not self.over.wait(START_EVERY):
                hostile = self.hostile.is_set()
                if run := self._start(client, "quiet"):
                    threading.Thread(target=self._running, args=(run, hostile), daemon=True).start()

    def _running(self, run: str, hostile: bool) -> None:
        began = time.monotonic()
        with self._client("quiet") as client:
            while not self.over.wait(0.1):
                found = self._ask(client, "GET", "/api/runs", "runs", params={"id": run, "limit": 1})
                if found and found["runs"][0]["state"] in ("running", "stopping", "done"):
                    self.seen.starts[hostile].append(time.monotonic() - began)
                    return
        # For a run that never ran, record the time that this thread waited.
        if time.monotonic() - began > 10:
            self.seen.starts[hostile].append(time.monotonic() - began)

    def tails(self, run: str) -> None:
        """Read the tail of a quiet owner's log every LOOK_EVERY seconds."""
        with self._client("quiet") as client:
            while not self.over.wait(LOOK_EVERY):
                hostile, began = self.hostile.is_set(), time.monotonic()
                with contextlib.suppress(httpx.HTTPError), self._follow(client, run) as lines:
                    if any(line.startswith("event:") for line in lines):
                        self.seen.tails[hostile].append(time.monotonic() - began)

    @contextlib.contextmanager
    def _follow(self, client: httpx.Client, run: str) -> Iterator[Iterator[str]]:
        events = {"Accept": "text/event-stream"}
        path = f"/api/runs/{run}/logs?stream=output&tail=10"
        with client.stream("GET", path, headers=events) as answer:
            self.seen.answers[f"{answer.status_code // 100}xx"] += 1
            if answer.status_code >= 500:
                self.seen.failed["logs"] += 1
            yield answer.iter_lines()

    def first_run(self) -> str:
        """Start a run of the quiet owner, wait until it is done, so that its log can be read, and return its id."""
        with self._client("quiet") as client:
            run = self._start(client, "quiet")
            while not self._ask(client, "GET", f"/api/runs/{run}", "status")["run"]["done_at"]:
                self.over.wait(0.1)
        return run

    # The observer

    def looks(self) -> None:
        """Request everything that an admin can see, and measure the server's memory."""
        with self._client("admin") as client:
            while not self.over.wait(LOOK_EVERY):
                self._ask(client, "GET", "/api/top", "top")
                self._ask(client, "GET", "/api/runs?limit=100", "runs")
                self._ask(client, "GET", "/api/jobs/hostile/history", "history", params={"owner_name": "hostile"})
                for run in list(self._boxes.values()):
                    self._ask(client, "GET", f"/api/runs/{run}", "status")
                    self._ask(client, "GET", f"/api/runs/{run}/receipt", "receipt")
                    self._ask(client, "GET", f"/api/runs/{run}/logs?limit=1024", "logs")
                self.seen.memory[self.hostile.is_set()].append(resident(self._process))

    # The attacker

    def prepare(self) -> None:
        """Start runs on the hostile machines, which behave until the attack; one has a log without a line break."""
        with self._client("hostile") as client:
            for _ in range(BOXES + 1):
                self._begin(client)
        self._endless, self._endless_run = self._boxes.popitem()
        log = f"{log_prefix(self._endless, 'output')}{{:015d}}"
        self._put(log, b"", "a log without a line break", pad=CHUNK, count=LOG // CHUNK, step=CHUNK)

    def _begin(self, client: httpx.Client) -> None:
        run = self._start(client, "hostile")
        while run and not self.over.wait(0.2):
            with self._asking:
                box = self._cloud.boxes().get(run)
            if box:
                self._boxes[box] = run
                return

    def followers(self) -> None:
        """Repeatedly read the tail of the log without a line break."""
        self.hostile.wait()
        with self._client("hostile") as client:
            while not self.over.is_set():
                with contextlib.suppress(httpx.HTTPError), self._follow(client, self._endless_run) as lines:
                    any(line.startswith("data:") for line in lines)

    def deeds(self) -> None:
        """Attack in each way that root on a machine can, until the measure ends."""
        self.hostile.wait()
        large_at = end_at = time.monotonic()
        with self._client("hostile") as client:
            while not self.over.wait(DEED_EVERY):
                now = time.monotonic()
                for box in self._boxes:
                    self._deed(box)
                if now >= large_at:
                    large_at = now + LARGE_EVERY
                    self._report(self._dice.choice(list(self._boxes)), b"{}", "300 MB report", pad=300 * MB)
                if now >= end_at:
                    end_at = now + END_EVERY
                    self._end(client)

    def _deed(self, box: str) -> None:
        if not self._deck:
            self._deck = self._dice.sample(KINDS, len(KINDS))
        kind = self._deck.pop()
        at = self._dice.choice((-9e15, 0.0, 253402300800.0, 9e15))
        told = Report(0, at, "p", Step.COMMAND, {"command": Span(at)}, notice=Notice(at, at), rebalance_at=at)
        match kind:
            case "4 MB report":
                self._report(box, encode(told), kind, pad=4 * MB)
            case "flood":
                self._report(box, encode(told), kind, count=300)
            case "numbers":
                at_text = b'"at": ' + self._dice.choice(NUMBERS).encode()
                self._report(box, encode(told).replace(b'"at": ' + json.dumps(at).encode(), at_text), kind)
            case "times":
                number = self._sequence(box)
                self._put(f"inbox/{box}/{{:010d}}", encode(replace(told, sequence=number)), kind, first=number)
            case "deep":
                self._report(box, b"[" * 60_000, kind)
            case "no text":
                self._report(box, self._dice.randbytes(1000), kind)
            case "many spans":
                spans = {f"step {number}": Span(at) for number in range(1000)}
                number = self._sequence(box)
                self._put(
                    f"inbox/{box}/{{:010d}}", encode(replace(told, sequence=number, spans=spans)), kind, first=number
                )
            case "names":
                self._put(f"inbox/{box}/{'n' * 500}", b"{}", kind)

    def _sequence(self, box: str, count: int = 1) -> int:
        """Return the first of `count` report numbers that the machine has not used."""
        self._sequences[box] += count
        return FIRST_SEQUENCE + self._sequences[box] - count

    def _report(self, box: str, data: bytes, kind: str, *, count: int = 1, pad: int = 0) -> None:
        self._put(f"inbox/{box}/{{:010d}}", data, kind, count=count, pad=pad, first=self._sequence(box, count))

    def _put(self, key: str, data: bytes, kind: str, **more: int) -> None:
        with self._asking:
            self._cloud.put(key, data, **more)
        self.seen.deeds[kind] += 1

    def _end(self, client: httpx.Client) -> None:
        """End the oldest hostile run with a log of many chunks and a result of 50 MB, and begin another one."""
        box, run = next(iter(self._boxes.items()))
        self._put(f"{log_prefix(box, 'output')}{{:015d}}", b"line\n", f"{CHUNKS} chunks", count=CHUNKS, step=5)
        at = self._dice.choice((-9e15, 9e15))
        told = Result(run, 1, 0, "p", Outcome.FAILED, Step.COMMAND, 1, "\x1b]0;x\x07", at, {"command": Span(at)})
        self._put(result_key(box), encode(told), "50 MB result", pad=50 * MB)
        number = self._sequence(box)
        last = Report(number, time.time(), "p", Step.LOGS, finished=True)
        self._put(f"inbox/{box}/{{:010d}}", encode(last), "last report", first=number)
        del self._boxes[box]
        self._begin(client)
        # Many archived objects would slow down the double, though not S3: delete those of earlier runs.
        with self._asking:
            for name in self._ended[:-1]:
                self._cloud.forget(f"runs/{name}/")
        self._ended = [*self._ended[-1:], run]


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/hostile", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: no verdict"))
    with tempfile.TemporaryDirectory(prefix="provision-hostile.") as name, Cloud(Path(name), "scripted") as cloud:
        with contextlib.closing(wiring.service(cloud.settings())) as service:
            tokens = {}
            for owner in ("quiet", "hostile"):
                service.jobs.apply(recipe(owner, "any", owner=owner), "the measure's recipe")
                tokens[owner] = service.tokens.create([owner], admin=False).token
            tokens["admin"] = service.tokens.create(["bench"], admin=True).token
        with serving() as (url, process):
            attack = Attack(cloud, url, process, tokens, random.Random(told.seed))
            return _attacked(attack, told.minutes * 60)


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Run `provision serve`; yield its address and its process id."""
    with subprocess.Popen([*PROVISION, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        try:
            said = json.loads(process.stderr.readline())["text"]
            drain.start()
            yield f"http://127.0.0.1:{said.split(',')[0].rpartition(':')[2]}", process.pid
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _attacked(attack: Attack, seconds: float) -> int:
    attack.prepare()
    first = attack.first_run()
    tasks = (attack.starts, lambda: attack.tails(first), attack.looks, attack.deeds, *[attack.followers] * FOLLOWERS)
    failed: list[Exception] = []

    def watched(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - without this task, the measure would continue but mean nothing
            failed.append(error)
            attack.over.set()

    threads = [threading.Thread(target=watched, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        attack.over.wait(seconds * QUIET)
        attack.hostile.set()
        ends = time.monotonic() + seconds * (1 - QUIET)
        while not attack.over.wait(max(0.0, min(SHOWN_EVERY, ends - time.monotonic()))) and time.monotonic() < ends:
            _show(attack.seen)
    finally:
        attack.over.set()
        attack.hostile.set()
    for thread in threads:
        thread.join(90)
    if failed:
        sys.exit(f"no verdict: a part of the measure failed: {failed[0]!r}")
    return _verdict(attack.seen)


def _show(seen: Seen) -> tuple[float, float]:
    """Print the figures so far; return how many times slower starts are, and the growth of memory in MiB."""
    (quiet, hostile), (before, after), (alone, beside) = (
        (sorted(found[False]), sorted(found[True])) for found in (seen.starts, seen.memory, seen.tails)
    )
    if not (quiet and hostile and before and after):
        sys.exit("no verdict: some figures have no samples; run for longer (--minutes)")
    print(line(of_samples("start-to-running-p95", hostile, "s", quantile(quiet, 0.95), at=0.95, aim=f"<= {SLOWER} x")))
    if alone and beside:
        print(line(of_samples("tail-p95", beside, "s", quantile(alone, 0.95), at=0.95)))
    print(line(figure("memory", after[-1], "MiB", before[-1], n=len(after), aim=f"<= + {LARGER} MiB")))
    sys.stdout.flush()
    return quantile(hostile, 0.95) / quantile(quiet, 0.95), after[-1] - before[-1]


def _verdict(seen: Seen) -> int:
    slower, larger = _show(seen)
    broken = [
        what
        for what, holds in {
            f"others' runs start within {SLOWER} times": slower <= SLOWER,
            f"memory grows by no more than {LARGER:.0f} MiB": larger <= LARGER,
            "no request fails": not seen.failed,
            "every kind of attack was made": seen.deeds.keys() >= set(KINDS),
        }.items()
        if not holds
    ]
    found = {
        "slower": round(slower, 2),
        "larger_mb": round(larger, 1),
        "starts": len(seen.starts[True]),
        "answers": seen.answers,
        "failed": seen.failed,
        "deeds": seen.deeds,
    }
    print(json.dumps({**found, "verdict": "broken" if broken else "kept", "broken": broken}), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
