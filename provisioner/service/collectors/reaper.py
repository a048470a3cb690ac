"""Terminate machines that outlived their lifetime. The reaper needs no store and no bucket, only the cloud."""

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.core.cloud.machines import ENDING, Machine
from provisioner.core.errors import CloudError
from provisioner.ports.cloud import Cloud
from provisioner.ports.journal import Journal

#: Seconds that a machine without a readable lifetime tag may live: the default of `limits.runtime`.
UNTAGGED_LIFETIME = 24 * 3600.0


@dataclass(frozen=True)
class Reaped:
    """A machine that outlived its lifetime by `over_by` seconds; `error` is set if its termination was refused."""

    machine: Machine
    over_by: float
    error: CloudError | None = None


def reap(cloud: Cloud, grace: float) -> list[Reaped]:
    """Terminate the machines that are older than their lifetime tag plus `grace` seconds; return them.

    A machine's age counts from its LaunchTime, by the cloud's clock.
    """
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
    """Log a line for each machine."""
    for each in reaped:
        text = f"{each.machine.id} exceeded its lifetime by {each.over_by:.0f} s and "
        about = {"instance": each.machine.id, "launch": each.machine.launch}
        if each.error:
            journal.complain(f"{text}could not be terminated: {each.error}", now, **about, code=each.error.code)
        else:
            journal.tell(f"{text}is being terminated", now, **about)
