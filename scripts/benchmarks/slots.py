"""Measure a list of commands on one light machine: the time that a command takes, and the time to read its output."""

import csv
import io
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import boto3

from provisioner.service.control import Service
from scripts.benchmarks.cloud import Cloud, recipe, until
from scripts.benchmarks.figures import Figure, figure, median_seconds, of_samples

#: Binary output that no fork is needed for, and that is different for each command.
PRINTS = rb"printf '\377\000%%s\r\n' %d" + b"\n"
#: Seconds after which a list counts as failed.
PATIENCE = 3600.0


def slots(folder: Path, quick: bool) -> Iterator[Figure]:
    """Milliseconds of a command that does nothing on one machine, compared with xargs -P and GNU parallel."""
    count, times = (300, 1) if quick else (5000, 3)
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        for number in (1, 4):
            # A machine takes seconds of processor time to boot: those of a list with few commands are subtracted.
            _, boot = _listed(cloud, service, number, 1)
            found: dict[str, list[tuple[float, float]]] = {"": [], "xargs": [], "parallel": []}
            for _ in range(times):
                took, used = _listed(cloud, service, number, count)
                found[""].append((took / count, (used - boot) / count))
                for name, words in others(number).items():
                    several = count if name == "xargs" else max(100, count // 10)
                    took, used = _piped(words, several)
                    found[name].append((took / several, used / several))
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
    count, slots = (1000, 4) if quick else (100_000, 4)
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("outputs", [":", ":"], nprocs=slots), "the bench's recipe")
        uploaded = service.uploads.add(PRINTS % index for index in range(count))
        run = service.runs.start("outputs", {}, upload=uploaded.id)
        until(lambda: service.runs.record(run.id).done_at is not None, "the list's end", PATIENCE)
        chance, took, wrong = random.Random(1), list[float](), 0
        for index in (0, count - 1, *chance.sample(range(count), 50 if quick else 1000)):
            began = time.perf_counter()
            found = b"".join(service.commands.output(run.id, index))
            took.append(time.perf_counter() - began)
            wrong += found != b"\xff\x00%d\r\n" % index
        # boto3's default session would keep the credentials of the previous double.
        s3, bucket = boto3.Session().client("s3"), cloud.settings().bucket
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"runs/{run.id}/")
        stored = [each["Key"] for page in pages for each in page["Contents"]]
        bare = median_seconds(lambda: s3.get_object(Bucket=bucket, Key=stored[0])["Body"].read(), 20)
        yield of_samples("outputs", took, "s", bare)
        yield of_samples("outputs-slowest", took, "s", bare, at=1.0, aim="<= 0.2")
        yield figure("outputs-wrong", wrong, "outputs", n=len(took), aim="<= 0")
        yield figure("outputs-objects", len(stored) / count, "objects/command", 3.0, n=count, aim="<= 0.02")


def others(slots: int) -> dict[str, list[str]]:
    """Return the command lines of other programs that run one command for each line, by name."""
    found = {"xargs": ["xargs", f"-P{slots}", "-I{}", "sh", "-c", ":"], "parallel": ["parallel", f"-j{slots}", ":"]}
    return {name: words for name, words in found.items() if shutil.which(name)}


def _listed(cloud: Cloud, service: Service, slots: int, count: int) -> tuple[float, float]:
    """Run a list; return the seconds from the begin of the first command to the end of the last, and those of processor
    time of its machine.

    The first batch is left out of the former: after it the machine waits for the next one.
    """
    first, before = 2 * slots, cloud.machines_cpu()
    service.jobs.apply(recipe("slots", [":"] * (first + count), nprocs=slots), "the bench's recipe")
    run = service.runs.start("slots", {})
    until(lambda: service.runs.record(run.id).done_at is not None, "the list's end", PATIENCE)
    table = b"".join(service.commands.csv(run.id)).decode()
    rows = list(csv.DictReader(io.StringIO(table)))[first:]
    assert len(rows) == count, f"{len(rows)} of {count} commands have ended"
    begins = [float(row["Starttime"]) for row in rows]
    ends = [begin + float(row["JobRuntime"]) for begin, row in zip(begins, rows, strict=True)]
    return max(ends) - min(begins), cloud.machines_cpu() - before


def _piped(words: Sequence[str], count: int) -> tuple[float, float]:
    """Return the seconds, and those of processor time, of a program that reads `count` lines from standard input."""
    lines = "\n".join(map(str, range(count)))
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, input=lines.encode(), stdout=subprocess.DEVNULL, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
