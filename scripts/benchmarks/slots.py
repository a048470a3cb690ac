"""Measure a list of commands on one light machine: the time that a command takes, and the time to read its output."""

import contextlib
import csv
import io
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import boto3

from provisioner.rehearsal.machines.scripted_list import output
from provisioner.service.control import Service
from scripts.benchmarks.cloud import OUTPUTS, Cloud, recipe, until
from scripts.benchmarks.figures import Figure, figure, median_seconds, of_samples

#: Binary output that no fork is needed for, and that is different for each command.
PRINTS = rb"printf '\377\000%%s\r\n' %d" + b"\n"
#: Seconds after which a list counts as failed.
PATIENCE = 3600.0


def slots(folder: Path, quick: bool) -> Iterator[Figure]:
    """Milliseconds of a command that does nothing on one machine, compared with xargs -P and GNU parallel."""
    count, times = (300, 1) if quick else (2000, 3)
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        for number in (1, 4):
            found: dict[str, list[tuple[float, float]]] = {"": [], "xargs": [], "parallel": []}
            for _ in range(times):
                found[""].append(_listed(cloud, service, number, count))
                for name, words in others(number).items():
                    several = count if name == "xargs" else max(100, count // 10)
                    found[name].append(_piped(words, several))
            ours, xargs = ([median(column) for column in zip(*found[name], strict=True)] for name in ("", "xargs"))
            for name, samples in found.items():
                if name and samples:
                    both = zip(("ms", "ms of processor time"), ours, zip(*samples, strict=True), strict=True)
                    for unit, mine, theirs in both:
                        label = f"slots-{number}-{name}{'' if unit == 'ms' else '-cpu'}"
                        yield figure(label, mine * 1000, unit, median(theirs) * 1000, n=len(samples))
            yield figure(f"slots-{number}-own", (ours[0] - xargs[0]) * 1000, "ms/command", n=times, aim="<= 2")
            yield figure(f"slots-{number}-own-cpu", (ours[1] - xargs[1]) * 1000, "ms/command", n=times, aim="<= 2")
        yield figure("slots-load", os.getloadavg()[0] / (os.cpu_count() or 1), "processes/core")


def outputs(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds to read the output of one of 100,000 commands, compared with one read of an object of the bucket."""
    yield from _many(folder / "many", 2000 if quick else 100_000, 50 if quick else 1000)
    yield from _binary(folder / "binary", 200 if quick else 5000)


def _many(folder: Path, count: int, reads: int) -> Iterator[Figure]:
    """Yield the seconds to read outputs of a scripted machine, which ends 800 commands a second."""
    with Cloud(folder, "scripted") as cloud, cloud.service() as service, cloud.daemon():
        run = _uploaded(service, (b"true\n" for _ in range(count)))
        took, wrong = list[float](), 0
        for index in (0, count - 1, *random.Random(1).sample(range(count), reads)):
            began = time.perf_counter()
            found = b"".join(service.commands.output(run, index))
            took.append(time.perf_counter() - began)
            wrong += found != output(index, 1, OUTPUTS.commands.output)
        # boto3's default session would keep the credentials of the previous double.
        s3, bucket = boto3.Session().client("s3"), cloud.settings().bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"runs/{run}/")
        stored = {each["Key"]: each["Size"] for page in pages for each in page["Contents"]}
        largest = max(stored, key=lambda key: stored[key])
        bare = median_seconds(lambda: s3.get_object(Bucket=bucket, Key=largest)["Body"].read(), 20)
        yield of_samples("outputs", took, "s", bare)
        yield of_samples("outputs-p99", took, "s", bare, at=0.99)
        yield of_samples("outputs-slowest", took, "s", bare, at=1.0, aim="<= 0.2")
        yield figure("outputs-wrong", wrong, "outputs", n=len(took), aim="<= 0")
        yield figure("outputs-objects", len(stored) / count, "objects/command", 3.0, n=count, aim="<= 0.02")


def _binary(folder: Path, count: int) -> Iterator[Figure]:
    """Yield how many outputs of a real agent differ, and its and the control plane's requests for each command."""
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        known = cloud.count()
        run = _uploaded(service, (PRINTS % index for index in range(count)))
        made = cloud.requests(known).total()
        found = {
            index: b"".join(service.commands.output(run, index)) for index in range(0, count, max(1, count // 500))
        }
        wrong = sum(data != b"\xff\x00%d\r\n" % index for index, data in found.items())
        yield figure("outputs-binary-wrong", wrong, "outputs", n=len(found), aim="<= 0")
        yield figure("outputs-binary-requests", made / count, "requests/command", n=count)


def _uploaded(service: Service, lines: Iterable[bytes]) -> str:
    """Run an uploaded list to its end; return the run's id."""
    service.jobs.apply(recipe("outputs", [":", ":"], nprocs=4), "the bench's recipe")
    run = service.runs.start("outputs", {}, upload=service.uploads.add(lines).id)
    until(lambda: service.runs.record(run.id).done_at is not None, "the list's end", PATIENCE)
    return run.id


def others(slots: int) -> dict[str, list[str]]:
    """Return the command lines of other programs that run one command for each line, by name."""
    found = {"xargs": ["xargs", f"-P{slots}", "-I{}", "sh", "-c", ":"], "parallel": ["parallel", f"-j{slots}", ":"]}
    return {name: words for name, words in found.items() if shutil.which(name)}


def _listed(cloud: Cloud, service: Service, slots: int, count: int) -> tuple[float, float]:
    """Run a list; return for each command the seconds, and those of processor time of agent and slots.

    The seconds are from the begin of the first command to the end of the last, without the first batch, after which the
    machine waits for the next one.
    """
    first, used = 2 * slots, _Used(cloud.folder)
    service.jobs.apply(recipe("slots", [":"] * (first + count), nprocs=slots), "the bench's recipe")
    run = service.runs.start("slots", {})

    def done() -> bool:
        used.look()
        return service.runs.record(run.id).done_at is not None

    until(done, "the list's end", PATIENCE)
    table = b"".join(service.commands.csv(run.id)).decode()
    rows = list(csv.DictReader(io.StringIO(table)))[first:]
    assert len(rows) == count, f"{len(rows)} of {count} commands have ended"
    begins = [float(row["Starttime"]) for row in rows]
    ends = [begin + float(row["JobRuntime"]) for begin, row in zip(begins, rows, strict=True)]
    return (max(ends) - min(begins)) / count, sum(used.seconds.values()) / (first + count)


class _Used:
    """The processor time of the agents and the slots' shells of new machines, with that of the commands."""

    def __init__(self, folder: Path) -> None:
        self._machines, self._due = f"{folder}/machines/".encode(), 0.0
        self._before = set(self._pids())
        #: Seconds by process id. What a process uses between the last look and its end is not counted.
        self.seconds: dict[int, float] = {}

    def look(self) -> None:
        """Read the processor time of all processes, at most every 0.1 s."""
        if time.monotonic() < self._due:
            return
        for pid in self._pids():
            if pid not in self._before:
                with contextlib.suppress(OSError):
                    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    self.seconds[pid] = sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
        self._due = time.monotonic() + 0.1

    def _pids(self) -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                words = line.split(b"\0")
                names = (b"var/lib/provision/agent", b"run/provision/slot")
                if len(words) > 1 and words[1].startswith(self._machines) and words[1].endswith(names):
                    yield int(folder.name)


def _piped(words: Sequence[str], count: int) -> tuple[float, float]:
    """Return for each line of standard input the seconds, and those of processor time, of a program."""
    lines = "\n".join(map(str, range(count)))
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, input=lines.encode(), stdout=subprocess.DEVNULL, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return (time.perf_counter() - began) / count, cpu / count
