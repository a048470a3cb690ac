"""Groups of recipe fields: the placement of machines, limits, retries, and runs with several machines."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator

from provisioner.core.recipe import duration, fields, kinds
from provisioner.core.recipe.kinds import Part
from provisioner.core.recipe.yaml import Path

#: Maximum number of seconds after the command's end in which a machine ships the log that is still on its disk.
LOGS_TIME = 600.0
#: Seconds of the boot fuse, which powers off a machine without a work order, whatever the recipe's limits are.
_BOOT_FUSE = 1200.0
#: Seconds that a bare-metal machine may take from launch to the agent's first report: its firmware checks the whole
#: hardware first. Reports name 706 to 820 s for the fifth generation, and more than 20 minutes for others.
METAL_BOOT = 1500.0
#: The least `limits.silence`, in seconds: heartbeats may be lost, and no machine counts as silent earlier.
_SHORTEST_SILENCE = 180.0


class Placement(Part):
    """Where machines may be launched, and alternatives if the first choice has no capacity."""

    #: Instance types to try after `instance_type`.
    instance_types: tuple[fields.InstanceType, ...] = ()
    #: Zones to launch in; if empty, all zones of the installation.
    zones: tuple[fields.Zone, ...] = ()
    #: Whether to launch on-demand if no spot machine is available. On-demand costs more, so the user decides.
    spot_fallback: fields.Flag = False
    #: Some of the installation's subnets; if empty, all of them.
    subnets: tuple[fields.Subnet, ...] = ()
    #: Bytes for the AMI, the job's unpacked image and its data; if unset, the installation's size. EBS allows 16 TiB.
    disk_size: Annotated[fields.Size, kinds.sized("8Gi", "16Ti")] | None = None
    #: MiB/s of the disk; if unset, EBS's default of 125.
    disk_throughput: Annotated[int, kinds.between(125, 1000, "MiB a second")] | None = None
    #: With `none`, instance types without an NVIDIA GPU are accepted; otherwise such a type counts as a mistake.
    gpu: Literal["required", "none"] = "required"
    #: US dollars for an hour of a machine. Offers whose price is higher, or unknown, are skipped.
    max_price: fields.DollarsOrNever = None
    #: With `cluster`, EC2 places the machines of a run close to each other; if unset, wherever it has capacity.
    group: Literal["cluster"] | None = None
    #: A capacity reservation, a Capacity Block or a group of these, in which alone machines are launched. If unset, the
    #: reservation of the settings, for jobs that fit it; `none` for no reservation.
    reservation: fields.Reservation | None = None

    @property
    def disk_gib(self) -> int | None:
        """Whole GiB for the disk, as EC2 counts them; None for the installation's size."""
        return self.disk_size and math.ceil(self.disk_size / (1 << 30))

    @property
    def reserved(self) -> str:
        """The reservation that the recipe names, or ""."""
        return "" if self.reservation in (None, fields.UNRESERVED) else self.reservation or ""


def of_reservation(placement: Placement, *, spot: bool) -> Iterator[tuple[Path, str]]:
    """Yield the fields that a recipe cannot have together with the reservation that it names."""
    where = ("spec", "placement", "reservation")
    if placement.reserved and spot:
        yield where, "spot machines cannot use a reservation: leave it out, or set use_spot_instance to false"
    if placement.reserved and placement.group:
        # EC2 launches into a placement group only from a reservation that was made in this group.
        yield where, "machines of a reservation cannot be in a placement group: leave placement.group out"


def _patient(silence: float | None) -> float | None:
    if silence is not None and silence < _SHORTEST_SILENCE:
        raise ValueError(f"write at least {duration.text(_SHORTEST_SILENCE)}, or never")
    return silence


