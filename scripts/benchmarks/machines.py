"""Measure how long a machine lives before and after its job, on light machines with the real user-data and agent."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import boto3

from provisioner.ports.control.logs import LogPiece, LogQuery
from provisioner.ports.store import RunFilter
from provisioner.service.control import Service
from scripts.benchmarks.cloud import PROVISION, Cloud, finished, recipe
from scripts.benchmarks.figures import Figure, median_seconds, of_samples

#: A command that prints three times of one clock: when the user-data was about to run, when the command began, and
#: when it ended.
TIMES = 'stat -c %.9Y "$HOME/../../var/lib/cloud/part-0"; date +%s.%N; date +%s.%N'

#: A command that prints `count` lines; each line is the time at which it was printed.
TICKS = "i=0; while [ $i -lt {count} ]; do date +%s.%N; sleep 0.2; i=$((i+1)); done"

BOTO3 = "import boto3; boto3.client('s3', 'us-east-1', aws_access_key_id='a', aws_secret_access_key='b')"


def machine(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds from the user-data to the command (agent), and from the command's end to the termination (tail)."""
    agent, tail = [], []
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("life", TIMES), "the bench's recipe")
        for _ in range(2 if quick else 15):
            run = service.runs.start("life", {})
            finished(service, run.id)
            data = b"".join(
                piece.data for piece in service.logs.read(run.id, LogQuery(("output",))) if isinstance(piece, LogPiece)
            )
            born, began, ended = map(float, data.split())
            instance = service.runs.status(run.id).machines[0].id
            ending = next(at for state, at in cloud.history()[instance] if state == "shutting-down")
            agent.append(began - born)
            tail.append(ending - ended)
        bare = _bare_tail(cloud, service, 2 if quick else 10)
    client = median_seconds(lambda: subprocess.run([sys.executable, "-c", BOTO3], check=True), 2 if quick else 5)
    yield of_samples("agent", agent, "s", client, aim="<= 1")
    yield of_samples("tail", tail, "s", bare)
    yield of_samples("tail-p95", tail, "s", bare, at=0.95, aim="<= 2")


def _bare_tail(cloud: Cloud, service: Service, times: int) -> float:
    """Return the median seconds of the calls that every tail needs: put a chunk and a result, read it, terminate."""
    # boto3's default session would keep the credentials of the previous double.
    session, bucket = boto3.Session(), cloud.settings().bucket
    s3, ec2 = session.client("s3"), session.client("ec2")
    gone = service.runs.status(service.runs.records(RunFilter(limit=1))[0].id).machines[0].id
    found = []
    for number in range(times):
        began = time.time()
        for part in ("chunk", "result"):
            s3.put_object(Bucket=bucket, Key=f"bare/{part}{number}", Body=b"1")
        s3.get_object(Bucket=bucket, Key=f"bare/result{number}")["Body"].read()
        ec2.terminate_instances(InstanceIds=[gone])
        found.append(time.time() - began)
    return statistics.median(found)


def follow(folder: Path, quick: bool) -> Iterator[Figure]:
    """Seconds from when a job prints a line until `provision logs --follow` has it, compared with a bare pipe."""
    command = TICKS.format(count=10 if quick else 120)
    with Cloud(folder, "light") as cloud, cloud.service() as service, cloud.daemon():
        service.jobs.apply(recipe("ticks", command), "the bench's recipe")
        run = service.runs.start("ticks", {})
        delays = _delays([*PROVISION, "logs", "--follow", "--stream", "output", run.id])
    bare = statistics.median(_delays(["sh", "-c", TICKS.format(count=10)]))
    yield of_samples("follow", delays, "s", bare)
    yield of_samples("follow-p95", delays, "s", bare, at=0.95, aim="<= 1.5")


def _delays(words: Sequence[str]) -> list[float]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        return [time.time() - float(text) for text in process.stdout]
