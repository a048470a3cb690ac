"""Attempts in the form of Saturn's API: a pod is a node, its containers are the streams of its log.

The shapes are those of Saturn's public OpenAPI (2026.02.01), and fields that are missing there but that Saturn's own
client needs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NotRequired, TypedDict

from provisioner.core.errors import NotFound
from provisioner.core.protocol.words import Outcome, Step
from provisioner.core.run.states import State
from provisioner.core.views.codec import maybe_iso
from provisioner.core.views.run import Attempt as View
from provisioner.core.views.run import Run, Status
from provisioner.faces.api.saturn.recipes import ENDED, LIVE

MAIN = "main"
#: The log stream of each container; boot and setup, which come before the command, are init containers.
STREAM_OF = {"boot": "system", "setup": "setup", MAIN: "output"}


class Container(TypedDict):
    """A part of a pod that has a log."""

    name: Annotated[str, "main: the command; boot and setup: the steps before it."]
    status: Annotated[str, "waiting, running, completed, error"]
    exit_code: int | None
    finished_at: str | None
    previous: None
    logs: NotRequired[Annotated[str, "The log's last lines; if absent, request /api/active/pods/POD/logs."]]


class Pod(TypedDict):
    """An attempt of a run; the last one may still wait for a machine."""

    name: str
    status: Annotated[str, "pending, running, stopping, completed, stopped, error"]
    labels: Annotated[dict[str, str], "`saturncloud.io/resource-id`: the job's id; `job-name`: the run's id."]
    started_at: Annotated[str, "Empty until the attempt has a machine."]
    completed_at: str | None
    reason: str | None


class RuntimeSummary(Pod):
    """A pod with its containers."""

    init_container_summaries: list[Container]
    container_summaries: list[Container]


class HistoricalPod(TypedDict):
    """A pod in the history of a job."""

    pod_name: str
    status: str
    start_time: str | None
    end_time: str | None
    last_seen: str | None
    label_job_name: Annotated[str, "The run's id."]


@dataclass(frozen=True)
class Attempt:
    """An attempt of a run on its machine; `view` is None while it waits for a machine."""

    run: Run
    number: int
    rank: int = 0
    view: View | None = None

    @property
    def pod(self) -> str:
        return f"{self.run.job}-{self.run.id}-{self.number}-{self.rank}"

    @property
    def outcome(self) -> Outcome | None:
        """The attempt's outcome; None until it has ended."""
        if self.view and self.view.outcome:
            return self.view.outcome
        return self.run.outcome if self.number >= self.run.attempt else None

    @property
    def ended_at(self) -> float | None:
        if self.view and self.view.outcome:
            return self.view.ended_at
        return self.run.ended_at if self.outcome else None

    @property
    def process_exit_code(self) -> int | None:
        if self.view and self.view.outcome:
            return self.view.process_exit_code
        return self.run.process_exit_code if self.outcome else None

    @property
    def ended_in(self) -> Step:
        """The step in which the attempt ended; BOOT if it had no machine."""
        return (self.view and self.view.ended_in) or Step.BOOT

    @property
    def begun(self) -> bool:
        """Whether the attempt's command was executed."""
        if self.outcome:
            return self.ended_in in (Step.COMMAND, Step.LOGS)
        return self.status != "pending" and self.view is not None and self.view.heard_at is not None

    @property
    def status(self) -> str:
        if self.outcome:
            return ENDED.get(self.outcome, "error")
        return LIVE.get(self.run.state, "pending") if self.view else "pending"

    @property
    def started_at(self) -> float | None:
        return self.view.bound_at if self.view else None


def of(run: Run, attempts: Sequence[View]) -> tuple[Attempt, ...]:
    """Return the run's attempts in order; the last has no view if the run waits for a machine or never got one."""
    known = tuple(Attempt(run, each.attempt, each.rank, each) for each in attempts)
    waits = run.ended_at is None and run.state in (State.QUEUED, State.LAUNCHING)
    if known and not waits:
        return known
    return (*known, Attempt(run, max((each.number for each in known), default=0) + 1))


def run_of(pod: str) -> str:
    """Return the id of the run that the pod belongs to; raises NotFound."""
    parts = pod.rsplit("-", 3)
    # Accept only a complete id: a prefix may match several runs.
    if len(parts) != 4 or not re.fullmatch("[0-9a-f]{32}", parts[1]):
        raise NotFound(f"no pod {pod!r}; a pod's name is JOB-RUN-ATTEMPT-RANK, with the run's complete id")
    return parts[1]


def named(status: Status, pod: str) -> Attempt:
    """Return the attempt whose pod has this name; raises NotFound."""
    for each in of(status.run, status.attempts):
        if each.pod == pod:
            return each
    raise NotFound(f"no pod {pod!r}; /api/jobs/JOB/history lists a job's pods")


def summary(item: Attempt) -> Pod:
    return {
        "name": item.pod,
        "status": item.status,
        "labels": {"saturncloud.io/resource-id": item.run.job_id, "job-name": item.run.id},
        "started_at": maybe_iso(item.started_at) or "",
        "completed_at": maybe_iso(item.ended_at),
        "reason": None,
    }


def runtime_summary(item: Attempt, preparing: Mapping[str, str]) -> RuntimeSummary:
    """Return the pod with its containers; `preparing` maps init containers to logs if the command has not begun."""
    before = [_preparing(item, name, preparing) for name in STREAM_OF if name != MAIN]
    return {**summary(item), "init_container_summaries": before, "container_summaries": [_main(item, preparing)]}


def _main(item: Attempt, preparing: Mapping[str, str]) -> Container:
    if not item.begun:
        # While `main` waits, the client shows the init containers. If one of them has `logs` in this summary, the
        # client takes the logs of all containers from the summary.
        waiting = _container(MAIN, "waiting")
        return {**waiting, "logs": ""} if preparing else waiting
    if item.outcome is None:
        return _container(MAIN, "running")
    status = "completed" if item.status == "completed" else "error"
    return _container(MAIN, status, item.process_exit_code, item.ended_at)


def _preparing(item: Attempt, name: str, logs: Mapping[str, str]) -> Container:
    told = _container(name, "waiting")
    if name in logs:
        told["logs"] = logs[name]
    if item.begun:
        return {**told, "status": "completed", "exit_code": 0}
    if item.outcome and name == ("setup" if item.ended_in is Step.SETUP else "boot"):
        code, ended = item.process_exit_code, maybe_iso(item.ended_at)
        return {**told, "status": "error", "exit_code": code, "finished_at": ended}
    return {**told, "status": "running"} if item.view and not item.outcome else told


def _container(name: str, status: str, exit_code: int | None = None, ended_at: float | None = None) -> Container:
    ended = maybe_iso(ended_at)
    return {"name": name, "status": status, "exit_code": exit_code, "finished_at": ended, "previous": None}


def historical(item: Attempt) -> HistoricalPod:
    return {
        "pod_name": item.pod,
        "status": item.status,
        "start_time": maybe_iso(item.started_at),
        "end_time": maybe_iso(item.ended_at),
        "last_seen": maybe_iso(item.ended_at or item.started_at or item.run.created_at),
        "label_job_name": item.run.id,
    }
