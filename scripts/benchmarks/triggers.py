"""Measure the time from a trigger to its launch, which this project adds to EC2's own time."""

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.exceptions

from provisioner.core.run.states import State
from scripts.benchmarks.cloud import Cloud, finished, recipe, until
from scripts.benchmarks.figures import Figure, figure, of_samples


def reached(cloud: Cloud, known: int) -> tuple[float, int]:
    """Return when the first CreateFleet after `known` calls arrived, and how many control-plane calls preceded it."""
    calls = [call for call in cloud.calls(known) if call.ours]
    index = next(index for index, call in enumerate(calls) if call.action == "CreateFleet")
    return calls[index].at, index


def bare_call(times: int) -> float:
    """Return the median seconds that boto3 alone takes for a CreateFleet that the double refuses at once."""
    client = boto3.Session().client("ec2", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    found = []
    for _ in range(times):
        began = time.time()
        try:
            client.create_fleet(
                Type="instant",
                TargetCapacitySpecification={"TotalTargetCapacity": 1},
                LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateName": "none", "Version": "1"}}],
            )
        except botocore.exceptions.ClientError:
            found.append(time.time() - began)
    client.close()
    return statistics.median(found)


def warm(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds from a trigger by another process to the CreateFleet of an idle daemon."""
    with Cloud(folder, "scripted") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("warm", "true"), "the bench's recipe")
        found, calls = [], 0
        for number in range(3 if quick else 25):
            known, began = cloud.count(), time.time()
            run = service.runs.start("warm", {})
            finished(service, run.id)
            at, before = reached(cloud, known)
            # Do not count the first trigger: it also resolves the facts about AWS, which are then cached.
            if number:
                found.append(at - began)
                calls = max(calls, before)
        bare = bare_call(3 if quick else 20)
        yield of_samples("warm", found, "s", bare)
        yield of_samples("warm-p95", found, "s", bare, at=0.95, aim="<= 0.1")
        yield figure("warm-calls", calls, "calls before CreateFleet", n=len(found), aim="0")


def many(folder: Path, quick: bool) -> Iterator[Figure]:
    """CreateFleet calls, and seconds, until each of 500 equal runs that are triggered at once has a machine."""
    count = 20 if quick else 500
    with Cloud(folder, "scripted") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("many", "true"), "the bench's recipe")
        first = service.runs.start("many", {})
        finished(service, first.id)
        known, began = cloud.count(), time.time()
        runs = [service.runs.start("many", {"SHARD": str(shard)}) for shard in range(count)]
        triggered = time.time()

        def bound() -> bool:
            return all(service.runs.record(run.id).state not in (State.QUEUED, State.LAUNCHING) for run in runs)

        until(bound, "every run's machine", 300)
        took = time.time() - began
        launches = [call for call in cloud.calls(known) if call.action == "CreateFleet"]
        yield figure("many-launches", len(launches), "CreateFleet calls", 1, n=count, aim="<= 5")
        yield figure("many-bound", took, "s", triggered - began, n=count)
