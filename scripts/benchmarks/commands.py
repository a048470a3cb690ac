"""Measure the command line: the time of `--help`, and the time from a cold start to its CreateFleet."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks import triggers
from scripts.benchmarks.cloud import PROVISION, Cloud, recipe
from scripts.benchmarks.figures import Figure, figure, median_seconds, of_samples, seconds


def help(folder: Path, quick: bool) -> Iterator[Figure]:  # noqa: ARG001 - every measure is called alike
    """Seconds of `provision --help`, compared with `python -c pass`."""
    times = 2 if quick else 15

    def run(*words: str) -> None:
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)

    bare = median_seconds(lambda: run(sys.executable, "-c", "pass"), times)
    yield of_samples("help", seconds(lambda: run(*PROVISION, "--help"), times), "s", bare, aim="<= 0.2")


def cold(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds from `provision start --detach` in a new process to its CreateFleet, with the facts about AWS cached."""
    with Cloud(folder, "scripted") as cloud:
        with cloud.service() as service:
            service.jobs.apply(recipe("cold", "true"), "the bench's recipe")
        found, calls = [], 0
        # The first start also resolves AMI, profile and catalog, and uploads the agent: once for an installation.
        for number in range(3 if quick else 8):
            known, began = cloud.count(), time.time()
            subprocess.run([*PROVISION, "start", "cold", "--detach"], check=True, capture_output=True)
            at, before = triggers.reached(cloud, known)
            if number == 0:
                yield of_samples("cold-first", [at - began], "s")
                continue
            found.append(at - began)
            calls = max(calls, before)
        bare = triggers.bare_call(3 if quick else 20)
        yield of_samples("cold", found, "s", bare, aim="<= 1")
        yield figure("cold-calls", calls, "calls before CreateFleet", n=len(found))
