"""Run a job on the smallest machine, through the whole path of a run: `provision check --machine`."""

import json
from collections.abc import Iterator
from typing import Any

from provisioner.core.check.lines import Group, Line, ok, warning, wrong
from provisioner.core.protocol.words import Outcome
from provisioner.core.views.receipt import Receipt
from provisioner.core.views.run import Run
from provisioner.ports.control.control import Control

NAME = "provision-check"
#: Seconds after which the run is stopped, and seconds to wait for the end of its machine after that.
LONGEST, ENDING = 900.0, 300.0
#: A small image of a registry without a login and with high limits for anonymous pulls.
IMAGE = "public.ecr.aws/docker/library/busybox:latest"
RECIPE: dict[str, Any] = {
    "type": "job",
    "spec": {
        "name": NAME,
        "image": IMAGE,
        "instance_type": "t3.micro",
        "command": "echo the machine works",
        "placement": {"gpu": "none"},
        "limits": {"queue_time": "5m", "boot": "10m", "pull": "3m", "setup": "1m", "runtime": "1m"},
    },
}


def lines(service: Control) -> Iterator[Line]:
    """Run the job, and yield its phases and cost. The machine is ended and the job deleted, also after an error."""
    job = service.jobs.apply(json.dumps(RECIPE), "the recipe of `provision check --machine`")
    for text in job.warnings:
        yield warning(Group.MACHINE, text, "see `provision docs check`")
    name = f"{job.owner}/{job.name}"
    try:
        run = service.runs.start(name, {})
        try:
            _until(service, run, LONGEST)
        finally:
            service.runs.stop(run.id)
            _until(service, run, ENDING)
        yield from _told(service.runs.get(run.id), service.runs.receipt(run.id))
    finally:
        service.jobs.delete(name)


def _until(service: Control, run: Run, seconds: float) -> None:
    """Make passes until the run is done, or `seconds` have passed."""
    end = service.operator.now() + seconds
    service.operator.drive(
        lambda: service.runs.get(run.id).done_at is not None or service.operator.now() >= end, lambda _: None
    )


def _told(run: Run, receipt: Receipt) -> Iterator[Line]:
    shown = [phase for phase in receipt.phases if not phase.beside and (phase.seconds or 0.0) >= 0.5]
    phases = [f"{phase.name} {phase.seconds:.0f} s" for phase in shown]
    if run.outcome is Outcome.SUCCEEDED:
        yield ok(Group.MACHINE, f"a job ran on one t3.micro: {', '.join(phases)}")
    else:
        reason = run.reason or f"it is still {run.state}"
        text = f"the job on one t3.micro did not succeed: {run.outcome or 'not ended'} ({reason})"
        yield wrong(
            Group.MACHINE, text, f"`provision status {run.id[:12]}` and `provision logs {run.id[:12]}` show why"
        )
    cost = receipt.dollars_at_most
    known = f"at most {cost:.4f} $, without its disk" if cost is not None else "an unknown price"
    yield ok(Group.MACHINE, f"it cost {known}")
    if run.done_at is None:
        yield wrong(Group.MACHINE, "its machine has not ended yet", f"`provision wait {run.id[:12]}` ends it")
