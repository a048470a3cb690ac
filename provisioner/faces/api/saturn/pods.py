"""Endpoints for pods and their logs, for Saturn's public client (public OpenAPI 2026.02.01)."""

import codecs
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, TypedDict

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from provisioner.core.errors import NotFound
from provisioner.core.protocol.words import STREAMS
from provisioner.faces.api.http import examples
from provisioner.faces.api.http.answers import JSON, answer
from provisioner.faces.api.http.caller import Acting, Calling, JobName, OwnerName, Serving
from provisioner.faces.api.http.document import answers
from provisioner.faces.api.http.reading import Readers
from provisioner.faces.api.native import jobs
from provisioner.faces.api.saturn import attempts
from provisioner.faces.api.saturn.recipes import PAGE, UNFINISHED
from provisioner.ports.control.control import Control
from provisioner.ports.control.logs import LogGap, LogPiece, LogQuery
from provisioner.ports.store import RunFilter

router = APIRouter(tags=["pods"])

#: Number of last lines of an init container's log that its summary shows.
GLIMPSE = 100

Pod = Annotated[str, Path(max_length=300, description="A pod's name: JOB-RUN-ATTEMPT-RANK.")]


class Pods(TypedDict):
    """Attempts that have not ended."""

    pod_summaries: list[attempts.Pod]
    next_key: str | None


class History(TypedDict):
    """Attempts of a job's runs, those of the newest run first."""

    pods: Annotated[list[attempts.HistoricalPod], "Attempts of the newest 1,000 runs."]


class PodLogs(TypedDict):
    """A log as text."""

    logs: str


_POD = attempts.Attempt(examples.run(), 1, 0, examples.attempt())


@router.get(
    "/active/pods",
    operation_id="list_pods",
    responses=answers(Pods, 404, example={"pod_summaries": [attempts.summary(_POD)], "next_key": None}),
)
def list_pods(
    control: Acting,
    workload_id: Annotated[str, Query(max_length=64, description="The job's id.")],
    workload_type: Annotated[str, Query(max_length=20, description="`job`; other types give an empty list.")] = "job",
) -> Response:
    """List the attempts that have not ended, of a job's newest 1,000 unfinished runs."""
    found = control.jobs.get(workload_id)
    which = RunFilter(job_id=found.id, states=UNFINISHED, limit=PAGE)
    tried = control.runs.tried(which) if workload_type == "job" else ()
    live = [each for run, views in tried for each in attempts.of(run, views) if not each.outcome]
    return answer(Pods(pod_summaries=[attempts.summary(each) for each in live], next_key=None))


@router.get(
    "/active/pods/{pod}",
    operation_id="get_pod",
    responses=answers(attempts.RuntimeSummary, 404, example=attempts.runtime_summary(_POD, {})),
)
async def get_pod(caller: Calling, control: Acting, server: Serving, pod: Pod) -> Response:
    """Show a pod with its containers, also after it has ended."""
    found = await run_in_threadpool(_attempt, control, pod)
    preparing = {}
    if found.view and not found.begun:
        for name, stream in attempts.STREAM_OF.items():
            if name != attempts.MAIN:
                preparing[name] = await server.readers.read(
                    caller.name, "".join, _text(control, found, stream, GLIMPSE)
                )
    return answer(attempts.runtime_summary(found, preparing))


def _attempt(control: Control, pod: str) -> attempts.Attempt:
    return attempts.named(control.runs.status(attempts.run_of(pod)), pod)


@router.get(
    "/active/pods/{pod}/logs",
    operation_id="get_pod_logs",
    responses=answers(PodLogs, 404, example={"logs": "epoch 1\n"}),
)
async def get_pod_logs(
    caller: Calling,
    control: Acting,
    server: Serving,
    pod: Pod,
    page_size: Annotated[int, Query(ge=1, le=100_000, description="Most lines, from the end of the log.")] = PAGE,
    container_name: Annotated[str, Query(max_length=100, description="Container: main, boot, setup.")] = attempts.MAIN,
    previous: Annotated[
        bool, Query(description="Log of a previous container: always empty, because no container is started twice.")
    ] = False,
) -> Response:
    """Return the last lines of a container's log; after the run has ended, they come from the archive."""
    stream = attempts.STREAM_OF.get(container_name)
    if stream is None:
        raise NotFound(f"a pod has no container {container_name!r}; it has {', '.join(attempts.STREAM_OF)}")
    found = await run_in_threadpool(_attempt, control, pod)
    texts = _text(control, found, stream, page_size) if found.view and not previous else iter(())
    return await _logs(server.readers, caller.name, texts)


@router.get(
    "/jobs/{job}/history",
    operation_id="list_history",
    responses=answers(History, 404, example={"pods": [attempts.historical(_POD)]}),
)
def list_history(control: Acting, job: JobName, owner_name: OwnerName = "") -> Response:
    """List the attempts of a job's runs, including those that have not ended."""
    found = jobs.look_up(control, job, owner_name)
    tried = control.runs.tried(RunFilter(job_id=found.id, limit=PAGE))
    told = [attempts.historical(each) for run, views in tried for each in attempts.of(run, views)]
    return answer(History(pods=told))


@router.get(
    "/jobs/{job}/logs",
    operation_id="get_historical_logs",
    responses=answers(PodLogs, 404, example={"logs": "epoch 1\n"}),
)
async def get_historical_logs(
    caller: Calling,
    control: Acting,
    server: Serving,
    job: JobName,
    pod_name: Annotated[str, Query(max_length=300, description="Name of a pod in the job's history.")],
    owner_name: OwnerName = "",
) -> Response:
    """Return the whole log of a pod: that of its setup, then that of its command."""
    found = await run_in_threadpool(jobs.look_up, control, job, owner_name)
    meant = await run_in_threadpool(_attempt, control, pod_name)
    if meant.run.job_id != found.id:
        raise NotFound(f"{found.name} has no pod {pod_name!r}")
    texts = (text for stream in STREAMS[1:] for text in _text(control, meant, stream) if meant.view)
    return await _logs(server.readers, caller.name, texts)


def _text(control: Control, found: attempts.Attempt, stream: str, tail: int | None = None) -> Iterator[str]:
    """Yield the log as text; invalid UTF-8 is replaced, and missing bytes are reported in a line."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in control.logs.read(found.run.id, LogQuery((stream,), found.number, tail, found.rank)):
        match piece:
            case LogPiece():
                yield decoder.decode(piece.data)
            case LogGap():
                least = "an unknown number of" if piece.at_least is None else f"at least {piece.at_least}"
                yield f"\n[{least} bytes of {stream} are missing from offset {piece.offset} on]\n"
    yield decoder.decode(b"", final=True)


async def _logs(readers: Readers, caller: str, texts: Iterator[str]) -> Response:
    """Return the text as one JSON object that is sent while it is read: a log may be larger than the memory."""
    # An error can set the status only before the first byte is sent.
    first = await readers.read(caller, next, texts, "")

    async def written() -> AsyncIterator[bytes]:
        yield b'{"logs":"' + _escaped(first)
        async for text in readers.each_of(caller, texts):
            yield _escaped(text)
        yield b'"}'

    return StreamingResponse(written(), media_type=JSON)


def _escaped(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()
