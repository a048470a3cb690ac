"""The account's capacity reservations, and whether a machine fits into one; pure, like the model.

Error codes: karpenter#8326 and terraform-provider-aws#32458 (ReservationCapacityExceeded, also if the type differs);
EC2 User Guide, "Tutorial: Configure your EC2 Fleet to launch instances into Capacity Blocks" (a block that is full or
has not begun is insufficient capacity). That an unknown id is InvalidCapacityReservationId.NotFound is assumed.
"""

from collections.abc import Collection, Iterable, Sequence

from provisioner.core.cloud.offers import Offer
from provisioner.core.cloud.reserved.reservations import ENDS_EARLY
from provisioner.rehearsal.aws.refused import Refused
from provisioner.rehearsal.ec2.conditions import Reserved
from provisioner.rehearsal.ec2.instance import Content, Instance

_EXCEEDED = (
    "ReservationCapacityExceeded",
    "The requested reservation does not have sufficient compatible and available capacity for this request.",
)
_INSUFFICIENT = (
    "InsufficientInstanceCapacity",
    "The requested Capacity Block does not have sufficient capacity for this request.",
)
#: Assumed: AWS does not document the StateReason of a machine whose Capacity Block ends.
BLOCK_ENDED = "Server.ScheduledStop", "Stopped due to the end of the Capacity Block"


class Reservations:
    """The reservations of one region; the times of the rules count from `began`."""

    def __init__(self, rules: Sequence[Reserved], began: float) -> None:
        self._rules, self.began = {rule.id: rule for rule in rules}, began

    def shown(self, ids: Collection[str] = ()) -> list[Reserved]:
        """Return all reservations, or those with `ids`; raises Refused for an unknown id."""
        return [self._known(id) for id in ids] if ids else list(self._rules.values())

    def state(self, rule: Reserved, now: float) -> str:
        if now < self.began + rule.at:
            return "scheduled"
        return "active" if rule.ends is None or now < self.began + rule.ends else "expired"

    def available(self, rule: Reserved, machines: Iterable[Instance], now: float) -> int:
        """Return how many further machines fit; `machines` have not terminated, so they still use their slot."""
        used = sum(one.reservation == rule.id for one in machines)
        return max(0, rule.machines - used) if self.state(rule, now) == "active" else 0

    def why_no_machine(
        self, content: Content, offer: Offer, machines: Collection[Instance], now: float, others: int
    ) -> tuple[str, str] | None:
        """Return code and message if one more machine beside `others` does not fit into the template's reservation."""
        if content.reservation not in self._rules:
            return "InvalidCapacityReservationId.NotFound", _unknown(content.reservation)
        rule = self._rules[content.reservation]
        if rule.block is not (content.market == "capacity-block"):
            # Assumed: the code and the message.
            return "InvalidParameterCombination", "The market type and the reservation type do not match"
        full = _INSUFFICIENT if rule.block else _EXCEEDED
        matches = (rule.type, rule.zone) == (offer.instance_type, offer.zone)
        return None if matches and self.available(rule, machines, now) > others else full

    def taken_at(self, content: Content) -> float | None:
        """Return when EC2 ends the machines of the template's Capacity Block; None if it has none, or no end."""
        rule = self._rules.get(content.reservation)
        return self.began + rule.ends - ENDS_EARLY if rule and rule.block and rule.ends is not None else None

    def _known(self, id: str) -> Reserved:
        if id not in self._rules:
            raise Refused("InvalidCapacityReservationId.NotFound", _unknown(id))
        return self._rules[id]


def _unknown(id: str) -> str:
    return f"The Capacity Reservation ID '{id}' does not exist"
