"""Machines as the cloud lists them.

Times are Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.cloud.offers import Offer
from provisioner.core.cloud.tags import LAUNCH_TAG, lifetime_of


class MachineState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


#: The states of a machine that is no longer billed and cannot run again (EC2 User Guide, "Instance lifecycle").
ENDING = frozenset({MachineState.SHUTTING_DOWN, MachineState.TERMINATED})


class Ending(StrEnum):
    """The cause of a machine's end, as the cloud reports it."""

    #: The machine powered itself off, or an authorized user ended it: no fault of the cloud.
    ASKED = "asked"
    INTERRUPTED = "interrupted"
    NO_CAPACITY = "no capacity"
    #: The machine can never start unchanged, for example because the key of its disk is denied.
    MISCONFIGURED = "misconfigured"
    FAULT = "fault"


@dataclass(frozen=True)
class Machine:
    """An instance as the cloud describes it."""

    id: str
    state: MachineState
    offer: Offer
    launch_time: float
    tags: Mapping[str, str]
    #: EC2's reasons for its state: the code of StateReason; and the message of StateReason with StateTransitionReason.
    reason_code: str = ""
    reason: str = ""
    #: The meaning of `reason_code`; None while the machine is alive.
    ending: Ending | None = None
    address: str = ""
    #: Empty if its subnet assigns no public address.
    public_address: str = ""
    #: The id of its machine image.
    image: str = ""
    #: When it entered its state, in whole seconds; None if the cloud does not report it.
    transition_at: float | None = None
    #: The id of the capacity reservation that it uses, or "".
    reservation: str = ""

    @property
    def launch(self) -> str:
        return self.tags.get(LAUNCH_TAG, "")

    @property
    def lifetime(self) -> float | None:
        """Seconds that the machine may exist, from its launch time; None if the tag is missing or not a number."""
        return lifetime_of(self.tags)


@dataclass(frozen=True)
class Listing:
    """A complete listing of machines: an incomplete one is an error, not a Listing."""

    #: The time by the cloud's clock: the Date header of the (last) answer.
    at: float
    machines: tuple[Machine, ...]
