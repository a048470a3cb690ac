"""Capacity reservations that the account has bought.

A reservation is an On-Demand Capacity Reservation or a Capacity Block. Times are Unix seconds.
Sources: EC2 User Guide, "On-Demand Capacity Reservations" and "Capacity Blocks for ML"; EC2 API, "CapacityReservation".
"""

from dataclasses import dataclass

#: States in which a reservation may still begin. `active` is usable; in all other states it is over or has failed.
FUTURE = frozenset({"assessing", "delayed", "payment-pending", "pending", "scheduled"})
#: EC2 ends the machines of a Capacity Block from this many seconds before the block's end (EC2 User Guide, "Capacity
#: Blocks for ML").
ENDS_EARLY = 1800.0


@dataclass(frozen=True)
class Reservation:
    """A capacity reservation as EC2 describes it."""

    id: str
    instance_type: str
    zone: str
    #: EC2's word, such as `active` or `expired`.
    state: str
    #: Number of machines that it has room for, and number of further machines that can be launched into it now.
    total: int
    available: int
    #: Whether it is a Capacity Block.
    block: bool = False
    starts_at: float | None = None
    #: None if it lasts until somebody cancels it.
    ends_at: float | None = None
    platform: str = "Linux/UNIX"
    tenancy: str = "default"
    #: Whether its owner may take the capacity back at any time.
    interruptible: bool = False
    #: The ARN of the cluster placement group that it was made in, or "".
    placement_group: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended or has failed, and can never be used again."""
        return self.state not in ("active", *FUTURE)

    def __str__(self) -> str:
        return f"the {'Capacity Block' if self.block else 'reservation'} {self.id}"
