"""The conditions of the EC2 double: its delays, capacity and prices, and what happens to its machines.

They are plain frozen values, made from a scenario file or by a test. Durations are in seconds; `at` and `ends` are
seconds since the start of the double unless stated otherwise. Of several capacity or price rules that fit, the one that
began last counts. Of several rules with `times`, the first one that fits and is not used up counts.
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
    """The most machines that may be alive in each offer that fits; None: any number."""

    machines: int | None
    where: Where = field(default_factory=Where)
    at: float = 0.0
    #: The error of an offer without capacity.
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
    """The most vCPUs, as EC2 counts them, that all machines of offers that fit may have together."""

    vcpus: int
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class Interruption:
    """A spot machine gets its notice `at` seconds after it is running, and is taken `notice` seconds later."""

    at: float
    notice: float = 120.0
    where: Where = field(default_factory=Where)
    #: Number of machines that are interrupted, the first ones; None: all.
    times: int | None = 1


@dataclass(frozen=True)
class Rebalance:
    """A spot machine gets a rebalance recommendation `at` seconds after it is running; no notice need follow."""

    at: float
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class Breakdown:
    """A machine ends by itself `at` seconds after its launch, with EC2's code and message for the reason."""

    at: float = 0.0
    code: str = "Server.InternalError"
    message: str = "Internal error on launch"
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class Impairment:
    """EC2's status checks of a machine fail from `at` seconds after its launch on."""

    at: float = 0.0
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class ZoneTrouble:
    """A zone is disrupted from `at` until `ends`.

    A call that describes instances fails if it names no id, or names one in such a zone; one that names only
    ids in other zones works (EC2 API Reference, "DescribeInstances").
    """

    at: float
    ends: float
    zone: str = "*"


@dataclass(frozen=True)
class Absence:
    """From `at` until `ends`, calls that describe instances omit those that fit `where`.

    Assumed: the worst case of EC2's eventual consistency, a listed machine that vanishes and returns.
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
class Unheeded:
    """The first `times` terminations of a machine succeed without an effect.

    Assumed: TerminateInstances answers before the machine's state changes, and AWS does not document how long before.
    """

    times: int
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class Conditions:
    #: Seconds from the launch to `running`, when the machine's kernel starts.
    boot_delay: float = 0.0
    #: Least seconds from `shutting-down` to `terminated`.
    end_delay: float = 0.0
    #: Seconds for which a new machine is in no listing, and `NotFound` by its id.
    lag: float = 0.0
    #: Most seconds by which a call that describes instances is out of date, different for each call and machine. So a
    #: new machine is listed, vanishes and returns, and an old state returns after a new one (EC2 User Guide, "Eventual
    #: consistency"; the difference between calls and machines is assumed).
    flap: float = 0.0
    #: Seconds for which a new launch template is `NotFound` to a launch.
    template_lag: float = 0.0
    #: Seconds for which a terminated machine is still listed; AWS: about an hour.
    forget_after: float = 3600.0
    capacity: tuple[Capacity, ...] = ()
    prices: tuple[PriceRule, ...] = ()
    #: Least seconds from CreateImage to an available image.
    image_delay: float = 0.0
    #: Dollars a month for a GiB of disk, for one of its IOPS and for a MiB/s; None if the price list has no disks.
    disk: tuple[float, float, float] | None = None
    quotas: tuple[Quota, ...] = ()
    interruptions: tuple[Interruption, ...] = ()
    rebalances: tuple[Rebalance, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    impairments: tuple[Impairment, ...] = ()
    zone_troubles: tuple[ZoneTrouble, ...] = ()
    absences: tuple[Absence, ...] = ()
    fleet_limits: tuple[FleetLimit, ...] = ()
    unheeded: tuple[Unheeded, ...] = ()
    #: A replayed CreateFleet answers with the same machines and different errors. Assumed: AWS does not document the
    #: answer to a replayed instant fleet.
    replay_errors: bool = False
