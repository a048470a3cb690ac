"""Try planted bugs and print the score of each layer; see scripts/mutate."""

import argparse
import hashlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from scripts.mutations.bugs import ROOT, Bug, Unusable, check, read
from scripts.mutations.trial import Verdict, Workshop

#: The share of planted bugs that the tests of each layer must notice.
AIM = 0.95
#: Verdicts of earlier runs, one JSON object a line; not under version control.
KEPT = ROOT / ".mutate.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("id", nargs="*", help="try these bugs, even if they have a stored verdict")
    parser.add_argument("--all", action="store_true", help="try every bug that has no verdict yet")
    parser.add_argument("--since", default="HEAD", metavar="REV", help="try bugs in files that differ from REV (HEAD)")
    parser.add_argument("--check", action="store_true", help="run no tests; check that every bug still applies")
    parser.add_argument("--jobs", type=int, default=2, help="bugs tried at once (2)")
    asked = parser.parse_args()
    try:
        bugs = read()
    except Unusable as error:
        sys.exit(f"scripts/mutations: {error}")
    if unknown := set(asked.id) - {bug.id for bug in bugs}:
        parser.error(f"unknown bug: {', '.join(sorted(unknown))}; scripts/mutations/*.toml have the ids")
    if asked.check:
        sys.exit(_check(bugs))
    if asked.id:
        bugs = [bug for bug in bugs if bug.id in asked.id]
    elif not asked.all:
        changed = _changed(asked.since)
        bugs = [bug for bug in bugs if bug.module in changed]
        if not bugs:
            print(f"no planted bug is in a file that differs from {asked.since}; --all tries all")
            return
    kept = {} if asked.id else _kept()
    verdicts = {bug.id: kept[key] for bug in bugs if (key := _key(bug)) in kept}
    waiting = [bug for bug in bugs if bug.id not in verdicts]
    print(f"{len(bugs)} bugs, of which {len(verdicts)} have been tried before")
    verdicts.update(_try_all(waiting, asked.jobs))
    sys.exit(_score(bugs, verdicts))


def _check(bugs: Iterable[Bug]) -> int:
    """Print each unusable bug and the reason; return 1 if there is one, else 0."""
    wrong = 0
    for bug in bugs:
        try:
            check(bug)
        except Unusable as error:
            wrong = 1
            print(f"{bug.id}: {error}", file=sys.stderr)
    return wrong


def _try_all(bugs: list[Bug], jobs: int) -> dict[str, str]:
    """Try the bugs, several at once; print each verdict and keep it as soon as it is known."""
    waiting: queue.SimpleQueue[Bug] = queue.SimpleQueue()
    # Sort bugs by their tests: the tests run without a bug only once for all bugs that share them.
    for bug in sorted(bugs, key=lambda bug: bug.tests):
        waiting.put(bug)
    verdicts: dict[str, str] = {}
    workshops: list[Workshop] = []
    lock, stopped = threading.Lock(), threading.Event()

    def work(folder: Path) -> None:
        workshop = Workshop(folder)
        workshops.append(workshop)
        while not stopped.is_set():
            try:
                bug = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                found = workshop.try_out(bug)
            except Unusable as error:
                found = Verdict("broken", 0.0, str(error))
            with lock:
                if stopped.is_set():
                    return
                verdicts[bug.id] = found.verdict
                print(f"{found.verdict:<9} {found.seconds:6.1f} s  {bug.id}  ({len(verdicts)}/{len(bugs)})", flush=True)
                if found.verdict == "broken":
                    print(found.output, file=sys.stderr, flush=True)
                else:
                    with KEPT.open("a") as file:
                        file.write(json.dumps({"key": _key(bug), "id": bug.id, "verdict": found.verdict}) + "\n")

    # SIGINT and SIGTERM must end the trials and delete their folder too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="provision-mutate.") as folder:
        threads = [threading.Thread(target=work, args=(Path(folder, str(n)),)) for n in range(min(jobs, len(bugs)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            with lock:
                stopped.set()
            for workshop in workshops:
                workshop.stop()
            for thread in threads:
                thread.join()
            sys.exit("interrupted: run the same command again to continue")
    return verdicts


def _score(bugs: list[Bug], verdicts: dict[str, str]) -> int:
    """Print the score of each layer and the bugs that survived; return 0 if each layer reaches the aim."""
    missed = 0
    for layer in sorted({bug.layer for bug in bugs}):
        counts = Counter(verdicts[bug.id] for bug in bugs if bug.layer == layer)
        share = counts["killed"] / counts.total()
        missed |= share < AIM
        print(f"{layer:<10} {counts['killed']:>3} of {counts.total():>3} noticed ({share:.0%})")
    for bug in bugs:
        if verdicts[bug.id] != "killed":
            print(f"{verdicts[bug.id]}: {bug.id} ({bug.module}): {bug.reason}")
    return int(missed)


def _changed(since: str) -> set[str]:
    """Return the files that differ from a revision, and untracked files."""
    commands = (["diff", "--name-only", since], ["ls-files", "--others", "--exclude-standard"])
    done = [subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True) for words in commands]
    return {line for each in done for line in each.stdout.splitlines()}


def _kept() -> dict[str, str]:
    """Return the verdicts of earlier runs by key."""
    if not KEPT.exists():
        return {}
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()]
    return {row["key"]: row["verdict"] for row in rows}


def _key(bug: Bug) -> str:
    """Return a checksum of everything that a verdict depends on: the bug, its module, and the files of its tests."""
    digest = hashlib.sha256(json.dumps(asdict(bug)).encode())
    for name in (bug.module, *(test.partition("::")[0] for test in bug.tests)):
        path = ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


if __name__ == "__main__":
    main()
