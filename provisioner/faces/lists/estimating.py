"""Estimate what a list needs that is not started yet."""

from provisioner.core.cost.estimate import Dollars, estimate
from provisioner.core.run.lists.uploading import cut
from provisioner.core.views.commands import Estimate
from provisioner.core.views.job import Job
from provisioner.faces.lists.lines import Text
from provisioner.ports.control.control import Control
from provisioner.ports.store import RunFilter

#: Maximum number of the job's runs that are looked at for the time of a command.
LOOKED = 20


def estimated(control: Control, job: Job, text: Text, scale: int | None) -> Estimate:
    """Return what a list would need; all its commands are read and checked."""
    spec, count, size, first, last = job.recipe["spec"], 0, 0, b"", b""
    for more, part in cut(text.pieces, null=text.null):
        first = first or part[: part.index(0)]
        last = part[part.rfind(b"\0", 0, -1) + 1 : -1]
        count, size = count + more, size + len(part) - more
    name, slots = f"{job.owner}/{job.name}", spec.get("nprocs") or 1
    prices = control.jobs.prices(name)
    known = None if prices.least is None or prices.most is None else Dollars(prices.least, prices.most)
    measured, seconds = _measured(control, name)
    found = estimate(count, scale or spec["scale"], slots, known, seconds)
    return Estimate(
        commands=count,
        bytes=size,
        first=first.decode(),
        last=last.decode(),
        machines=found.machines,
        slots=found.machines * slots,
        hourly_dollars_least=found.hourly.least if found.hourly else None,
        hourly_dollars_most=found.hourly.most if found.hourly else None,
        measured=measured,
        command_seconds=seconds,
        seconds=found.seconds,
        dollars_least=found.dollars.least if found.dollars else None,
        dollars_most=found.dollars.most if found.dollars else None,
    )


def _measured(control: Control, job: str) -> tuple[str | None, float | None]:
    """Return the job's latest run that has measured how long a command takes, and these seconds."""
    for run in control.runs.find(RunFilter(job=job, limit=LOOKED)):
        if run.commands and run.commands.succeeded:
            found = control.runs.status(run.id).run.commands
            if found and found.command_seconds is not None:
                return run.id, found.command_seconds
    return None, None