class Limits(Part):
    """The longest duration of each part of a run, in seconds, and its highest cost."""

    #: For the command. The default allows a day of training, and limits the cost of a command that hangs.
    runtime: Annotated[fields.Duration, fields.lasting()] = 86400.0
    #: For the wait for a machine. The default is `never` (None), because waiting costs nothing.
    queue_time: fields.DurationOrNever = None
    #: From launch to the agent's first report, or from delivery of the work order if that was later: an agent without a
    #: work order cannot report. Large GPU machines need most of the default, and a broken machine uses all of it. Bare
    #: metal has at least METAL_BOOT.
    boot: Annotated[fields.Duration, fields.lasting(_BOOT_FUSE)] = 600.0
    #: For pulling the image and cloning, which are parallel: tens of GB from a slow registry take half of the default.
    pull: Annotated[fields.Duration, fields.lasting()] = 3600.0
    #: For the start script: compiling an extension or fetching weights takes a large part of the default.
    setup: Annotated[fields.Duration, fields.lasting()] = 3600.0
    #: From SIGTERM to SIGKILL after a stop or a limit, to save a checkpoint. A spot notice leaves about 100 s instead.
    stop_grace: Annotated[fields.Duration, fields.lasting()] = 30.0
    #: A machine that sends no report for this long counts as lost, even if EC2's status checks pass. With `never`
    #: (None), silence alone does not make it lost before the end of its lifetime.
    silence: Annotated[fields.DurationOrNever, AfterValidator(_patient)] = None
    #: How long a machine that is ready waits for the other machines of its run. If unset, runs with several machines
    #: have the sum of `pull` and `setup`.
    gather: Annotated[fields.Duration, fields.lasting()] | None = None
    #: US dollars of all machines of the run, of all its attempts, without disks. The control plane stops the run so
    #: that it ends below this limit.
    cost: fields.DollarsOrNever = None

    def on(self, instance_type: str) -> Self:
        """Return the limits on a machine of this type: a bare-metal machine has at least METAL_BOOT to boot.

        The sizes of bare metal are `metal` and, for instance, `metal-24xl` (EC2 User Guide, "Instance type naming
        conventions").
        """
        metal = instance_type.partition(".")[2].startswith("metal")
        return self.model_copy(update={"boot": METAL_BOOT}) if metal and self.boot < METAL_BOOT else self

    @property
    def lifetime(self) -> float:
        """Seconds that a machine may exist for a run: the sum of the limits, and the time to ship the log."""
        prepare = self.boot + self.pull + self.setup + (self.gather or 0.0)
        return prepare + self.runtime + self.stop_grace + LOGS_TIME


class Retry(Part):
    """Which attempts are followed by another attempt, and when."""

    #: Exit codes after which the run is tried again, up to `retries` times; it fails at once with any other code. If
    #: empty, all codes.
    on: tuple[fields.ExitCode, ...] = ()
    #: Exit codes with which the command reports that its work is saved but not finished. The command then runs again
    #: without using up `retries`, at most as often as after failures of the infrastructure.
    requeue_on: tuple[fields.ExitCode, ...] = ()
    #: Pause after a failed attempt, in seconds. After a failure of the infrastructure, other pauses apply.
    backoff: fields.DurationOrNow = 0.0
    #: Whether a command that had begun may run again on another machine, if the first machine is lost or interrupted.
    rerun: Literal["always", "before_start"] = "always"


class Gang(Part):
    """Options of runs with several machines: which ends decide the run, and the variables. Ignored if `scale` is 1."""

    #: Which ranks must exit with 0: `all`; or only the leader, rank 0, whose end then ends the other ranks.
    success: Literal["all", "leader"] = "all"
    #: With `success: leader`, whether the failure of another rank ends the run (`end`) or not (`ignore`).
    workers: Literal["end", "ignore"] = "end"
    #: When a machine is lost or interrupted: `keep` the others for the next attempt, or `release` them. If unset, spot
    #: machines are kept and on-demand machines are released.
    survivors: Literal["keep", "release"] | None = None
    #: Whether the command gets the variables of torchrun and similar launchers, such as MASTER_ADDR and PET_NNODES.
    env: fields.Flag = True
