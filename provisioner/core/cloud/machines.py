"""Machines as the cloud lists them.

Times are Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.cloud.offers import Offer
from provisioner.core.cloud.tags import LAUNCH_TAG, LIFETIME_TAG


class MachineState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


#: No more billing and no way back (EC2 User Guide, "Instance lifecycle").
ENDING = frozenset({MachineState.SHUTTING_DOWN, MachineState.TERMINATED})


class Ending(StrEnum):
    """What ended a machine, in the cloud's own account of it."""

    #: The machine itself, or a user with the right to, ended it: no sign of a fault of the cloud.
    ASKED = "asked"
    INTERRUPTED = "interrupted"
    NO_CAPACITY = "no capacity"
    #: It will never start as it is, a denied disk key for one.
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
    #: StateReason's code and message, and StateTransitionReason: why it is in this state.
    reason_code: str = ""
    reason: str = ""
    #: What `reason_code` means; None while it lives.
    ending: Ending | None = None
    address: str = ""
    #: Empty where its subnet gives none.
    public_address: str = ""
    #: The machine image that it runs from.
    image: str = ""
    #: When it came into its state, where the cloud dates that: whole seconds.
    transition_at: float | None = None

    @property
    def launch(self) -> str:
        return self.tags.get(LAUNCH_TAG, "")

    @property
    def lifetime(self) -> float | None:
        """Seconds it may live from its launch time; None when the tag is missing or no number."""
        text = self.tags.get(LIFETIME_TAG, "")
        return float(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True)
class Listing:
    """Every machine of the installation, whole: a partial listing is an error, not a Listing."""

    #: The cloud's own clock: the Date header of the (last) answer.
    at: float
    machines: tuple[Machine, ...]
