"""Attempts as Saturn's API tells them: a pod is a node, its containers are the streams of its log.

Shapes are those of the public OpenAPI (2026.02.01), with what its own client demands beyond it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.core.errors import NotFound
from provisioner.core.record import Node, Run, Verdict
from provisioner.core.run import State
from provisioner.core.work import Outcome
from provisioner.faces.shapes import moment
from provisioner.ports.control import Status

#: The stream that each container's log is; what comes before the command is told as containers that prepare.
MAIN = "main"
PREPARING = {"boot": "system", "setup": "setup"}
STREAM_OF = {MAIN: "output", **PREPARING}

_LIVE = {State.RUNNING: "running", State.STOPPING: "stopping"}
_ENDED = {Outcome.SUCCEEDED: "completed", Outcome.CANCELLED: "stopped"}
_CONTAINER = {"pending": "waiting", "running": "running", "stopping": "running"}


@dataclass(frozen=True)
class Pod:
    """One attempt of a run on one machine, or the one that is waited for, which has no node yet."""

    run: Run
    attempt: int
    rank: int = 0
    node: Node | None = None

    @property
    def name(self) -> str:
        return f"{self.run.job_name}-{self.run.id}-{self.attempt}-{self.rank}"

    @property
    def verdict(self) -> Verdict | None:
        """What ended it, once it has ended."""
        if self.node and self.node.verdict:
            return self.node.verdict
        newest = self.attempt >= self.run.attempt
        return self.run.verdict if newest and self.run.ended_at is not None else None

    @property
    def status(self) -> str:
        if self.verdict:
            return _ENDED.get(self.verdict.outcome, "error")
        return _LIVE.get(self.run.state, "pending") if self.node else "pending"

    @property
    def started_at(self) -> float | None:
        return self.node.bound_at if self.node else None

    @property
    def ended_at(self) -> float | None:
        return self.verdict.at if self.verdict else None


def pods_of(status: Status) -> tuple[Pod, ...]:
    """The run's attempts in order, and the next one where a machine is waited for."""
    run = status.run
    known = tuple(Pod(run, node.attempt, node.rank, node) for node in status.nodes)
    waits = run.state in (State.QUEUED, State.LAUNCHING) and run.ended_at is None
    return (*known, Pod(run, max((pod.attempt for pod in known), default=0) + 1)) if waits or not known else known


def run_of(name: str) -> str:
    """The id of the run whose pod has that name; raises NotFound."""
    parts = name.rsplit("-", 3)
    if len(parts) != 4:
        raise NotFound(f"there is no pod {name!r}")
    return parts[1]


def pod_of(status: Status, name: str) -> Pod:
    """The pod of that name; raises NotFound."""
    for pod in pods_of(status):
        if pod.name == name:
            return pod
    raise NotFound(f"there is no pod {name!r}")


def summary(pod: Pod) -> dict[str, Any]:
    """A pod of `GET /api/active/pods`: no time may be null before it is told, and labels must be there."""
    return {
        "name": pod.name,
        "status": pod.status,
        "labels": {"saturncloud.io/resource-id": pod.run.job_id, "job-name": pod.run.id},
        "started_at": moment(pod.started_at) or "",
        "completed_at": moment(pod.ended_at),
        "reason": None,
    }


def runtime_summary(pod: Pod, preparing: Mapping[str, str] | None) -> dict[str, Any]:
    """A pod with its containers; `preparing` has the log of those before the command while it has not begun."""
    logs = preparing or {}
    return summary(pod) | {
        "init_container_summaries": [_preparing(pod, name, logs) for name in PREPARING],
        "container_summaries": [_main(pod, told=preparing is not None)],
    }


def _main(pod: Pod, *, told: bool) -> dict[str, Any]:
    verdict = pod.verdict
    ended = "completed" if pod.status == "completed" else "error"
    container: dict[str, Any] = {
        "name": MAIN,
        "status": ended if verdict else _CONTAINER[pod.status],
        "exit_code": verdict and verdict.exit_code,
        "finished_at": moment(pod.ended_at),
        "previous": None,
    }
    # The client formats text that is here, and asks for it elsewhere if it is nowhere.
    return container | {"logs": ""} if told else container


def _preparing(pod: Pod, name: str, logs: Mapping[str, str]) -> dict[str, Any]:
    begun = pod.status != "pending"
    container: dict[str, Any] = {
        "name": name,
        "status": "completed" if begun else "running" if pod.node else "waiting",
        "exit_code": 0 if begun else None,
        "finished_at": None,
        "previous": None,
    }
    return container | {"logs": logs[name]} if name in logs else container


def historical(pod: Pod) -> dict[str, Any]:
    """A pod of `GET /api/jobs/{id}/history`."""
    return {
        "pod_name": pod.name,
        "status": pod.status,
        "start_time": moment(pod.started_at),
        "end_time": moment(pod.ended_at),
        "last_seen": moment(pod.ended_at or pod.started_at or pod.run.created_at),
        "label_job_name": pod.run.id,
    }


def job_status(live: Sequence[Run], last: Run | None) -> str:
    """The one word for all runs of a job: of those that live, else of the last one."""
    for state, word in _LIVE.items():
        if any(run.state is state and run.ended_at is None for run in live):
            return word
    if live:
        return "pending" if any(run.ended_at is None for run in live) else "stopping"
    verdict = last.verdict if last else None
    return _ENDED.get(verdict.outcome, "error") if verdict else "stopped"
