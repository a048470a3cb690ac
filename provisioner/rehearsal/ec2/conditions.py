"""The conditions of the EC2 double: its delays, capacity and prices, and what happens to its machines.

They are plain frozen values, made from a scenario file or by a test. Durations are in seconds; `at` and `ends` are
seconds since the start of the double unless stated otherwise. If several capacity or price rules fit, the one that
began last applies. If several rules with `times` fit, the first one that is not used up applies.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from provisioner.core.cloud.offers import Offer


@dataclass(frozen=True)
class Where:
    """Patterns for an offer's market, instance type and zone, with `*`, `?` and `[…]`."""

    market: str = "*"
    type: str = "*"
    zone: str = "*"

    def fits(self, offer: Offer) -> bool:
        pairs = ((offer.market, self.market), (offer.instance_type, self.type), (offer.zone, self.zone))
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)


@dataclass(frozen=True)
class Capacity:
    """The maximum number of live machines in each offer that fits; None: no limit."""

    machines: int | None
    where: Where = field(default_factory=Where)
    at: float = 0.0
    #: The error of an offer without capacity. The text is assumed: EC2's differs between markets.
    code: str = "InsufficientInstanceCapacity"
    message: str = "There is no capacity for the requested instance type in this Availability Zone."


@dataclass(frozen=True)
class PriceRule:
    """The price of each offer that fits, in dollars an hour."""

    dollars: float
    where: Where = field(default_factory=Where)
    at: float = 0.0


@dataclass(frozen=True)
class Quota:
    """The maximum number of vCPUs, as EC2 counts them, of all machines together in the offers that fit."""

    vcpus: int
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class Interruption:
    """A spot machine gets its notice `at` seconds after it is running; EC2 reclaims it `notice` seconds later."""

    at: float
    notice: float = 120.0
    where: Where = field(default_factory=Where)
    #: Number of machines to interrupt, in the order in which they boot; None: all.
    times: int | None = 1


@dataclass(frozen=True)
class Rebalance:
    """A spot machine gets a rebalance recommendation `at` seconds after it is running; a notice may never follow."""

    at: float
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class Breakdown:
    """A machine ends by itself `at` seconds after its launch, with EC2's code and message for the reason.

    EC2 API Reference, "StateReason". A disk whose key is denied ends its machine with the code Client.InternalError and
    the message `Client error on launch` (EC2 User Guide, "Instance terminates immediately").
    """

    at: float = 0.0
    code: str = "Server.InternalError"
    message: str = "Internal error on launch"
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class GpuFault:
    """A machine's GPUs cannot be used.

    `hangs`: nvidia-smi never answers, and cannot be killed (awslabs/amazon-eks-ami issue 1523: one g5 of five).
    `fabric`: nvidia-smi lists the GPUs, but their NVLink fabric stays "In Progress" (dstackai/dstack issue 2348).
    """

    fault: str
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class Impairment:
    """A machine's EC2 status checks fail, beginning `at` seconds after its launch.

    Assumed: only the instance's own check fails (EC2 User Guide, "Status checks" has both).
    """

    at: float = 0.0
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class ZoneTrouble:
    """A zone is disrupted from `at` until `ends`.

    A call that describes instances fails if it has no ids, or the id of a machine in such a zone. A call with only
    ids of machines in other zones works (EC2 API Reference, "DescribeInstances").
    """

    at: float
    ends: float
    zone: str = "*"


@dataclass(frozen=True)
class Absence:
    """From `at` until `ends`, calls that describe instances omit the machines that fit `where`.

    Assumed: the worst case of EC2's eventual consistency, in which a listed machine disappears and returns.
    """

    at: float
    ends: float
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class FleetLimit:
    """From `at` until `ends` the account has reached its limit of fleets.

    CreateFleet is refused with MaxFleetCountExceeded (EC2 API Reference, "Error codes").
    """

    at: float
    ends: float


@dataclass(frozen=True)
class Verification:
    """From `at` until `ends` AWS verifies the account: every launch is refused with PendingVerification."""

    at: float
    ends: float


@dataclass(frozen=True)
class Lapse:
    """From `at` until `ends` the control plane's login has expired: AWS refuses every call that it makes.

    A login may expire in the middle of a pass.
    """

    at: float
    ends: float


