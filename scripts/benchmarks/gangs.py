"""Measure how fast a run with several machines is launched, starts and stops, on light machines with the real agent."""

import time
from collections.abc import Iterator
from pathlib import Path

import boto3

from provisioner.core.run.states import State
from provisioner.ports.control.logs import LogPiece, LogQuery
from provisioner.service.control import Service
from scripts.benchmarks.cloud import Cloud, finished, recipe, until
from scripts.benchmarks.figures import Figure, median_seconds, of_samples

SCALE = 8
#: Each rank prints when its command begins. Then rank 0 prints the time and fails, and the others print when they get
#: SIGTERM.
COMMAND = """
date +%s.%N
if [ "$PROVISION_RANK" = 0 ]; then sleep 3; date +%s.%N; exit 7; fi
trap 'date +%s.%N; exit 0' TERM
sleep 600 & wait
"""
#: Each rank prints when its command begins. The first attempt goes on until its machine is interrupted.
ENDLESS = """
date +%s.%N
if [ "$PROVISION_ATTEMPT" = 1 ]; then trap 'exit 0' TERM; sleep 600 & wait; fi
"""
#: Seconds of the spot notice: ranks get SIGTERM after an eighth of it.
NOTICE = 16.0


def gang(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds of a run with 8 machines: launch call, ready to command, failure to SIGTERM, restart with 7 of them."""
    launch, single, start, stop = [], [], [], []
    restart: dict[str, list[float]] = {"keep": [], "release": []}
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("single", "true"), "the bench's recipe")
        service.jobs.apply(recipe("gang", COMMAND, scale=SCALE), "the bench's recipe")
        for _ in range(2 if quick else 10):
            single.append(_launched(cloud, service, "single")[1])
            run, seconds = _launched(cloud, service, "gang")
            launch.append(seconds)
            times = [_times(service, run, rank) for rank in range(SCALE)]
            ready = [each.began for each in service.runs.receipt(run).phases if each.name == "barrier"]
            start.append(max(began for began, _ in times) - max(ready))
            stop.append(max(told for _, told in times[1:]) - times[0][1])
        for survivors, seconds_of in restart.items():
            spec = {"scale": SCALE, "use_spot_instance": True, "gang": {"survivors": survivors}}
            service.jobs.apply(recipe("again", ENDLESS, **spec), "the bench's recipe")
            for _ in range(1 if quick else 5):
                seconds_of.append(_restarted(cloud, service))
        bare = median_seconds(lambda: _told(cloud), 2 if quick else 10)
    one = sorted(single)[len(single) // 2]
    yield of_samples("gang-launch", launch, "s", one)
    yield of_samples("gang-start-p95", start, "s", bare, at=0.95, aim="<= 1.5")
    yield of_samples("gang-stop-p95", stop, "s", bare, at=0.95, aim="<= 2")
    fresh = sorted(restart["release"])[len(restart["release"]) // 2]
    yield of_samples("gang-restart", restart["keep"], "s", fresh, aim="ratio < 1")


def _launched(cloud: Cloud, service: Service, job: str) -> tuple[str, float]:
    """Run the job to its end; return the run's id, and the seconds from its trigger to its launch call."""
    known, began = cloud.count(), time.time()
    run = service.runs.start(job, {})
    finished(service, run.id)
    return run.id, next(call.at for call in cloud.calls(known) if call.action == "CreateFleet") - began


def _restarted(cloud: Cloud, service: Service) -> float:
    """Interrupt one machine of a run; return the seconds until all ranks execute the command again."""
    run = service.runs.start("again", {})
    until(lambda: service.runs.record(run.id).state is State.RUNNING, "the command")
    [instance] = [node.instance_id for node in service.installation.store.nodes(run.id) if node.rank == 1]
    began = time.time()
    cloud.interrupt(instance, NOTICE)
    finished(service, run.id)
    queries = (LogQuery(("output",), attempt=2, rank=rank) for rank in range(SCALE))
    lines = [
        b"".join(each.data for each in service.logs.read(run.id, query) if isinstance(each, LogPiece))
        for query in queries
    ]
    return max(map(float, lines)) - began


def _times(service: Service, run: str, rank: int) -> tuple[float, float]:
    pieces = service.logs.read(run, LogQuery(("output",), rank=rank))
    began, told = b"".join(piece.data for piece in pieces if isinstance(piece, LogPiece)).split()
    return float(began), float(told)


def _told(cloud: Cloud) -> None:
    """Make the S3 calls that a stop of all ranks needs: put and read a report, put and read the orders of each rank."""
    s3, bucket = boto3.Session().client("s3"), cloud.settings().bucket
    s3.put_object(Bucket=bucket, Key="bare/report", Body=b"1")
    s3.list_objects_v2(Bucket=bucket, Prefix="bare/")
    s3.get_object(Bucket=bucket, Key="bare/report")["Body"].read()
    for rank in range(SCALE):
        s3.put_object(Bucket=bucket, Key=f"bare/orders{rank}", Body=b"1")
        s3.get_object(Bucket=bucket, Key=f"bare/orders{rank}")["Body"].read()
