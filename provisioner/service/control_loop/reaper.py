"""The collector that needs only the cloud and the installation's id."""

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.cloud.machines import ENDING, Machine
from provisioner.core.errors import CloudError
from provisioner.ports.cloud import Cloud
from provisioner.ports.journal import Journal

#: A machine without a readable lifetime tag was never meant to be: the longest default run.
UNTAGGED_LIFETIME = 24 * 3600.0


@dataclass(frozen=True)
class Reaped:
    """One machine past its time; `error` when its end was not accepted."""

    machine: Machine
    over_by: float
    error: CloudError | None = None


def reap(cloud: Cloud, grace: float) -> list[Reaped]:
    """End every machine past LaunchTime + lifetime tag + `grace` seconds, by the cloud's own clock."""
    listing = cloud.machines()
    over = []
    for machine in listing.machines:
        lifetime = machine.lifetime if machine.lifetime is not None else UNTAGGED_LIFETIME
        late = listing.at - (machine.launch_time + lifetime + grace)
        if machine.state not in ENDING and late > 0:
            over.append((machine, late))
    refused = cloud.terminate([machine.id for machine, _ in over]) if over else {}
    return [Reaped(machine, late, refused.get(machine.id)) for machine, late in over]


def tell(reaped: Sequence[Reaped], journal: Journal, now: float) -> None:
    """A line for each."""
    for each in reaped:
        text = f"{each.machine.id} outlived its time by {each.over_by:.0f} s and "
        about = {"instance": each.machine.id, "launch": each.machine.launch}
        if each.error:
            journal.complain(f"{text}could not be ended: {each.error}", now, **about, code=each.error.code)
        else:
            journal.tell(f"{text}is being ended", now, **about)