@dataclass(frozen=True)
class Unheeded:
    """The first `times` TerminateInstances calls for a machine succeed without an effect.

    Assumed: TerminateInstances answers before the machine's state changes, and AWS does not document how long before.
    """

    times: int
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class Reserved:
    """Capacity that the account has reserved: an On-Demand Capacity Reservation, or a Capacity Block."""

    id: str
    type: str
    zone: str
    machines: int
    #: When it begins and ends; None: it does not end.
    at: float = 0.0
    ends: float | None = None
    block: bool = False
    #: The ARN of the group that it is in, or "".
    group: str = ""


@dataclass(frozen=True)
class Conditions:
    #: Seconds from the launch to `running`, when the machine's kernel starts. Assumed: EC2 may show `running` earlier.
    boot_delay: float = 0.0
    #: Minimum seconds from `shutting-down` to `terminated`: minutes for machines with GPUs, by users' reports.
    end_delay: float = 0.0
    #: Seconds for which a new machine is not listed, and a call with its id fails with `NotFound` (EC2 Developer Guide,
    #: "Eventual consistency"; how long this lasts is assumed: the guide waits for up to five minutes).
    lag: float = 0.0
    #: Maximum seconds by which a call that describes instances is out of date, different for each call and machine. So
    #: a new machine is listed, disappears and returns, and an old state is shown after a new one (EC2 User Guide,
    #: "Eventual consistency"; the difference between calls and machines is assumed).
    flap: float = 0.0
    #: Seconds for which a launch from a new launch template fails with `NotFound` (ibid.; assumed for templates).
    template_lag: float = 0.0
    #: Maximum number of placement groups (EC2 User Guide, "Placement groups").
    placement_groups: int = 500
    #: Seconds for which a new placement group is pending (EC2 API Reference, "PlacementGroup"). Assumed: until then,
    #: launches into it fail with `Unknown`.
    group_lag: float = 0.0
    #: Seconds for which a terminated machine is still listed; AWS: about an hour.
    forget_after: float = 3600.0
    capacity: tuple[Capacity, ...] = ()
    prices: tuple[PriceRule, ...] = ()
    #: Minimum seconds from CreateImage to an available AMI.
    image_delay: float = 0.0
    #: Dollars a month for a GiB of disk, for one IOPS, and for one MiB/s; None if the price list has no disks.
    disk: tuple[float, float, float] | None = None
    quotas: tuple[Quota, ...] = ()
    interruptions: tuple[Interruption, ...] = ()
    rebalances: tuple[Rebalance, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    gpu_faults: tuple[GpuFault, ...] = ()
    impairments: tuple[Impairment, ...] = ()
    zone_troubles: tuple[ZoneTrouble, ...] = ()
    absences: tuple[Absence, ...] = ()
    fleet_limits: tuple[FleetLimit, ...] = ()
    verifications: tuple[Verification, ...] = ()
    lapses: tuple[Lapse, ...] = ()
    unheeded: tuple[Unheeded, ...] = ()
    #: Patterns for the zones whose subnet has no way out: machines there reach no address of AWS.
    no_way_out: tuple[str, ...] = ()
    reservations: tuple[Reserved, ...] = ()
    #: Whether a replayed CreateFleet returns the same machines with different errors. Assumed: AWS does not document
    #: the answer to a replayed instant fleet.
    replay_errors: bool = False

    def lapsed(self, began: float, now: float) -> bool:
        """Return whether the control plane's login has expired at `now`; the double started at the time `began`."""
        return any(began + one.at <= now < began + one.ends for one in self.lapses)

    def unverified(self, began: float, now: float) -> bool:
        """Return whether AWS verifies the account at `now`; the double started at the time `began`."""
        return any(began + one.at <= now < began + one.ends for one in self.verifications)

    def why_full(self, offer: Offer, machines: int, began: float, now: float) -> tuple[str, str] | None:
        """Return code and message if the offer has no room for one more machine beside so many, else None.

        The double started at the Unix time `began`.
        """
        fitting = [rule for rule in self.capacity if rule.where.fits(offer) and began + rule.at <= now]
        if not fitting:
            return None
        rule = max(enumerate(fitting), key=lambda item: (item[1].at, item[0]))[1]
        return None if rule.machines is None or machines < rule.machines else (rule.code, rule.message)
