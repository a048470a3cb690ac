"""What AWS would bill for the machines of a world, from the double's own history and AWS's documented rules only."""

import time
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.offers import Market
from provisioner.rehearsal.ec2.instance import Instance
from provisioner.rehearsal.ec2.model import Model

DAY = 86400.0


@dataclass(frozen=True)
class Billed:
    """The bill of one machine."""

    instance_id: str
    instance_type: str
    market: str
    seconds: float
    dollars: float
    disk_dollars: float
    #: US dollars of the machine, and seconds that it ran, by UTC day.
    by_day: Mapping[str, float]


def billed(model: Model, disk_gib: int) -> Iterator[Billed]:
    """Yield the bill of every machine that ever was; all of them have ended."""
    for one in model.every():
        yield _bill(model, one, disk_gib)


def _bill(model: Model, one: Instance, disk_gib: int) -> Billed:
    history = model.history(one.id)
    born = history[0].at
    gone = next(change.at for change in history if change.state is MachineState.TERMINATED)
    running = next((change.at for change in history if change.state is MachineState.RUNNING), None)
    ending = next(change for change in history if change.state in ENDING)
    hourly = model.price(one.offer, born) or 0.0
    days = defaultdict[str, float](float)
    seconds = 0.0
    if running is not None:
        # "billed per second, with a minimum of 60 seconds" (EC2 User Guide, "On-Demand Instances", billing).
        seconds = max(60.0, ending.at - running)
        # EC2 User Guide, "Billing for interrupted Spot Instances".
        interrupted = one.offer.market is Market.SPOT and ending.reason_code == "Server.SpotInstanceTermination"
        paid = 0.0 if interrupted and seconds < 3600 else hourly / 3600
        for day, part in _days(running, running + seconds):
            days[day] += part * paid
    gib = (model.conditions.disk or (0.0, 0.0, 0.0))[0]
    disk = 0.0
    for day, part in _days(born, max(gone, born + 60.0)):
        year, month = int(day[:4]), int(day[5:7])
        disk += part * gib * disk_gib / (monthrange(year, month)[1] * DAY)
    return Billed(one.id, one.offer.instance_type, one.offer.market, seconds, sum(days.values()), disk, dict(days))


def _days(begins: float, ends: float) -> Iterator[tuple[str, float]]:
    """Yield each UTC day of the period, and the seconds of the period on it."""
    while begins < ends:
        until = min(ends, (begins // DAY + 1) * DAY)
        yield time.strftime("%Y-%m-%d", time.gmtime(begins)), until - begins
        begins = until
