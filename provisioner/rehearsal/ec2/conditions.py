"""What the doubled cloud is like: its delays, what it has to give, and what befalls its machines.

Plain frozen values, made by a scenario file or by a test. Durations and `at` are seconds, counted
from the beginning of the double unless said otherwise; of several rules that fit, the last one that
has begun counts.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from provisioner.core.cloud.offers import Offer


@dataclass(frozen=True)
class Where:
    """A pattern over offers, each part with `*`, `?` and `[…]`."""

    market: str = "*"
    type: str = "*"
    zone: str = "*"

    def fits(self, offer: Offer) -> bool:
        pairs = ((offer.market, self.market), (offer.instance_type, self.type), (offer.zone, self.zone))
        return all(fnmatchcase(text, pattern) for text, pattern in pairs)


@dataclass(frozen=True)
class Capacity:
    """How many machines may live in each offer that fits; None is without end."""

    machines: int | None
    where: Where = field(default_factory=Where)
    at: float = 0.0
    #: The error of an offer that has none left.
    code: str = "InsufficientInstanceCapacity"
    message: str = "There is no capacity for the requested instance type in this Availability Zone."


@dataclass(frozen=True)
class PriceRule:
    """Dollars an hour of each offer that fits."""

    dollars: float
    where: Where = field(default_factory=Where)
    at: float = 0.0


@dataclass(frozen=True)
class Quota:
    """The most vCPUs that all machines that fit may have together, as EC2 counts them."""

    vcpus: int
    where: Where = field(default_factory=Where)


@dataclass(frozen=True)
class Interruption:
    """A spot machine gets its notice `at` seconds after it runs, and is taken `notice` later."""

    at: float
    notice: float = 120.0
    where: Where = field(default_factory=Where)
    #: How many machines it befalls, the first ones; None is all.
    times: int | None = 1


@dataclass(frozen=True)
class Rebalance:
    """A spot machine is recommended to move elsewhere `at` seconds after it runs; nothing need follow."""

    at: float
    where: Where = field(default_factory=Where)
    times: int | None = 1


@dataclass(frozen=True)
class Breakdown:
    """A machine ends by itself `at` seconds after its launch, for the reason EC2 would name."""

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
    #: From the launch to `running`, when the machine's kernel starts.
    boot_delay: float = 0.0
    #: From `shutting-down` to `terminated`, at least.
    end_delay: float = 0.0
    #: How long a new machine is in no listing, and `NotFound` by its id.
    lag: float = 0.0
    #: Most seconds by which a call that describes instances is out of date, different for each call and machine. So a
    #: new machine is listed, vanishes and returns, and an old state returns after a new one (EC2 User Guide, "Eventual
    #: consistency"; the difference between calls and machines is assumed).
    flap: float = 0.0
    #: How long a new template is `NotFound` to a launch.
    template_lag: float = 0.0
    #: How long an ended machine is still shown; AWS: about an hour.
    forget_after: float = 3600.0
    capacity: tuple[Capacity, ...] = ()
    prices: tuple[PriceRule, ...] = ()
    #: From CreateImage to an available image, at least.
    image_delay: float = 0.0
    #: Dollars a month of a GiB of disk, of one of its IOPS and of a MiB/s; None where the price list has none.
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
