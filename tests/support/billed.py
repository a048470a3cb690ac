"""What AWS would bill for the machines of the double, from the double's own history and AWS's documented rules only."""

import time
from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from provisioner.core.cloud.machines import ENDING, MachineState
from provisioner.core.cloud.offers import Market, Offer
from provisioner.rehearsal.ec2.instance import Instance

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


#: The price of an hour of an offer at a time.
Hourly = Callable[[Offer, float], float | None]


def billed(machines: Iterable[Instance], hourly: Hourly, disk_month: float) -> Iterator[Billed]:
    """Yield the bill of each machine; all have ended. `disk_month` is the price of a month of a machine's disk."""
    for one in machines:
        yield _bill(one, hourly, disk_month)


def _bill(one: Instance, hourly: Hourly, disk_month: float) -> Billed:
    history = one.history
    born = history[0].at
    gone = next(change.at for change in history if change.state is MachineState.TERMINATED)
    running = next((change.at for change in history if change.state is MachineState.RUNNING), None)
    ending = next(change for change in history if change.state in ENDING)
    days = defaultdict[str, float](float)
    seconds = 0.0
    if running is not None:
        # "billed per second, with a minimum of 60 seconds" (EC2 User Guide, "On-Demand Instances", billing).
        seconds = max(60.0, ending.at - running)
        # EC2 User Guide, "Billing for interrupted Spot Instances".
        interrupted = one.offer.market is Market.SPOT and ending.reason_code == "Server.SpotInstanceTermination"
        paid = 0.0 if interrupted and seconds < 3600 else (hourly(one.offer, born) or 0.0) / 3600
        for day, part in _days(running, running + seconds):
            days[day] += part * paid
    disk = 0.0
    for day, part in _days(born, max(gone, born + 60.0)):
        year, month = int(day[:4]), int(day[5:7])
        disk += part * disk_month / (monthrange(year, month)[1] * DAY)
    return Billed(one.id, one.offer.instance_type, one.offer.market, seconds, sum(days.values()), disk, dict(days))


def _days(begins: float, ends: float) -> Iterator[tuple[str, float]]:
    """Yield each UTC day of the period, and the seconds of the period on it."""
    while begins < ends:
        until = min(ends, (begins // DAY + 1) * DAY)
        yield time.strftime("%Y-%m-%d", time.gmtime(begins)), until - begins
        begins = until
